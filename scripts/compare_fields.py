"""Does the cost follow the sites or the field? The same drawing in wider and wider fields.

    python scripts/compare_fields.py --threads 1 --plot docs/fields.png
    python scripts/compare_fields.py --widths 48,192,768 --levels 4 --width 32

A DeepCNet whose answers are the means over its last field, so that any field fits. For each width
of the field: the median time of a step, that over the narrowest field's, and the peak memory of a
step in a process of its own. Fields take turns. The dense twin grows with the square of the width.

Set SPCNN_COMPILE=at_once, or the first of them run before the compiled loops are loaded.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch

from spcnn_lightning.bench.contender import Contender, Setting
from spcnn_lightning.bench.contenders import make_contender
from spcnn_lightning.bench.machine import machine_facts, machine_line
from spcnn_lightning.bench.memory import peak_memory
from spcnn_lightning.bench.passes import run_step
from spcnn_lightning.bench.workload import Workload, named_workload


def main() -> int:
    """Measure, print the table and draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", default="48,96,192,384,768,1536,3072,6144,12288")
    parser.add_argument("--box", type=int, default=16, help="width of the drawing, in sites")
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--width", type=int, default=32, help="k")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    print(machine_line(machine_facts(torch.device("cpu"))))
    print(f"DeepCNet({asked.levels}, {asked.width}), batch {asked.batch_size}, training step")
    widths = [int(text) for text in asked.widths.split(",")]
    works = [workload(asked, width) for width in widths]
    setting = Setting(torch.device("cpu"), torch.float32, None, True)
    contenders = [make_contender("torch", work.network, work.batch, setting) for work in works]
    times = measured(contenders, works, asked.repeats)
    peaks = [peak_memory("torch", work, setting).step / 2**20 for work in works]
    print(f"{'field':>7} {'sites':>7} {'ms':>7} {'x':>6} {'MiB':>7}")
    for width, work, time, peak in zip(widths, works, times, peaks, strict=True):
        share = time / times[0]
        print(f"{width:7} {work.batch.num_sites:7} {time:7.1f} {share:6.2f} {peak:7.1f}")
    if asked.plot:
        draw(widths, times, peaks, asked.plot)
    return 0


def workload(asked: argparse.Namespace, field: int) -> Workload:
    """Return the same drawing in the middle of a field of this width."""
    return named_workload(
        f"DeepCNet({asked.levels}, {asked.width}, readout='mean')",
        box=asked.box,
        field_width=field,
        batch_size=asked.batch_size,
    )


def measured(contenders: list[Contender], works: list[Workload], repeats: int) -> list[float]:
    """Return the median milliseconds of a step of each, in turns, after one step to warm up."""
    steps: list[list[float]] = [[] for _ in contenders]
    for number in range(repeats + 1):
        for found, contender, work in zip(steps, contenders, works, strict=True):
            timing = run_step(contender, work.targets)
            if number:
                found.append(1e3 * timing.step)
    return [statistics.median(found) for found in steps]


def draw(widths: list[int], times: list[float], peaks: list[float], path: Path) -> None:
    """Draw time and memory against the width of the field."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    left.loglog(widths, times, "o-", color="tab:blue", label="step, ms")
    quadratic = [times[0] * (width / widths[0]) ** 2 for width in widths]
    left.loglog(widths, quadratic, ":", color="grey", label="growing with the field, as dense")
    left.plot([], [], "s--", color="tab:orange", label="peak of a step, MiB (right)")
    right.loglog(widths, peaks, "s--", color="tab:orange")
    left.set(
        xlabel="width of the field, sites", ylabel="step, ms", ylim=(times[0] / 3, times[0] * 30)
    )
    right.set(ylabel="peak of a step, MiB", ylim=(peaks[0] / 3, peaks[0] * 30))
    left.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
