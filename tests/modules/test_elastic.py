"""A run goes on with another number of processes where it stopped."""

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from spcnn_lightning.datamodules import Characters, HandwritingDataModule, PenDigits8, Subset
from spcnn_lightning.modules import LastCheckpoint, SparseClassifier
from spcnn_lightning.networks import DeepCNet

SAMPLES = 48

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*use of fork.* may lead to deadlocks"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
]


class Few(PenDigits8):
    """48 characters, no two alike."""

    def characters(self, part: str) -> Characters:
        return Subset(super().characters(part), np.arange(SAMPLES))


class Diary(Callback):
    """Writes down each sample that was trained on, and dies after some steps."""

    def __init__(self, folder: Path, die_after: int | None = None) -> None:
        self.folder, self.die_after = folder, die_after

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        sparse, _ = batch
        with (self.folder / f"seen{trainer.global_rank}").open("a") as file:
            for number in range(sparse.batch_size):
                sites = sparse.coords[sparse.coords[:, 0] == number, 1:]
                name = hashlib.sha1(sites.numpy().tobytes()).hexdigest()
                file.write(f"{trainer.current_epoch} {name}\n")

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == self.die_after:
            raise KeyError("the machine was switched off")


@pytest.fixture
def fit(make_trainer: Callable[..., Trainer], tmp_path: Path) -> Callable[..., None]:
    """Train two epochs, or what is left of them."""

    def run(number: int, resume: bool = False, die_after: int | None = None, **data: Any) -> None:
        module = SparseClassifier(DeepCNet(3, 3, 9, 10), partial(torch.optim.SGD, lr=0.1))
        trainer = make_trainer(
            devices=number,
            strategy="ddp_fork" if number > 1 else "auto",
            max_epochs=2,
            callbacks=[LastCheckpoint(1, str(tmp_path)), Diary(tmp_path, die_after)],
            enable_checkpointing=True,
        )
        settings = {"batch_size": 4, "augment": False, "seed": 1, "train_on_all": True, "box": 8}
        trainer.fit(
            module,
            HandwritingDataModule(Few(), **(settings | data)),
            ckpt_path=tmp_path / "last.ckpt" if resume else None,
        )

    return run


def seen(folder: Path) -> dict[str, list[str]]:
    """Return the samples of each epoch, by all processes."""
    lines = [line.split() for path in folder.glob("seen*") for line in path.read_text().split("\n")]
    return {epoch: sorted(n for e, n in filter(None, lines) if e == epoch) for epoch in ("0", "1")}


# Steps of 8 samples on two processes, of 4 on one: after 2 and 4 steps 16 of 48 samples are done.
@pytest.mark.parametrize(
    ("before", "after", "steps"), [(2, 1, 2), (1, 2, 4), (2, 1, 8), (1, 2, 12)]
)
@pytest.mark.filterwarnings("ignore:the checkpoint was written by")
def test_each_sample_comes_once_in_an_epoch_that_other_processes_finish(
    before: int, after: int, steps: int, fit: Callable[..., None], tmp_path: Path
):
    with pytest.raises(Exception, match="switched off"):
        fit(before, die_after=steps)
    message = f"was written by {before} processes and is resumed by {after}"
    # Processes of their own warn on their own.
    with pytest.warns(UserWarning, match=message) if after == 1 else nullcontext():
        fit(after, resume=True)
    first = seen(tmp_path)["0"]
    assert len(first) == len(set(first)) == SAMPLES
    assert seen(tmp_path)["1"] == first
