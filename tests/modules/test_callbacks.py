"""The layer table, the pictures and the set of default callbacks."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ModelSummary
from lightning.pytorch.loggers import CSVLogger, Logger

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.modules import (
    LastCheckpoint,
    PictureLogger,
    PredictionWriter,
    RankWatch,
    SparseModelSummary,
    WarmUp,
    best_and_last,
    default_callbacks,
    drawing,
)

Make = Callable[..., Any]
LOGGER_NAME = "lightning.pytorch.utilities.rank_zero"


class Album(Logger):
    """Takes pictures and metrics."""

    name = version = "album"

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[str, torch.Tensor] = {}
        self.metrics: dict[str, float] = {}

    @property
    def experiment(self) -> "Album":
        return self

    def add_image(self, tag: str, picture: torch.Tensor, step: int) -> None:
        self.pictures[tag] = picture

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics |= metrics

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Keep nothing."""


@pytest.fixture
def album() -> Album:
    """A logger that takes pictures."""
    return Album()


def test_the_layer_table_is_printed_once_in_each_stage(
    album: Album, data: Any, make_module: Make, make_trainer: Make, caplog: pytest.LogCaptureFixture
):
    module, summary = make_module(), SparseModelSummary()
    with caplog.at_level(logging.INFO, LOGGER_NAME):
        make_trainer(max_epochs=2, callbacks=[summary], logger=album).fit(module, data)
        assert caplog.text.count("sparse MMAC") == 1
        assert f"{sum(p.numel() for p in module.parameters()):,} trainable" in caplog.text
        make_trainer(callbacks=[summary]).test(module, data)
        make_trainer(callbacks=[summary]).validate(module, data)
    assert caplog.text.count("sparse MMAC") == 3
    assert 0 < album.metrics["sparsity/active_share/layers.0"] <= 1
    assert album.metrics["sparsity/ratio"] == pytest.approx(
        album.metrics["sparsity/dense_mmac"] / album.metrics["sparsity/sparse_mmac"]
    )


def test_a_batch_without_sites_is_a_warning(data: Any, make_module: Make, make_trainer: Make):
    data.samples = [(SparseBatch.from_dense(torch.zeros(1, 1, 6, 6)), 0) for _ in range(4)]
    with pytest.warns(UserWarning, match="no site of the first batch is active"):
        make_trainer(callbacks=[SparseModelSummary()]).fit(make_module(), data)


