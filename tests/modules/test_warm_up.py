"""An engine that is slow at its first use, in one process, does not end a run."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed, nn

from spcnn_lightning.modules import WarmUp
from spcnn_lightning.nn import BatchNorm

Make = Callable[..., Any]
LIMIT = 4  # seconds that a collective operation may take

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*use of fork.* may lead to deadlocks"),
]


class Compiles(nn.Module):
    """Takes long at its first use in the second process."""

    compiled = False

    def forward(self, batch: Any) -> Any:
        if distributed.is_initialized() and distributed.get_rank() == 1 and not self.compiled:
            time.sleep(2 * LIMIT)
        self.compiled = True
        return batch


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_slow_first_use_in_one_process_ends_a_run_that_was_not_warmed_up(
    warm: bool, data: Any, make_module: Make, make_trainer: Make
):
    module = make_module()
    module.network.layers.insert(0, Compiles())
    limit = timedelta(seconds=LIMIT)
    trainer = make_trainer(
        devices=2,
        strategy=DDPStrategy(timeout=limit, start_method="fork", process_group_backend="gloo"),
        callbacks=[WarmUp()] if warm else [],
    )
    if warm:
        trainer.fit(module, data)
        assert "val/error" in trainer.callback_metrics, "the run came to its end"
    else:
        with pytest.raises(Exception, match="(?i)timed? ?out"):
            trainer.fit(module, data)


class Looks(Callback):
    """Compares what it finds the second time with the first time."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        found = [value.clone() for value in module.state_dict().values()]
        self.seen.append([*found, torch.get_rng_state()])
        assert all(weight.grad is None for weight in module.parameters())
        assert all(part.training for part in module.modules())
        assert module.network.layers[1].uses == len(self.seen) - 1
        if len(self.seen) == 2:
            torch.testing.assert_close(*self.seen, rtol=0, atol=0)


class CountingNorm(BatchNorm):
    uses = 0

    def forward(self, batch: Any) -> Any:
        self.uses += 1
        return super().forward(batch)


def test_nothing_of_it_remains(data: Any, make_module: Make, make_trainer: Make):
    module = make_module(dropout=0.5)
    module.network.layers.insert(1, CountingNorm(module.network.layers[0].out_channels))
    looks = Looks()
    callbacks = [looks, WarmUp(), looks]
    trainer = make_trainer(devices=2, strategy="ddp_fork", callbacks=callbacks, max_steps=1)
    trainer.fit(module, data)
    assert "train/loss" in trainer.callback_metrics
    with pytest.raises(ValueError, match="patience is 0 seconds"):
        WarmUp(0)
