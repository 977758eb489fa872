"""Runs of several processes as a user starts them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

SMALL = [
    *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    *("--trainer.log_every_n_steps", "1", "--model.network.width", "3"),
    *("--data.source.classes", "5", "--data.source.train_writers", "20"),
    *("--data.source.test_writers", "4", "--data.sites_per_batch", "2000"),
]


def newest(folder: Path) -> dict:
    """Read the last checkpoint of the newest run."""
    files = folder.glob("lightning_logs/*/checkpoints/last.ckpt")
    return torch.load(max(files, key=lambda file: file.stat().st_mtime_ns), weights_only=True)


@pytest.fixture
def command(run_python: Callable) -> Callable[..., str]:
    """Run a command of the config ``hanzi_ddp``, made small, in two processes."""

    def run(word: str, *more: str) -> str:
        words = ["--config", "hanzi_ddp", *SMALL, "--trainer.devices", "2", *more]
        result = run_python("-m", "spcnn_lightning", word, *words)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    return run


def test_the_config_for_several_processes_trains_resumes_and_tests(
    command: Callable[..., str], tmp_path: Path
):
    printed = command("fit", "--trainer.max_epochs", "2")
    assert "Starting with 2 processes" in printed
    unbroken = newest(tmp_path)
    averaged, current = unbroken["state_dict"], unbroken["current_model_state"]
    assert any(not averaged[name].equal(current[name]) for name in averaged), "of many steps"
    (schedule,) = unbroken["lr_schedulers"]
    assert schedule["_last_lr"] == pytest.approx([0.002 * 0.8**2])

    command("fit", "--trainer.max_epochs", "1")
    command("fit", "--trainer.max_epochs", "2", "--ckpt_path", "last")
    resumed = newest(tmp_path)
    for part in ("state_dict", "current_model_state"):
        torch.testing.assert_close(resumed[part], unbroken[part], rtol=0, atol=1e-6)
    assert "test/error" in command("test", "--ckpt_path", "last")


SRUN = """
import os, signal, subprocess, sys
tasks = [
    subprocess.Popen(
        [word for word in sys.argv[1:] if not word.startswith(("--kill", "--cpus"))],
        env={**os.environ, "SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NODEID": "0"},
        start_new_session=True,
    )
    for rank in map(str, range(int(os.environ["SLURM_NTASKS"])))
]
# SLURM signals all processes of a step: workers, too.
signal.signal(signal.SIGUSR1, lambda number, _: [os.killpg(task.pid, number) for task in tasks])
sys.exit(max(abs(task.wait()) for task in tasks))
"""


class Slurm:
    """Runs jobs of two tasks on this machine, with what SLURM sets, and keeps what it is asked."""

    def __init__(self, folder: Path, script: Path) -> None:
        self.folder, self.script = folder, script
        programs = {
            "srun": f'exec {sys.executable} {folder}/srun.py "$@"',
            "spcnn": f'exec {sys.executable} -m spcnn_lightning "$@"',
            "scontrol": f'echo "$@" >>{folder}/asked',
        }
        (folder / "srun.py").write_text(SRUN)
        (folder / "bin").mkdir()
        for name, text in programs.items():
            (folder / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
            (folder / "bin" / name).chmod(0o755)

    def start(self, job: str, *words: str) -> subprocess.Popen[bytes]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        with (self.folder / f"{job}.log").open("ab") as log:
            return subprocess.Popen(
                [self.script, "--config", "hanzi_ddp", *SMALL, *words],
                cwd=self.folder,
                env={
                    **os.environ,
                    "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
                    "PYTHONPATH": str(self.script.parent.parent),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                    "SLURM_JOB_ID": job,
                    "SLURM_JOB_NAME": "train",
                    "SLURM_NNODES": "1",
                    **dict.fromkeys(("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"), "2"),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, job: str) -> str:
        return (self.folder / f"{job}.log").read_text()


def test_a_job_of_slurm_that_runs_out_of_time_goes_on_in_its_next_turn(
    tmp_path: Path, repository: Path
):
    slurm = Slurm(tmp_path, repository / "scripts" / "slurm_train.sh")
    words = ["--trainer.max_epochs", "8", "--model.network.dropout", "0.3"]
    words += ["--trainer.callbacks+=LastCheckpoint", "--trainer.callbacks.every_n_steps=2"]
    assert slurm.start("1", *words).wait() == 0, slurm.log("1")

    turn = slurm.start("2", *words)
    while not list(tmp_path.glob("runs/2/lightning_logs/*/checkpoints/last.ckpt")):
        assert turn.poll() is None, slurm.log("2")
        time.sleep(0.02)
    turn.send_signal(signal.SIGUSR1)
    assert turn.wait() == 1, slurm.log("2")
    assert (tmp_path / "asked").read_text() == "requeue 2\n", "once, by one process"
    assert "job 2 is in the queue again" in slurm.log("2")
    unbroken, stopped = newest(tmp_path / "runs" / "1"), newest(tmp_path / "runs" / "2")
    assert 2 <= stopped["global_step"] < unbroken["global_step"]
    assert not list(tmp_path.rglob("hpc_ckpt*")), "Lightning's own, which any fit would take"

    assert slurm.start("2", *words).wait() == 0, slurm.log("2")
    assert "the checkpoint was written by" not in slurm.log("2")
    resumed = newest(tmp_path / "runs" / "2")
    assert resumed["global_step"] == unbroken["global_step"]
    for part in ("state_dict", "current_model_state"):
        torch.testing.assert_close(resumed[part], unbroken[part], rtol=0, atol=1e-6)