def test_the_layer_table_does_not_change_training(data: Any, make_module: Make, make_trainer: Make):
    weights = []
    for callbacks in ([], [SparseModelSummary(), PictureLogger()]):
        module = make_module(dropout=0.5)
        make_trainer(callbacks=callbacks).fit(module, data)
        weights.append(module.network.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


@pytest.mark.parametrize("matplotlib", [True, False])
def test_pictures_of_samples_confusion_and_mistakes(
    matplotlib: bool,
    album: Album,
    data: Any,
    make_module: Make,
    make_trainer: Make,
    monkeypatch: pytest.MonkeyPatch,
):
    if matplotlib:
        pytest.importorskip("matplotlib", reason="needs the extra 'viz'")
    monkeypatch.setattr(drawing, "has_matplotlib", lambda: matplotlib)
    module, pictures = make_module(), PictureLogger(num_samples=4)
    trainer = make_trainer(callbacks=[pictures], logger=album)
    trainer.fit(module, data)
    trainer.test(module, data)
    names = ["samples", "val_confusion", "val_mistakes", "test_confusion", "test_mistakes"]
    assert list(album.pictures) == [f"pictures/{name}" for name in names]
    for picture in album.pictures.values():
        assert picture.dtype == torch.uint8
        assert picture.shape[0] == 3
        assert picture.float().std() > 1  # something is drawn


def test_the_mistakes_are_the_wrong_predictions_with_the_largest_loss(
    data: Any, make_module: Make, make_trainer: Make
):
    module, pictures = make_module(), PictureLogger(num_samples=3)
    make_trainer(callbacks=[pictures]).test(module, data)
    scored = []
    for number, (sample, target) in enumerate(data.samples):
        with torch.no_grad():
            probabilities = module.predict_step(sample, 0).probabilities[0]
        if int(probabilities.argmax()) != target:
            scored.append((-float(probabilities[target].log()), number))
    worst = [number for _, number in sorted(scored, reverse=True)[:3]]
    kept = sorted(pictures._mistakes, reverse=True)
    assert [-mistake.place for mistake in kept] == worst
    assert [mistake.target for mistake in kept] == [number % 7 for number in worst]


def test_a_logger_that_takes_no_pictures_is_named_once(
    tmp_path: Path,
    data: Any,
    make_module: Make,
    make_trainer: Make,
    caplog: pytest.LogCaptureFixture,
):
    trainer = make_trainer(callbacks=[PictureLogger()], logger=CSVLogger(tmp_path))
    with caplog.at_level(logging.INFO, LOGGER_NAME):
        trainer.fit(make_module(), data)
    assert caplog.text.count("pictures: CSVLogger takes none") == 1


def test_samples_are_drawn_with_ink_active_sites_and_ground():
    field, mask = torch.zeros(2, 1, 200, 100), torch.zeros(2, 200, 100, dtype=torch.bool)
    mask[1, 3:5, 7] = True
    field[1, 0, 3, 7] = 2.0
    empty, drawn = drawing.draw_samples(SparseBatch.from_dense(field, mask=mask), [0, 1])
    assert empty.shape == (3, 200, 100)
    assert bool((empty == 255).all())
    assert drawn[:, 3, 7].tolist() == [0, 0, 0]
    assert tuple(drawn[:, 4, 7].tolist()) == drawing.ACTIVE
    assert int((drawn != 255).any(0).sum()) == 2


def test_colours_are_drawn_between_chequers():
    field, mask = torch.zeros(1, 4, 100, 100), torch.zeros(1, 100, 100, dtype=torch.bool)
    mask[0, 3:5, 7] = True
    field[0, :, 3, 7] = torch.tensor([2.0, -1.0, 0.0, 9.0])
    (drawn,) = drawing.draw_samples(SparseBatch.from_dense(field, mask=mask), [0], channel=None)
    assert drawn[:, 3, 7].tolist() == [255, 64, 128]
    assert drawn[:, 4, 7].tolist() == [128, 128, 128]
    assert [tuple(drawn[:, 0, n].tolist()) for n in (0, 1, 2)] == [
        drawing.CHEQUERS[0],
        drawing.CHEQUERS[1],
        drawing.CHEQUERS[0],
    ]
    bright = SparseBatch.from_dense(field.abs(), mask=mask)
    (drawn,) = drawing.draw_samples(bright, [0], channel=None)
    assert drawn[:, 3:5, 7].T.tolist() == [[255, 128, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="has 2 channels, and colours are three"):
        drawing.draw_samples(SparseBatch.from_dense(field[:, :2]), [0], channel=None)


@pytest.mark.parametrize("shape", [(100,), (100, 30), (100, 30, 5)])
def test_fields_of_any_dimension_are_drawn(shape: tuple[int, ...]):
    field = torch.zeros(1, 2, *shape)
    field[(0, 1, 9, *[2] * (len(shape) - 1))] = 1.0
    (picture,) = drawing.draw_samples(SparseBatch.from_dense(field), [0], channel=1)
    assert picture.shape == (3, 1, 100) if len(shape) == 1 else (3, 100, 30)
    assert int((picture == 0).all(0).sum()) == 1


def test_large_confusion_matrices_show_the_worst_classes():
    matrix = torch.diag(torch.full((300,), 5))
    matrix[17, 250] = 3
    picture = drawing.draw_confusion(matrix)
    assert picture.shape[0] == 3
    assert max(picture.shape) < 2000


def test_defaults_give_way_to_what_is_configured(tmp_path: Path):
    kinds = [SparseModelSummary, PredictionWriter, RankWatch, WarmUp]
    kinds += [LearningRateMonitor, PictureLogger]
    assert [type(c) for c in default_callbacks()] == [*kinds, ModelCheckpoint, LastCheckpoint]
    own = [ModelCheckpoint(monitor="val/loss"), PredictionWriter("own.csv"), ModelSummary()]
    assert [type(c) for c in default_callbacks(own)] == kinds[2:]
    assert [type(c) for c in default_callbacks(logging=False, checkpointing=False)] == kinds[:4]


def test_the_best_and_the_last_checkpoint_are_kept(
    data: Any, make_module: Make, make_trainer: Make, tmp_path: Path
):
    # The error of 13 samples hardly improves in every one of five epochs.
    best, last = best_and_last()
    trainer = make_trainer(max_epochs=5, callbacks=[best, last], enable_checkpointing=True)
    trainer.fit(make_module(), data)
    assert sorted(file.name for file in Path(trainer.checkpoint_callback.dirpath).iterdir()) == [
        Path(best.best_model_path).name,
        "last.ckpt",
    ]
    assert torch.load(last.best_model_path, weights_only=True)["global_step"] == 20
    logged = trainer.validate(make_module(), data, ckpt_path=best.best_model_path, verbose=False)
    assert logged[0]["val/error"] == pytest.approx(float(best.best_model_score))
