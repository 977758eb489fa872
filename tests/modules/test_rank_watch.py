"""One process that fails ends all, soon, with a message that names it."""

import copy
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spcnn_lightning.modules import RankWatch

SCRIPT = """
import os, signal, sys, time
from datetime import timedelta
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from spcnn_lightning.modules import RankWatch

how, loser = sys.argv[1], int(sys.argv[2])

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
    def training_step(self, batch, batch_idx):
        if batch_idx == 3 and self.global_rank == loser:
            time.sleep(2.5)  # the place is told once in a second
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            if how == "raises":
                raise ValueError("the file x.pot is damaged")
        return self.layer(batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
    def train_dataloader(self):
        short = how == "uneven" and self.global_rank == loser
        return torch.utils.data.DataLoader(torch.randn(20, 3)[: 3 if short else None])

trainer = Trainer(
    accelerator="cpu", devices=3, max_epochs=1, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    strategy=DDPStrategy(timeout=timedelta(seconds=8 if how == "uneven" else 1800)),
    callbacks=[RankWatch(patience=6)],
)
trainer.fit(Module())
print("finished")
"""


def run(folder: Path, how: str, loser: int, port: int) -> tuple[list[int], list[str], float]:
    """Run three processes as a scheduler starts them; return statuses, errors and the time."""
    (folder / "train.py").write_text(SCRIPT)
    files = [(folder / f"errors{rank}").open("w") for rank in range(3)]
    processes = []
    for rank in range(3):
        environment = {
            **os.environ,
            **{name: str(rank) for name in ("RANK", "LOCAL_RANK", "GROUP_RANK")},
            **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "3"),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, "train.py", how, str(loser)],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=files[rank],
            )
        )
    start = time.monotonic()
    try:
        for rank, process in enumerate(processes):
            if how != "stopped" or rank != loser:
                process.wait(timeout=100)
        seconds = time.monotonic() - start
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        for file in files:
            file.close()
    errors = [(folder / f"errors{rank}").read_text() for rank in range(3)]
    return [process.returncode for process in processes], errors, seconds


@pytest.fixture
def port() -> int:
    """A port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "loser", "message"),
    [
        ("killed", 1, r"rank 1 \(process \d+ on \S+\) died in epoch 0, training batch 3"),
        ("killed", 0, r"rank 0 died: its table of signs of life can't be reached"),
        ("stopped", 2, r"rank 2 \(process .*\) gave no sign of life for \d s in epoch 0, tra"),
        ("raises", 1, r"rank 1 \(process .*\) failed: ValueError: the file x.pot is damaged"),
        ("raises", 0, r"rank 0 \(process .*\) failed: ValueError: the file x.pot is damaged"),
        ("uneven", 1, r"rank 0: epoch 0, training batch 3; rank 1: has finished; rank 2: epoch 0"),
    ],
)
def test_all_processes_end_soon_and_name_the_one_that_was_lost(
    how: str, loser: int, message: str, tmp_path: Path, port: int
):
    statuses, errors, seconds = run(tmp_path, how, loser, port)
    assert seconds < 60
    for rank in {0, 1, 2} - {loser}:
        assert statuses[rank] not in (0, -signal.SIGKILL), errors[rank]
        assert re.search(rf"\[rank {rank}\] .*{message}", errors[rank]), errors[rank][-3000:]


@pytest.mark.slow
def test_a_run_without_a_loss_ends_as_ever(tmp_path: Path, port: int):
    statuses, errors, _ = run(tmp_path, "well", 0, port)
    assert statuses == [0, 0, 0]
    assert not [line for text in errors for line in text.splitlines() if line.startswith("[rank ")]


def test_a_copy_watches_nothing_yet():
    """Spawned processes get one, and callbacks that average weights make one."""
    watch = RankWatch(patience=7)
    for copied in (copy.deepcopy(watch), pickle.loads(pickle.dumps(watch))):
        assert copied.patience == 7
        copied.teardown(None, None, "fit")
    with pytest.raises(ValueError, match="patience is 1 seconds"):
        RankWatch(patience=1)
