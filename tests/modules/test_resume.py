"""A run that dies in mid-epoch and resumes ends where an unbroken run ends, to the last bit."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from spcnn_lightning.datamodules import HandwritingDataModule
from spcnn_lightning.modules import SparseClassifier
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
    make_trainer: Callable[..., Trainer], checkpoint: Path | None = None, **arguments: Any
) -> SparseClassifier:
    """Train three epochs of handwriting, with augmentation, dropout and a schedule."""
    seed_everything(1)
    data = HandwritingDataModule(box=8, batch_size=6)
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
