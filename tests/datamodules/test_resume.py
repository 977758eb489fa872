"""A run that is interrupted and resumed sees the batches that an unbroken run sees."""

import hashlib
import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import HandwritingDataModule

EPOCHS, BATCHES = 3, 6
UNBROKEN = [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]

pytestmark = pytest.mark.filterwarnings(
    # Lightning's remarks on the tiny runs below.
    "ignore:.*does not have many workers",
    "ignore:.*log_every_n_steps",
    "ignore:Checkpoint directory .* exists and is not empty",
    "ignore:Be aware that when using `ckpt_path`, callbacks used",
    # torch and Lightning use what they deprecate themselves.
    "ignore:.*LeafSpec",
    "ignore:.*treespec",
)


class Killed(Exception):  # noqa: N818  # not an error: the machine was switched off
    pass


def fingerprint(batch):
    sparse, targets = batch
    parts = (sparse.coords, sparse.features, targets)
    return hashlib.sha1(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


class Recorder(LightningModule):
    def __init__(self, die_after=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(9))
        self.seen, self.die_after = [], die_after

    def training_step(self, batch, batch_idx):
        if len(self.seen) == self.die_after:
            raise Killed
        self.seen.append((fingerprint(batch), (self.trainer.current_epoch, batch_idx)))
        return (batch[0].features @ self.weight).sum()

    def validation_step(self, batch, batch_idx):
        self.log("val/nothing", 0.0, batch_size=len(batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def fit(few_digits, tmp_path):
    """Fit with these settings; return what was seen as (epoch, batch), judged by the batches."""
    known = {}

    def data(workers, **settings):
        settings = {"batch_size": 9, "seed": 3} | settings
        return HandwritingDataModule(few_digits, num_workers=workers, **settings)

    plain = data(0).train_dataloader()
    for epoch in range(EPOCHS):
        plain.set_epoch(epoch)
        known |= {fingerprint(batch): (epoch, place) for place, batch in enumerate(plain)}

    def run(workers=0, resume=None, die_after=None, saver=None, data_settings=None, **trainer):
        model = Recorder(die_after)
        settings = {"max_epochs": EPOCHS, "enable_checkpointing": saver is not None} | trainer
        fitting = Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            callbacks=[saver] if saver else [],
            **settings,
        )
        try:
            fitting.fit(model, data(workers, **(data_settings or {})), ckpt_path=resume)
        except Killed:
            assert die_after is not None
        seen = [known[key] for key, _ in model.seen]
        assert seen == [place for _, place in model.seen], "batches and Lightning's count agree"
        return seen

    return run


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unbroken_run_sees_each_batch_once(fit, workers):
    assert fit(workers) == UNBROKEN


@pytest.mark.parametrize(
    ("workers", "killed_after"), [(0, 1), (0, 3), (0, 6), (0, 8), (0, 17), (2, 3), (2, 8)]
)
def test_a_killed_run_goes_on_with_the_next_batch(fit, tmp_path, workers, killed_after):
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
    before = fit(workers, die_after=killed_after, saver=saver)
    after = fit(workers, resume=str(tmp_path / "last.ckpt"))
    assert before == UNBROKEN[:killed_after]
    assert after == UNBROKEN[killed_after:]


SAVERS = {
    "every step": ({"every_n_train_steps": 1}, {}),
    "at the end of training epochs": ({"save_on_train_epoch_end": True}, {}),
    "after validation": ({"save_on_train_epoch_end": False}, {}),
    "after validation in mid-epoch": (
        {"save_on_train_epoch_end": False},
        {"val_check_interval": 0.5},
    ),
    "every step beside validation in mid-epoch": (
        {"every_n_train_steps": 1},
        {"val_check_interval": 0.5},
    ),
    "every third step": ({"every_n_train_steps": 3}, {"reload_dataloaders_every_n_epochs": 1}),
}


@pytest.mark.parametrize("name", SAVERS)
def test_it_does_not_matter_when_the_checkpoint_was_saved(fit, tmp_path, name):
    saving, trainer = SAVERS[name]
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", **saving)
    assert fit(saver=saver, **trainer) == UNBROKEN
    files = {int(path.stem.removeprefix("step=")): path for path in tmp_path.glob("step=*.ckpt")}
    assert len(files) >= EPOCHS
    for steps, path in list(files.items())[:: max(1, len(files) // 6)]:
        assert fit(resume=str(path), **trainer) == UNBROKEN[steps:], path.name


def test_a_resumed_run_keeps_its_seed(fit, tmp_path):
    """The seed of the process differs in a new process, unless it was set."""
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
    torch.manual_seed(3)
    assert fit(die_after=4, saver=saver, data_settings={"seed": None}) == UNBROKEN[:4]
    torch.manual_seed(99)
    resumed = fit(resume=str(tmp_path / "last.ckpt"), data_settings={"seed": None})
    assert resumed == UNBROKEN[4:]


def test_resuming_in_mid_epoch_with_another_batch_size_is_refused(fit, tmp_path):
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
    fit(die_after=4, saver=saver)
    with pytest.raises(ValueError, match="after 4 batches of an epoch: batch_size was 9, is 10"):
        fit(resume=str(tmp_path / "last.ckpt"), data_settings={"batch_size": 10})


def test_resuming_in_mid_epoch_with_another_kind_of_batches_is_refused(fit, tmp_path):
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
    fit(die_after=4, saver=saver)
    message = "batch_size was 9, is not set; .*sites_per_batch was not set, is 400"
    with pytest.raises(DataError, match=message):
        fit(resume=str(tmp_path / "last.ckpt"), data_settings={"sites_per_batch": 400})


@pytest.mark.parametrize("function", [TrainerFn.FITTING, TrainerFn.TESTING])
def test_resuming_with_another_split_warns(few_digits, function):
    first = HandwritingDataModule(few_digits, split_seed=1)
    first.setup("fit")
    second = HandwritingDataModule(few_digits, split_seed=8)
    second.trainer = SimpleNamespace(state=SimpleNamespace(fn=function))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        second.load_state_dict(first.state_dict())
    told = [str(w.message) for w in caught]
    assert any("may be among the validation data now" in text for text in told) is (
        function is TrainerFn.FITTING
    )


def test_overfitting_sees_the_same_samples_in_every_epoch(fit, few_digits):
    data = HandwritingDataModule(few_digits, batch_size=9, seed=3, augment=False)
    model = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        max_epochs=2,
        overfit_batches=2,
    )
    trainer.fit(model, data)
    seen = [key for key, _ in model.seen]
    assert len(seen) == 4
    assert seen[:2] == seen[2:]


def test_predicting_and_testing_see_the_official_test_part(fit, few_digits):
    class Reader(LightningModule):
        labels: list

        def test_step(self, batch, batch_idx):
            self.labels += batch[1].tolist()

        def predict_step(self, batch, batch_idx):
            return batch[1]

    model, data = Reader(), HandwritingDataModule(few_digits, batch_size=9)
    model.labels = []
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.test(model, data, verbose=False)
    predicted = torch.cat(trainer.predict(model, data)).tolist()
    assert model.labels == predicted == few_digits.test().labels.tolist()
