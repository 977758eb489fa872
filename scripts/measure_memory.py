"""Resident memory of training from 901,200 prepared characters against 1,000, process by process.

    python scripts/measure_memory.py FOLDER
    python scripts/measure_memory.py FOLDER --workers 2 --batches 1000

FOLDER keeps the simulated characters, 1.2 GB, for the next time. Each line is the main process of
one training in random order of a small network, the same for both sizes: its peak (VmHWM), and the
largest anonymous and file-backed parts seen every 10 ms. File-backed pages are those of the memory
map and of libraries; the system takes them back when it needs memory. Lines with "whole map" have
read every byte of the training part besides, more than any training can. Linux only.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from trained import train

from spcnn_lightning.datamodules import SimulatedHanzi, StrokeSet
from spcnn_lightning.datamodules.characters import Characters, Subset
from spcnn_lightning.datamodules.manifest import FIELDS
from spcnn_lightning.datamodules.preparing import prepare

FIGURES = {"VmHWM": "peak", "RssAnon": "anonymous", "RssFile": "file-backed"}
STATUS = Path("/proc/self/status")
SIZES = (901_200, 1_000)
LIMIT_MIB = 1536
MIB = 1024


class SpreadHanzi(SimulatedHanzi):
    """Some characters of simulated handwriting, with all its classes and writers."""

    def train(self) -> StrokeSet:
        everything = self.characters("train")
        return everything.select(np.linspace(0, len(everything) - 1, SIZES[1]).astype(np.int64))

    def pieces(self, part: str):
        """Return one piece, as small sources do."""
        return super(SimulatedHanzi, self).pieces(part)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, default=300, help="of 100 characters")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--process", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.process:
        print(json.dumps(run(asked.folder, asked.batches, **asked.process)))
        return
    for size, source in zip(SIZES, (SimulatedHanzi, SpreadHanzi), strict=True):
        if not (asked.folder / str(size)).exists():
            print(f"preparing {size:,} characters", flush=True)
            made = source(test_writers=1)
            prepare(made, asked.folder / str(size), {"class": source.__name__})
    print(f"{'MiB in the main process':36}" + "".join(f"{n:>12}" for n in FIGURES.values()))
    for workers in asked.workers:
        for whole_map in (False, True):
            compare(asked, workers, whole_map)


def compare(asked: argparse.Namespace, workers: int, whole_map: bool) -> None:
    """Measure both sizes, each in a process of its own, and print them and their difference."""
    found = []
    for size in SIZES:
        setting = json.dumps({"size": size, "workers": workers, "whole_map": whole_map})
        words = [str(asked.folder), f"--batches={asked.batches}", f"--process={setting}"]
        done = subprocess.run(
            [sys.executable, __file__, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{setting} failed:\n{done.stderr}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
        what = f"{size:,}, {workers} workers{', whole map' if whole_map else ''}"
        print(f"{what:36}" + "".join(f"{found[-1][name]:12,.0f}" for name in FIGURES), flush=True)
    more = {name: found[0][name] - found[1][name] for name in FIGURES}
    verdict = "within" if more["VmHWM"] <= LIMIT_MIB else "BEYOND"
    print(f"{'  difference':36}" + "".join(f"{n:12,.0f}" for n in more.values()), end="")
    print(f"   {verdict} {LIMIT_MIB} MiB", flush=True)


def run(folder: Path, batches: int, size: int, workers: int, whole_map: bool) -> dict[str, float]:
    """Train in this process and return its figures in MiB."""
    root = folder / str(size)
    gauge = Gauge()
    with tempfile.TemporaryDirectory() as logs:
        trained = train("hanzi_deepcnet", overrides(root, batches, workers), Path(logs))
    if trained.module.global_step != batches:
        raise SystemExit(f"trained {trained.module.global_step} steps instead of {batches}")
    if whole_map:
        read_all(trained.data._parts["train"])
    return gauge.stop()


def overrides(root: Path, batches: int, workers: int) -> Sequence[str]:
    """Return the options of a small network on the characters of ``root``."""
    return [
        "--data.source=Shards",
        f"--data.source.root={root}",
        "--data.box=8",
        f"--data.num_workers={workers}",
        "--model.network.levels=3",
        "--model.network.width=8",
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=-1",
        f"--trainer.max_steps={batches}",
        "--trainer.limit_val_batches=2",
    ]


def read_all(part: Characters) -> None:
    """Touch every page of a part's memory map."""
    assert isinstance(part, Subset)
    strokes = part.characters
    for name in FIELDS:
        if (array := getattr(strokes, name)) is not None:
            array.max()


class Gauge(threading.Thread):
    """Follows the memory of this process; the kernel keeps the peak of the whole alone."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = dict.fromkeys(FIGURES, 0.0)
        self.stopped = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.stopped.wait(0.01):
            self.look()

    def look(self) -> None:
        text = STATUS.read_text(encoding="ascii")
        for name in FIGURES:
            value = int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) / MIB
            self.largest[name] = max(self.largest[name], value)

    def stop(self) -> dict[str, float]:
        """Return the largest values in MiB."""
        self.stopped.set()
        self.join()
        self.look()
        return self.largest


if __name__ == "__main__":
    main()
