"""The checkpoint that a run resumes from, also when it was told to stop in mid-epoch."""

import signal
import threading
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from spcnn_lightning.modules.checkpoint_io import write_atomically
from spcnn_lightning.modules.requeueing import requeue, requeue_signal


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``, the newest state of a run.

    It is written after each epoch, every ``every_n_steps`` optimiser steps, and when the run is
    told to stop: on Ctrl-C or SIGTERM the batch at hand is finished and the file written before the
    run ends, so that resuming from it gives the weights of an unbroken run. A second Ctrl-C stops
    at once and writes nothing.

    In a job of SLURM the signal of Lightning's ``SLURMEnvironment``, SIGUSR1, does the same, and
    the job is put into the queue again. Lightning's own handler writes another file, each process
    wherever in a batch it is at that moment.

    All checkpoints of the run are then written by `AtomicCheckpointIO`: none is ever half a file.

    Args:
        every_n_steps: Optimiser steps between two files; a run that is killed loses at most these.
        dirpath: Folder of the file. None: the logger's, as for any `ModelCheckpoint`.
    """

    def __init__(self, every_n_steps: int = 500, dirpath: str | None = None) -> None:
        # Without counting versions: a file of this name is to be replaced.
        super().__init__(dirpath, filename="last", enable_version_counter=False)
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}: it needs at least 1")
        self.every_n_steps = every_n_steps
        self._steps_before = 0
        self._told_to_stop, self._told_to_requeue = False, False
        self._old_handlers: dict[signal.Signals, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the trainer write files in one piece."""
        super().setup(trainer, pl_module, stage)
        write_atomically(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C, SIGTERM and SLURM's signal.

        Lightning's own handler of SIGTERM talks to the other processes from within, and with
        several of them hangs.
        """
        super().on_train_start(trainer, pl_module)
        self._told_to_stop, self._told_to_requeue = False, False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old_handlers[number] = signal.signal(number, self._on_signal)
            if announces := requeue_signal(trainer):
                self._old_handlers[announces] = signal.signal(announces, self._on_requeue)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the number of steps, to know whether this batch made one."""
        self._steps_before = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write the file if it is due, and stop if that was asked for."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        # Between two steps, gradients of an accumulation would be lost.
        if trainer.global_step == self._steps_before:
            return
        # Saving waits for all processes, so all of them decide alike.
        stop = trainer.strategy.reduce_boolean_decision(self._told_to_stop, all=False)
        if stop or trainer.global_step % self.every_n_steps == 0:
            trainer.save_checkpoint(self.path)
        if stop:
            rank_zero_info(
                f"stopped after step {trainer.global_step}, in epoch {trainer.current_epoch}; "
                f"fit with --ckpt_path last goes on from {self.path}"
            )
            if requeue_signal(trainer):
                again = trainer.strategy.reduce_boolean_decision(self._told_to_requeue, all=False)
                if again and trainer.is_global_zero:
                    requeue()
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        super().on_train_end(trainer, pl_module)
        self._give_back()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        super().on_exception(trainer, pl_module, exception)
        self._give_back()

    @property
    def path(self) -> Path:
        """Where the file lies; known once the run has begun."""
        return Path(self.dirpath or ".") / f"{self.filename}{self.FILE_EXTENSION}"

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._told_to_stop:
            raise KeyboardInterrupt
        self._told_to_stop = True
        rank_zero_info("\nstopping after this batch (Ctrl-C once more stops at once)")

    def _on_requeue(self, number: int, frame: Any) -> None:
        self._told_to_stop = self._told_to_requeue = True

    def _give_back(self) -> None:
        while self._old_handlers:
            signal.signal(*self._old_handlers.popitem())
