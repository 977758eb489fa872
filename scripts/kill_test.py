"""Kills a training run over and over, with SIGKILL at random moments, and looks what is lost.

    python scripts/kill_test.py --kills 20 --processes 2

One run is left alone. Another of the same config, which writes a checkpoint every other step, is
killed with all its processes some random time after it has begun to write checkpoints, and resumed
with `--ckpt_path last`, until it has been killed so often; then it may end. The weights of both
must be equal, no life may begin before the last complete checkpoint, and the shards that they read,
in workers, must not have changed.

In float64, for two unbroken runs may already differ in the last bit, where matrices lie in memory
aligned differently, and float32 makes percents of that in some hundred steps.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from spcnn_lightning.datamodules import PenDigits8, Shards
from spcnn_lightning.datamodules.preparing import prepare

CONFIG = {
    "seed_everything": 1,
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 4,
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
        "limit_val_batches": 2,
        "callbacks": [{"class_path": "LastCheckpoint", "init_args": {"every_n_steps": 2}}],
    },
    "model": {
        "class_path": "in_double.InDouble",
        "init_args": {
            "network": {
                "class_path": "DeepCNet",
                "init_args": {"levels": 3, "width": 16, "dropout": 0.5},
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.002}},
            "lr_scheduler": {
                "class_path": "torch.optim.lr_scheduler.ExponentialLR",
                "init_args": {"gamma": 0.8},
            },
        },
    },
    "data": {
        "class_path": "HandwritingDataModule",
        "init_args": {
            "source": {"class_path": "Shards", "init_args": {"root": "../shards"}},
            "box": 8,
            "batch_size": 100,
            "sites_per_batch": 2500,
            "num_workers": 1,
        },
    },
}


# Not trainer.precision: with 64-true Lightning rounds the weights to float32 when it resumes.
MODULE = """
from spcnn_lightning.modules import SparseClassifier

class InDouble(SparseClassifier):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.double()
"""


def start(folder: Path, processes: int, words: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """Begin or resume the run of a folder, in a process group of its own."""
    more = ["--trainer.devices", str(processes)]
    if processes > 1:
        more += ["--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "spcnn_lightning", "fit", "--config", "run.yaml"]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*command, *more, *words],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "MASTER_PORT": str(random.randint(20000, 50000))},
        )


def newest(folder: Path) -> Path | None:
    files = list(folder.glob("lightning_logs/*/checkpoints/last.ckpt"))
    return max(files, key=lambda file: file.stat().st_mtime_ns, default=None)


def state(folder: Path) -> dict[str, object]:
    """Read the checkpoint; it must be complete."""
    path = newest(folder)
    assert path is not None
    return torch.load(path, weights_only=True)


def live(folder: Path, processes: int, wait: float) -> None:
    """Start or resume, wait for checkpoints to be written, then ``wait``, and kill everything."""
    before = newest(folder)
    stamp = before.stat().st_mtime_ns if before else 0
    process = start(folder, processes, ("--ckpt_path", "last") if before else ())
    while (found := newest(folder)) is None or found.stat().st_mtime_ns == stamp:
        if process.poll() is not None:
            raise SystemExit(f"the run ended by itself, see {folder}/log.txt")
        time.sleep(0.05)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="other moments for another seed")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        folders = Path(place, "unbroken"), Path(place, "killed")
        for folder in folders:
            folder.mkdir()
            (folder / "run.yaml").write_text(yaml.safe_dump(CONFIG))
            (folder / "in_double.py").write_text(MODULE)
        unbroken, killed = folders
        prepare(PenDigits8(), Path(place, "shards"), {})
        assert start(unbroken, arguments.processes).wait() == 0, (unbroken / "log.txt").read_text()
        steps, halves = [0], 0
        for _ in range(arguments.kills):
            live(killed, arguments.processes, moments.uniform(0, 0.6))
            halves += len(list(killed.glob("lightning_logs/*/checkpoints/.*.part")))
            steps.append(state(killed)["global_step"])
            assert steps[-1] > steps[-2], "a life made no progress"
        print(f"killed after steps {steps[1:]}, {halves} times while a checkpoint was written")
        last = start(killed, arguments.processes, ("--ckpt_path", "last")).wait()
        assert last == 0, (killed / "log.txt").read_text()
        one, other = state(unbroken), state(killed)
        assert one["global_step"] == other["global_step"]
        difference = max(
            float((other["state_dict"][name] - weight).abs().max())
            for name, weight in one["state_dict"].items()
        )
        print(
            f"{arguments.processes} processes, {one['global_step']} steps: weights differ from "
            f"those of the unbroken run by at most {difference:.1e}"
        )
        assert difference < 1e-9
        Shards(Path(place, "shards")).train()  # compares the checksums
        print("the shards are as they were")


if __name__ == "__main__":
    main()
