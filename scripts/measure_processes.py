"""Several processes against one with as many threads: training samples a second, in turns.

    python scripts/measure_processes.py --config hanzi_deepcnet --processes 2 --batch-size 64
    python scripts/measure_processes.py --config casia_deepcnet --data.source.root FOLDER

Both train by `spcnn fit` with the same batch for all processes together and one core for each
process or thread; data are loaded within the processes. Steps are timed on rank 0 once the first
few are over. Options that are not known here are those of ``spcnn fit``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

FIRST = 10
"""Steps before the clock starts."""
MARK = "seconds for the steps:"


class Clock(Callback):
    """Prints how long the steps after the first few took."""

    def __init__(self) -> None:
        self.start = 0.0

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *rest: Any) -> None:
        """Start after the first steps."""
        if trainer.global_step == FIRST:
            self.start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Print the time on rank 0."""
        if trainer.is_global_zero:
            print(MARK, time.perf_counter() - self.start, flush=True)


def main() -> None:
    """Measure in turns, and print both rates and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="hanzi_deepcnet")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    asked, overrides = parser.parse_known_args()
    rates: dict[int, list[float]] = {1: [], asked.processes: []}
    for _ in range(asked.repeats):
        for processes, found in rates.items():
            found.append(rate(asked, processes, overrides))
    one, several = (statistics.median(found) for found in rates.values())
    print(f"{asked.config}, batch {asked.batch_size}, {asked.steps} steps, {os.cpu_count()} cores")
    print(f"one process, {asked.processes} threads: {one:.1f} samples a second")
    print(f"{asked.processes} processes, one thread each: {several:.1f}, {several / one:.2f} x")


def rate(asked: argparse.Namespace, processes: int, overrides: list[str]) -> float:
    """Return the samples a second of one run."""
    words = [
        *("fit", "--config", asked.config, *overrides),
        f"--trainer.devices={processes}",
        "--trainer.accelerator=cpu",
        *(["--trainer.strategy=ddp"] if processes > 1 else []),
        f"--trainer.max_steps={FIRST + asked.steps}",
        "--trainer.max_epochs=-1",
        "--trainer.limit_val_batches=0",
        f"--trainer.default_root_dir={asked.out}",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.callbacks+=measure_processes.Clock",
        f"--data.batch_size={asked.batch_size // processes}",
        "--data.num_workers=0",
    ]
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    threads = str(asked.processes // processes)
    result = subprocess.run(
        [sys.executable, "-m", "spcnn_lightning", *words],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith(MARK)]
    if result.returncode or not lines:
        raise SystemExit(f"{processes} processes: status {result.returncode}\n{result.stderr}")
    return asked.batch_size * asked.steps / float(lines[0].split()[-1])


if __name__ == "__main__":
    main()
