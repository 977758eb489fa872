"""Test error against time: DeepCNets of several depths, sparse and dense, and a shallow network.

    spcnn data prepare --source SimulatedHanzi --source.classes 500 --source.train_writers 60 \
        --source.test_writers 10 --out data/hanzi500
    OMP_NUM_THREADS=1 python scripts/compare_levels.py --data data/hanzi500 --minutes 1 3 \
        --seeds 1 2 3 --plot levels.png

Every network is trained from the start for each number of minutes, so each point has a learning
rate that went down to zero. A character is a third as wide as the field, 3 * 2**l, of its
DeepCNet(l, k), and its distortions are in proportion. `DenseDeepCNet` is the same network as
DeepCNet, computed densely. Time is processor time of training, rasterising included. Points that
a log of an earlier run holds (``--log``) are not computed again. Options that are not known here
are those of ``spcnn fit``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from timed_run import TimedRun

CONFIG = "hanzi_deepcnet"
SHALLOW_BOX = 32


class Point(NamedTuple):
    """A training, and what came of it."""

    way: str
    minutes: float
    seed: int
    steps: int
    error: float
    """On the test part, in percent."""


def main() -> None:
    """Train what the log lacks, print a table, and draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of shards")
    parser.add_argument("--levels", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--width", type=int, default=20, help="k")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--log", type=Path, default=Path("levels.jsonl"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    asked, overrides = parser.parse_known_args()
    for point in missing(asked, overrides):
        with open(asked.log, "a", encoding="utf-8") as log:
            print(json.dumps(point._asdict()), file=log)
    points = read(asked.log)
    print_table(points)
    if asked.plot:
        draw(points, asked.plot)


def missing(asked: argparse.Namespace, overrides: list[str]) -> Iterator[Point]:
    """Train the networks that the log lacks, seed by seed."""
    known = {(point.way, point.minutes, point.seed): point for point in read(asked.log)}
    rates = {point.way: point.steps / point.minutes for point in known.values()}
    for seed in asked.seeds:
        for way, words in ways(asked.levels, asked.width).items():
            run = TimedRun(CONFIG, [*shared(asked.data, seed), *words, *overrides], asked.out)
            for minutes in asked.minutes:
                if (way, minutes, seed) in known:
                    continue
                if way not in rates:
                    rates[way] = run.steps_in(60)
                steps = max(1, round(rates[way] * minutes))
                trained = run.train(steps, [f"--model.warmup_steps={min(200, steps // 5)}"])
                error = 100 * trained.errors(trained.data.source.test()).mean()
                yield Point(way, minutes, seed, steps, float(error))


def shared(data: str, seed: int) -> list[str]:
    """Return the options of all networks."""
    return [
        "--data.source=Shards",
        f"--data.source.root={data}",
        "--data.train_on_all=true",
        "--data.num_workers=0",
        "--trainer.enable_checkpointing=false",
        "--trainer.logger=false",
        f"--seed_everything={seed}",
    ]


def ways(levels: list[int], width: int) -> dict[str, list[str]]:
    """Return the options of each network."""
    network = "--model.network"
    shallow = [f"{network}=shallow_dense.ShallowDense", f"{network}.width=16"]
    found = {"shallow dense": [*shallow, *size(SHALLOW_BOX, SHALLOW_BOX + 8)]}
    for level in levels:
        words = [f"{network}.levels={level}", f"{network}.width={width}"]
        words += size(2**level, 3 * 2**level)
        name = f"({level}, {width})"
        found[f"DeepCNet{name}"] = [f"{network}=DeepCNet", *words]
        found[f"dense twin of {name}"] = [f"{network}=trained_dense.DenseDeepCNet", *words]
    return found


def size(box: int, field: int) -> list[str]:
    """Return the options of characters and distortions so large, in sites."""
    augmentation = "--data.augmentation.init_args"
    return [
        f"--data.box={box}",
        f"--data.spatial_shape=[{field}, {field}]",
        f"{augmentation}.shift={box // 8}",
        f"{augmentation}.jitter={box / 32}",
    ]


def read(log: Path) -> list[Point]:
    """Return the points of a log, none if there is no log."""
    if not log.exists():
        return []
    return [Point(**json.loads(line)) for line in log.read_text(encoding="utf-8").splitlines()]


def print_table(points: list[Point]) -> None:
    """Print a line for each network and time."""
    print("| | minutes | steps | test errors, % | mean |\n|---|---|---|---|---|")
    for way, minutes in sorted({(point.way, point.minutes) for point in points}):
        same = [point for point in points if (point.way, point.minutes) == (way, minutes)]
        errors = [point.error for point in same]
        each = ", ".join(f"{error:.2f}" for error in errors)
        print(f"| {way} | {minutes:g} | {same[0].steps} | {each} | {np.mean(errors):.2f} |")


def draw(points: list[Point], path: Path) -> None:
    """Draw means over the seeds, and all seeds as dots."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure, axes = plt.subplots(figsize=(7.5, 4))
    ways = sorted({point.way for point in points})
    depths = sorted({way[-6:] for way in ways})
    for way in ways:
        same = sorted(p[1:] for p in points if p.way == way)
        minutes = sorted({point[0] for point in same})
        means = [np.mean([point[3] for point in same if point[0] == time]) for time in minutes]
        colour = f"C{depths.index(way[-6:])}"
        style = "-" if way.startswith("DeepCNet") else "--" if "twin" in way else ":"
        axes.plot(minutes, means, style, color=colour, label=way)
        axes.plot([p[0] for p in same], [p[3] for p in same], "o", color=colour, markersize=3)
    axes.set(xscale="log", yscale="log", xlabel="minutes of training, one thread")
    axes.set(ylabel="test error in %")
    times = sorted({point.minutes for point in points})
    axes.set_xticks(times, [f"{time:g}" for time in times])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
