"""SparseClassifier: what it logs, keeps, prints and refuses."""

import logging
import threading
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from spcnn_lightning.core.collate import collate
from spcnn_lightning.modules import NonFiniteLossError, SparseClassifier, SparseModelSummary
from spcnn_lightning.nn import FeatureDropout

Make = Callable[..., Any]


class Losses(Callback):
    """Keeps the loss of each training batch."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *rest: Any) -> None:
        self.values.append(float(outputs["loss"]))


def test_metrics_are_those_of_all_scores_at_once(data: Any, make_module: Make, make_trainer: Make):
    module = make_module()
    logged = make_trainer().test(module, data, verbose=False)[0]

    batch, target = collate(data.samples)
    with torch.no_grad():
        scores = module.eval()(batch)
    wrong = (scores.argmax(1) != target).double().mean()
    top5 = (scores.topk(5).indices == target[:, None]).any(1).double().mean()
    expected = {
        "test/loss": float(nn.functional.cross_entropy(scores, target)),
        "test/accuracy": float(1 - wrong),
        "test/error": float(100 * wrong),
        "test/top5_accuracy": float(top5),
    }
    assert logged == pytest.approx(expected, rel=1e-6)
    counts = torch.zeros(7, 7, dtype=torch.int64)
    counts.index_put_((target, scores.argmax(1)), torch.tensor(1), accumulate=True)
    torch.testing.assert_close(module.confusion_matrix("test"), counts)


def test_a_second_epoch_does_not_remember_the_first(
    data: Any, make_module: Make, make_trainer: Make
):
    module = make_module()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, data)
    assert int(module.confusion_matrix("val").sum()) == len(data.samples)
    fitted = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert {"train/loss", "train/error", "val/loss", "val/accuracy", "val/error"} <= set(fitted)
    again = make_trainer().validate(module, data, verbose=False)[0]
    assert again == pytest.approx({name: fitted[name] for name in again})


@pytest.mark.parametrize(("num_classes", "expected"), [(5, False), (6, True)])
def test_top5_is_logged_with_more_than_five_classes_only(
    num_classes: int, expected: bool, make_data: Make, make_module: Make, make_trainer: Make
):
    module, data = make_module(num_classes), make_data(num_classes)
    logged = make_trainer().test(module, data, verbose=False)[0]
    assert ("test/top5_accuracy" in logged) is expected


def test_every_value_is_logged_with_the_number_of_targets(
    data: Any, make_module: Make, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
):
    sizes = []
    log = SparseClassifier.log

    def spy(self: SparseClassifier, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        sizes.append(kwargs["batch_size"])
        log(self, name, value, *args, **kwargs)

    monkeypatch.setattr(SparseClassifier, "log", spy)
    make_trainer().fit(make_module(), data)
    assert set(sizes) == {4, 1}  # 13 samples in batches of 4


def test_the_same_seed_gives_the_same_losses(data: Any, make_module: Make, make_trainer: Make):
    runs = []
    for _ in range(2):
        losses = Losses()
        make_trainer(max_epochs=2, callbacks=[losses]).fit(make_module(dropout=0.5), data)
        runs.append(losses.values)
    assert runs[0] == runs[1]


def test_dropout_follows_the_optimiser_step_and_the_checkpoint(
    data: Any, make_module: Make, make_trainer: Make, tmp_path: Any
):
    module = make_module(dropout=0.5)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, data)
    layers = [layer for layer in module.network.modules() if isinstance(layer, FeatureDropout)]
    # Set to 7 for the last of 8 batches, and moved on by the training pass.
    assert layers
    assert {layer.step for layer in layers if layer.p > 0} == {8}
    assert {layer.seed for layer in layers} == {module.dropout_seed}
    trainer.save_checkpoint(tmp_path / "a.ckpt")

    torch.manual_seed(99)
    resumed = make_module(dropout=0.5)
    torch.manual_seed(99)
    make_trainer(max_epochs=3).fit(resumed, data, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.dropout_seed == module.dropout_seed


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    data: Any, make_module: Make, make_trainer: Make, tmp_path: Any
):
    schedule = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    make = partial(make_module, dropout=0.5, lr_scheduler=schedule, warmup_steps=10)
    unbroken = make()
    make_trainer(max_epochs=3).fit(unbroken, data)

    first = make()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(first, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = make()
    make_trainer(max_epochs=3).fit(resumed, data, ckpt_path=tmp_path / "a.ckpt")

    torch.testing.assert_close(
        resumed.network.state_dict(), unbroken.network.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize(("interval", "steps"), [("epoch", 2), ("step", 8)])
def test_the_schedule_moves_on_after_each_interval(
    interval: str, steps: int, data: Any, make_module: Make, make_trainer: Make
):
    schedule = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(make_module(lr_scheduler=schedule, interval=interval), data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**steps)


def test_the_learning_rate_warms_up_and_the_schedule_keeps_its_own(
    data: Any, make_module: Make, make_trainer: Make
):
    taken: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            taken.append(self.param_groups[0]["lr"])
            return super().step(closure)

    module = make_module(
        optimizer=partial(Watched, lr=0.1),
        lr_scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5),
        warmup_steps=6,
    )
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, data)
    # Four batches an epoch: the schedule halves the rate after the fourth.
    expected = [0.1 * step / 6 for step in (1, 2, 3, 4)]
    expected += [0.05 * share for share in (5 / 6, 1, 1, 1)]
    assert taken == pytest.approx(expected)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.025)


def test_a_loss_that_is_not_finite_stops_training(data: Any, make_module: Make, make_trainer: Make):
    module = make_module()
    with torch.no_grad():
        module.network.classifier.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"train/loss is nan in epoch 0, batch 0 .*step 0"):
        make_trainer().fit(module, data)
    with pytest.raises(NonFiniteLossError, match="test/loss is nan"):
        make_trainer().test(module, data)


def test_a_checkpoint_names_no_backend(
    data: Any, make_module: Make, make_trainer: Make, tmp_path: Any
):
    module = make_module(lr_scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9))
    trainer = make_trainer()
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert "backend" not in repr(checkpoint)
    assert "hyper_parameters" not in checkpoint
    assert not [name for name in checkpoint["state_dict"] if not name.startswith("network.")]
    loaded = SparseClassifier.load_from_checkpoint(
        tmp_path / "a.ckpt", network=make_module().network, optimizer=torch.optim.SGD
    )
    torch.testing.assert_close(loaded.network.state_dict(), module.network.state_dict())


def test_the_engine_that_ran_stands_with_the_results(
    data: Any, make_module: Make, make_trainer: Make, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    module = make_module()
    make_trainer().fit(module, data)
    assert caplog.messages.count("backend: torch (auto)") == 1
    module.network.backend = "torch"
    for run in ("validate", "test", "predict"):
        caplog.clear()
        getattr(make_trainer(), run)(module, data)
        assert caplog.messages.count("backend: torch") == 1


def test_autocast_decides_on_the_engine_that_is_named(
    data: Any, make_module: Make, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
):
    """The layer table runs the network outside of autocast, and first."""
    seen = []
    monkeypatch.setattr(
        "spcnn_lightning.modules.classifier.describe_engines",
        lambda network: seen.append(torch.is_autocast_enabled("cpu")) or "some",
    )
    arguments = {"precision": "bf16-mixed", "callbacks": [SparseModelSummary()]}
    make_trainer(max_steps=1, **arguments).fit(make_module(), data)
    assert seen
    assert all(seen)


def test_predictions_are_probabilities(data: Any, make_module: Make, make_trainer: Make):
    module = make_module()
    first = make_trainer().predict(module, data)[0]
    torch.testing.assert_close(first.probabilities.sum(1), torch.ones(4))
    torch.testing.assert_close(first.predicted, first.probabilities.argmax(1))
    assert first.target.tolist() == [0, 1, 2, 3]
    assert module.predict_step(data.samples[0][0], 0).target is None


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_runs_in_another_precision(
    precision: str, data: Any, make_module: Make, make_trainer: Make
):
    make_trainer(precision=precision, max_steps=1).fit(make_module(), data)


def test_number_of_classes_comes_from_the_network_or_the_caller(make_module: Make):
    module = make_module()
    assert module.num_classes == 7
    with pytest.raises(ValueError, match="num_classes is 8, but DeepCNet has 7 classes"):
        SparseClassifier(module.network, torch.optim.SGD, num_classes=8)
    with pytest.raises(ValueError, match="Linear has no attribute num_classes: pass num_classes"):
        SparseClassifier(nn.Linear(1, 1), torch.optim.SGD)


def test_a_copy_has_its_own_weights_and_the_callables_of_the_original(make_module: Make):
    """Callbacks that average weights make one; what the command line hands over can't be copied."""
    make_optimizer = partial(torch.optim.SGD, threading.Lock())
    module = make_module(optimizer=make_optimizer, dropout=0.5)
    twin = deepcopy(module)
    assert twin.optimizer is make_optimizer
    torch.testing.assert_close(twin.state_dict(), module.state_dict())
    owned = {id(part) for part in (*module.modules(), *module.parameters(), module._mean)}
    assert not owned & {id(part) for part in (*twin.modules(), *twin.parameters(), twin._mean)}
