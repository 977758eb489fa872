"""A run that dies in mid-epoch and resumes ends where an unbroken run ends, to the last bit."""

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO

from spcnn_lightning.datamodules import HandwritingDataModule
from spcnn_lightning.modules import LastCheckpoint, SparseClassifier
from spcnn_lightning.networks import DeepCNet

BATCHES = 4


class Dies(Callback):
    """Stops the run as a power cut would, before a certain step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyError("the machine was switched off")


def run(
    make_trainer: Callable[..., Trainer],
    checkpoint: Path | None = None,
    workers: int = 0,
    **arguments: Any,
) -> SparseClassifier:
    """Train three epochs of handwriting, with augmentation, dropout and a schedule."""
    seed_everything(1)
    data = HandwritingDataModule(box=8, batch_size=6, num_workers=workers)
    module = SparseClassifier(
        DeepCNet(3, 3, data.in_channels, data.num_classes, dropout=0.5),
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5),
    )
    trainer = make_trainer(
        max_epochs=3, limit_train_batches=BATCHES, limit_val_batches=1, **arguments
    )
    trainer.fit(module, data, ckpt_path=checkpoint)
    assert trainer.global_step == 3 * BATCHES
    return module


@pytest.mark.parametrize("step", [BATCHES, BATCHES + 2], ids=["between epochs", "in mid-epoch"])
@pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`, callbacks used",
    "ignore:.*does not have many workers",
)
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    step: int, make_trainer: Callable[..., Trainer], tmp_path: Path
):
    unbroken = run(make_trainer)
    every_step = ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=1)
    with pytest.raises(KeyError, match="switched off"):
        run(make_trainer, callbacks=[Dies(step), every_step], enable_checkpointing=True)
    resumed = run(make_trainer, tmp_path / "last.ckpt")
    torch.testing.assert_close(
        resumed.network.state_dict(), unbroken.network.state_dict(), rtol=0, atol=0
    )


@pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`, callbacks used",
    "ignore:Checkpoint directory .* exists and is not empty",
    "ignore:.*does not have many workers",
)
def test_averaged_weights_go_on_as_well(make_trainer: Callable[..., Trainer], tmp_path: Path):
    unbroken = run(make_trainer, callbacks=[EMAWeightAveraging(decay=0.8)])
    last = LastCheckpoint(every_n_steps=1, dirpath=str(tmp_path))
    callbacks = [Dies(BATCHES + 2), EMAWeightAveraging(decay=0.8), last]
    with pytest.raises(KeyError, match="switched off"):
        run(make_trainer, callbacks=callbacks, enable_checkpointing=True)
    resumed = run(make_trainer, tmp_path / "last.ckpt", callbacks=[EMAWeightAveraging(decay=0.8)])
    torch.testing.assert_close(
        resumed.network.state_dict(), unbroken.network.state_dict(), rtol=0, atol=0
    )
    plain = run(make_trainer).network.state_dict()
    assert any(not plain[key].equal(found) for key, found in resumed.network.state_dict().items())


class DiesInValidation(Dies):
    """The last file is that of the last training step of the epoch."""

    def on_train_batch_start(self, *rest: Any) -> None:
        """Live on."""

    def on_validation_start(self, trainer: Trainer, *rest: Any) -> None:
        super().on_train_batch_start(trainer)


@pytest.mark.parametrize(
    "deaths",
    [
        [DiesInValidation(BATCHES), Dies(BATCHES + 2)],
        [DiesInValidation(BATCHES), DiesInValidation(2 * BATCHES), Dies(2 * BATCHES + 1)],
        [Dies(1), Dies(BATCHES), Dies(BATCHES + 1), DiesInValidation(3 * BATCHES)],
    ],
    ids=lambda deaths: f"{len(deaths)} deaths",
)
@pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`, callbacks used",
    "ignore:Checkpoint directory .* exists and is not empty",
    "ignore:.*does not have many workers",
)
def test_a_run_that_dies_again_and_again_ends_with_the_weights_of_an_unbroken_one(
    deaths: list[Dies], make_trainer: Callable[..., Trainer], tmp_path: Path
):
    unbroken, checkpoint = run(make_trainer), None
    for death in deaths:
        callbacks = [death, LastCheckpoint(every_n_steps=1, dirpath=str(tmp_path))]
        with pytest.raises(KeyError, match="switched off"):
            run(make_trainer, checkpoint, callbacks=callbacks, enable_checkpointing=True)
        checkpoint = tmp_path / "last.ckpt"
        assert torch.load(checkpoint, weights_only=True)["global_step"] == death.step
    resumed = run(make_trainer, checkpoint)
    torch.testing.assert_close(
        resumed.network.state_dict(), unbroken.network.state_dict(), rtol=0, atol=0
    )


class Signals(Callback):
    """Presses a key, or has the machine ask for an end, in the middle of a batch."""

    def __init__(self, step: int, number: int, times: int = 1) -> None:
        self.step, self.number, self.times = step, number, times

    def on_before_zero_grad(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`, callbacks used",
    "ignore:.*does not have many workers",
)
def test_a_run_that_is_told_to_stop_finishes_its_batch_and_can_go_on(
    number: int, make_trainer: Callable[..., Trainer], tmp_path: Path
):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    unbroken = run(make_trainer)
    callbacks = [Signals(BATCHES + 1, number), LastCheckpoint(dirpath=str(tmp_path))]
    with pytest.raises(SystemExit):
        run(make_trainer, callbacks=callbacks, enable_checkpointing=True)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == BATCHES + 2
    resumed = run(make_trainer, tmp_path / "last.ckpt")
    torch.testing.assert_close(
        resumed.network.state_dict(), unbroken.network.state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("array", [False, True], ids=["job", "of an array"])
@pytest.mark.parametrize("status", [0, 1], ids=["", "refused"])
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_job_of_slurm_is_put_into_the_queue_again_after_its_checkpoint(
    array: bool,
    status: int,
    make_trainer: Callable[..., Trainer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    if array:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\ntest -f run/last.ckpt && echo $@ >asked\nexit {status}\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    callbacks = [Signals(3, signal.SIGUSR1), LastCheckpoint(dirpath="run")]
    arguments = {"callbacks": callbacks, "enable_checkpointing": True}
    warning = pytest.warns(UserWarning, match="did not requeue the job, submit it again")
    with warning if status else nullcontext(), pytest.raises(SystemExit):
        run(make_trainer, plugins=[SLURMEnvironment()], **arguments)
    assert (tmp_path / "asked").read_text() == f"requeue {'4700_3' if array else '4711'}\n"
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_pressing_twice_stops_at_once(make_trainer: Callable[..., Trainer], tmp_path: Path):
    callbacks = [Signals(1, signal.SIGINT, times=2), LastCheckpoint(dirpath=str(tmp_path))]
    with pytest.raises(SystemExit):
        run(make_trainer, callbacks=callbacks, enable_checkpointing=True)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_run_that_is_killed_loses_few_steps(make_trainer: Callable[..., Trainer], tmp_path: Path):
    callbacks = [Dies(BATCHES + 3), LastCheckpoint(every_n_steps=2, dirpath=str(tmp_path))]
    with pytest.raises(KeyError, match="switched off"):
        run(make_trainer, callbacks=callbacks, enable_checkpointing=True)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == BATCHES + 2
    assert [file.name for file in tmp_path.glob("*.ckpt")] == ["last.ckpt"]


def test_gradients_that_wait_for_a_step_are_not_lost(
    make_trainer: Callable[..., Trainer], tmp_path: Path
):
    """A file written between two steps of an accumulation would forget half a gradient."""
    saved = []

    class Notes(LastCheckpoint):
        def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
            times = self.path.stat().st_mtime_ns if self.path.exists() else None
            super().on_train_batch_end(trainer, *rest)
            if self.path.exists() and self.path.stat().st_mtime_ns != times:
                saved.append(rest[-1])

    seed_everything(1)
    data = HandwritingDataModule(box=8, batch_size=6)
    network = DeepCNet(3, 3, data.in_channels, data.num_classes)
    module = SparseClassifier(network, partial(torch.optim.SGD, lr=0.1))
    trainer = make_trainer(
        max_epochs=1,
        limit_train_batches=4,
        limit_val_batches=0,
        accumulate_grad_batches=2,
        callbacks=[Notes(every_n_steps=1, dirpath=str(tmp_path))],
        enable_checkpointing=True,
    )
    trainer.fit(module, data)
    assert saved == [1, 3]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_the_same_seed_gives_the_same_losses_with_any_number_of_workers(
    make_trainer: Callable[..., Trainer],
):
    class Losses(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_end(
            self, trainer: Trainer, module: Any, outputs: Any, *rest: Any
        ) -> None:
            self.seen.append(outputs["loss"].item())

    runs = []
    for workers in (0, 0, 2):
        losses = Losses()
        run(make_trainer, workers=workers, callbacks=[losses])
        runs.append(losses.seen)
    assert len(runs[0]) == 3 * BATCHES
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_file_that_is_being_written_when_the_machine_dies_is_never_picked_up(
    make_trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Half of the second file is written: the first stays, and the run resumes from it."""
    save, files = torch.save, []

    def half(checkpoint: Any, file: Any) -> None:
        save(checkpoint, file)
        files.append(file.name)
        if len(files) == 2:
            file.truncate(file.tell() // 2)
            raise KeyError("the machine was switched off")

    unbroken = run(make_trainer)
    callbacks = [LastCheckpoint(every_n_steps=2, dirpath=str(tmp_path))]
    monkeypatch.setattr("spcnn_lightning.modules.checkpoint_io.torch.save", half)
    with pytest.raises(KeyError, match="switched off"):
        run(make_trainer, callbacks=callbacks, enable_checkpointing=True)
    monkeypatch.undo()
    assert {Path(name).parent for name in files} == {tmp_path}, "renamed, not copied"
    assert sorted(file.name for file in tmp_path.iterdir()) == [".last.part", "last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    callbacks = [LastCheckpoint(every_n_steps=2, dirpath=str(tmp_path))]
    resumed = run(
        make_trainer, tmp_path / "last.ckpt", callbacks=callbacks, enable_checkpointing=True
    )
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    torch.testing.assert_close(
        resumed.network.state_dict(), unbroken.network.state_dict(), rtol=0, atol=0
    )


def test_another_way_of_writing_checkpoints_is_kept(
    make_trainer: Callable[..., Trainer], tmp_path: Path
):
    class Theirs(TorchCheckpointIO):
        pass

    theirs = Theirs()
    last = LastCheckpoint(dirpath=str(tmp_path))
    trainer = make_trainer(plugins=[theirs], callbacks=[last], enable_checkpointing=True)
    last.setup(trainer, SparseClassifier(DeepCNet(1, 1, 1, 2), torch.optim.SGD), "fit")
    assert trainer.strategy.checkpoint_io is theirs
