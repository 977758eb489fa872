"""Runs of several processes as a user starts them."""

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
