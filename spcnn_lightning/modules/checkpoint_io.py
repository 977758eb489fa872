"""Writes checkpoint files that are complete or not there, whatever ends the process meanwhile."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to the disk and renames it.

    A process that is killed, or a machine that loses power, leaves the old file or the new one,
    never a half of one; what it had begun is a file ``.<name>.part``, which nothing reads and the
    next checkpoint replaces. Lightning's own class writes to the system's temporary folder, from
    where the file is copied, not renamed, if that is another file system. Addresses of other than
    local files are left to it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Lightning takes any file with "ckpt_" in its name for one of a requeued SLURM job.
        part = target.with_name(f".{target.stem.replace('_', '-')}.part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
        _sync_folder(target.parent)


def write_atomically(trainer: Trainer) -> None:
    """Let a trainer that writes checkpoints as Lightning does write them by `AtomicCheckpointIO`.

    One that was given another way of writing keeps it.
    """
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


def _sync_folder(folder: Path) -> None:
    """Make a renaming outlast a loss of power, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
