"""Callback: one process that fails ends all of them, with a message that names it."""

import os
import re
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from spcnn_lightning.modules.signs_of_life import SignsOfLife

_INTERVAL = 1.0
"""Seconds between two signs of life."""

_GRACE = 5.0
"""Seconds for a process to end by itself once another one is lost."""

_CONSEQUENCE = re.compile(r"gloo|nccl|mpi|connection|socket|store|timed? ?out|peer", re.IGNORECASE)


class RankWatch(Callback):
    """Watches that all processes of a run live; does nothing where there is one only.

    A process that fails leaves the others waiting for it, in a collective operation that may give
    up after half an hour only. Here each gives a sign of life every second, from a thread, to a
    table that rank 0 keeps. When one fails or dies, every other one prints which, what it was doing
    and, if it could still say so, why, and ends with an error within a few seconds; or after
    ``patience``, if it was on another machine or hangs as a whole.

    Processes that do not do the same, as with unequal numbers of batches, are alive and wait for
    one another: then the strategy's ``timeout`` ends the run, and a message tells where each is.

    Args:
        patience: Seconds without a sign of life after which a process counts as dead.

    Raises:
        ValueError: If ``patience`` is less than 5 seconds.
    """

    def __init__(self, patience: float = 30.0) -> None:
        if patience < 5:
            raise ValueError(f"patience is {patience} seconds: give at least 5")
        self.patience = patience
        self._signs: SignsOfLife | None = None
        self._ended, self._lost = threading.Event(), threading.Event()
        self._place = "setting up"

    def __getstate__(self) -> dict[str, Any]:
        # Spawned processes are given a copy, and EMAWeightAveraging makes one of everything.
        return {"patience": self.patience}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RankWatch.__init__(self, **state)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Meet the other processes, and start to watch."""
        if trainer.world_size == 1:
            return
        strategy, rank = trainer.strategy, trainer.global_rank
        environment = strategy.cluster_environment  # type: ignore[attr-defined]
        arguments = (rank, trainer.world_size, environment.main_address)
        if rank == 0:
            self._signs = SignsOfLife(*arguments, 0, self.patience)
        port = strategy.broadcast(0 if self._signs is None else self._signs.port)
        if self._signs is None:
            self._signs = SignsOfLife(*arguments, port, self.patience)
        self._signs.give(self._place)
        strategy.barrier("spcnn_rank_watch")
        self._ended, self._lost = threading.Event(), threading.Event()
        watch = (self._signs, self._ended)
        threading.Thread(target=self._watch, args=watch, name="rank-watch", daemon=True).start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the place."""
        self._place = f"epoch {trainer.current_epoch}, training batch {batch_idx}"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the place."""
        self._place = f"the end of epoch {trainer.current_epoch}"

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the place."""
        self._place = f"epoch {trainer.current_epoch}, validation batch {batch_idx}"

    def on_test_batch_start(self, *arguments: Any) -> None:
        """Note the place."""
        self._place = f"test batch {arguments[3]}"

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Tell the others, or find out from them what is behind the error."""
        signs = self._signs
        if signs is None or not isinstance(exception, Exception):
            return  # a wish to stop, which all processes hear: see `LastCheckpoint`
        reason = f"{type(exception).__name__}: {exception}".split("\n")[0]
        with suppress(RuntimeError):
            if not _CONSEQUENCE.search(reason):
                signs.give_failure(reason)
            elif not self._lost.wait(
                3 * _INTERVAL if "timed" in reason.lower() else self.patience + _GRACE
            ):
                _say(signs.rank, f"{reason}; {signs.places()}")
        # The table must not go before the others have read it.
        self._ended.wait(3 * _INTERVAL if signs.rank == 0 else 0)
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take leave of the others."""
        signs = self._stop()
        if signs is None:
            return
        with suppress(RuntimeError):
            signs.take_leave()
            end = time.monotonic() + self.patience
            # Or they would take the end of the table for the death of rank 0.
            while signs.rank == 0 and not signs.everyone_left() and time.monotonic() < end:
                time.sleep(0.05)

    def _stop(self) -> SignsOfLife | None:
        signs, self._signs = self._signs, None
        self._ended.set()
        self._place = "setting up"
        return signs

    def _watch(self, signs: SignsOfLife, ended: threading.Event) -> None:
        lost: str | None = None
        while lost is None and not ended.wait(_INTERVAL):
            try:
                signs.give(self._place)
                lost = signs.lost()
            except RuntimeError:
                lost = "rank 0 died: its table of signs of life can't be reached"
        # Taking leave is no loss.
        if lost is None or ended.is_set():
            return
        _say(signs.rank, f"{lost}; this process was in {self._place} and ends")
        self._lost.set()
        # It may end by the error of a collective operation, or wait in one for long.
        if not ended.wait(_GRACE):
            os._exit(1)


def _say(rank: int, message: str) -> None:
    print(f"[rank {rank}] {message}", file=sys.stderr, flush=True)
