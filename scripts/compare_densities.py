"""Compare a sparse network with its dense twin from sparse to full fields, in one run.

    python scripts/compare_densities.py --threads 1
    python scripts/compare_densities.py --network "DeepCNet(5, 100)" --densities 0.1,1,10,100
    python scripts/compare_densities.py --network "DeepCNet(2, 64, readout='mean')" --field-width 32

Sites lie in the field by chance, so that convolutions fill it soon. For each density (percent of
the input's sites) the table has the median time of a step and the median of the ratios of the same
round: dense to sparse, above 1 where the sparse network is faster, against the faster dense twin.

Set SPCNN_COMPILE=at_once, or the first of them run before the compiled loops are loaded.
"""

import argparse
import math
import sys
from pathlib import Path

import torch

from spcnn_lightning.bench.machine import machine_facts, machine_line
from spcnn_lightning.bench.measure import Options, run_bench
from spcnn_lightning.bench.workload import named_workload

ENGINES = ("torch", "dense", "dense_channels_last")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="DeepCNet(4, 32)")
    parser.add_argument("--densities", default="1,5,20,50,100", help="percent, with commas")
    parser.add_argument("--field-width", type=int, metavar="SITES", help="default: as needed")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--in-channels", type=int, default=9)
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    print(f"{asked.network}, batch {asked.batch_size}, {asked.mode}, {asked.repeats} repetitions")
    print(machine_line(machine_facts(torch.device("cpu"))))
    print(f"{'density %':>9} {'sites':>9}", *(f"{name + ' ms':>22}" for name in ENGINES), "  ratio")
    densities = [float(text) for text in asked.densities.split(",")]
    ratios = []
    for density in densities:
        text, ratio = measured(asked, density)
        print(text, flush=True)
        ratios.append(ratio)
    if asked.plot:
        draw(densities, ratios, f"{asked.network}, {asked.mode}", asked.plot)
    return 0


def measured(asked: argparse.Namespace, percent: float) -> tuple[str, float]:
    """Return a line of the table, and the last number in it."""
    probe = workload(asked, 0)
    volume = asked.batch_size * math.prod(probe.batch.spatial_shape)
    work = workload(asked, round(volume * percent / 100))
    options = Options(
        ENGINES,
        training=asked.mode == "train",
        repeats=asked.repeats,
        layers=False,
        memory=False,
        check_samples=0,
    )
    results = run_bench(work, options).contenders
    if reasons := [reason for result in results for reason in result.reasons]:
        raise SystemExit(f"not all engines ran: {'; '.join(reasons)}")
    times = [f"{result.time.step.median * 1e3:22.1f}" for result in results]
    ratio = min(result.ratio.median for result in results[1:])
    return f"{percent:9g} {work.batch.num_sites:9d} {' '.join(times)} {ratio:8.2f}", ratio


def draw(densities: list[float], ratios: list[float], title: str, path: Path) -> None:
    """Draw the ratios against the density, and where both are equally fast."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.loglog(densities, ratios, "o-")
    ticks = [tick for tick in (0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10) if tick < 1.1 * max(1, *ratios)]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axhline(1.0, color="grey", linestyle=":")
    axes.set(xlabel="active sites of the input, %", ylabel="time of dense / sparse", title=title)
    figure.savefig(path, dpi=120)


def workload(asked: argparse.Namespace, num_sites: int):
    return named_workload(
        asked.network,
        field="random",
        batch_size=asked.batch_size,
        in_channels=asked.in_channels,
        num_classes=10,
        field_width=asked.field_width,
        num_sites=num_sites,
    )


if __name__ == "__main__":
    sys.exit(main())
