"""Does padding pay? Test errors with and without, after training for the same time: a table.

    python scripts/compare_padding.py --minutes 3 --seeds 1 2 --source MNIST --root data/mnist

- padded: pictures in the middle of a field of 96 x 96, valid sparse convolutions, DeepCNet(5, k)
- dense twin: the same padded network computed densely, in as much time
- unpadded: a field as large as the picture, valid convolutions, three levels of the same widths
- unpadded, 10 crops: its answers for ten shifted copies of a test picture, averaged
- zero-padded: the same field, dense 3 x 3 convolutions that pad with zeros, the same widths

Time is processor time, of training alone: steps are counted first, on a short run. The optimiser
is that of the config, the learning rate goes down to zero along half a cosine, and all have the
same augmentation, shifts alone. Options that are not known here are those of ``spcnn fit``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from timed_run import TimedRun

CROPS = 10


def main() -> None:
    """Train, and print a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="digits_quick")
    parser.add_argument("--source", required=True, help="MNIST, FashionMNIST, CIFAR10, ...")
    parser.add_argument("--root", required=True)
    parser.add_argument("--side", type=int, default=28, help="of a picture")
    parser.add_argument("--width", type=int, default=16, help="k")
    parser.add_argument("--shift", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--ways", nargs="+", help="some of the lines above; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    asked, overrides = parser.parse_known_args()
    augmentation = "--data.augmentation.init_args"
    shared = [
        f"--data.source={asked.source}",
        f"--data.source.root={asked.root}",
        "--data.train_on_all=true",
        "--data.num_workers=0",
        f"--data.augmentation.init_args.shift={asked.shift}",
        *(f"{augmentation}.{name}=0" for name in ("stretch", "rotate", "slant")),
        *overrides,
    ]
    print("| | steps | test errors | mean, % |\n|---|---|---|---|", flush=True)
    found_ways = ways(asked.width, asked.side)
    for name in asked.ways or found_ways:
        words = found_ways[name]
        rates: dict[str, list[float]] = {}
        steps = 0
        for seed in asked.seeds:
            chosen = [*shared, *words, f"--seed_everything={seed}"]
            run = TimedRun(asked.config, chosen, asked.out)
            steps = steps or run.steps_in(60 * asked.minutes)
            trained = run.train(steps)
            test = trained.data.source.test()
            rates.setdefault(name, []).append(100 * trained.errors(test).mean())
            if name == "unpadded":
                several = 100 * trained.errors(test, CROPS).mean()
                rates.setdefault(f"{name}, {CROPS} crops", []).append(several)
        for kind, found in rates.items():
            errors = ", ".join(f"{rate:.2f}" for rate in found)
            print(f"| {kind} | {steps} | {errors} | {np.mean(found):.2f} |", flush=True)


def ways(width: int, side: int) -> dict[str, list[str]]:
    """Return the options of each way to see a picture."""
    alone = f"--data.spatial_shape=[{side}, {side}]"
    valid = "-MP2-".join(f"{(n + 1) * width}C{2 if n else 3}" for n in range(4))
    network = "--model.network"
    size = ["--data.spatial_shape=[96, 96]", f"{network}.levels=5", f"{network}.width={width}"]
    return {
        "padded": [f"{network}=DeepCNet", *size],
        "dense twin": [f"{network}=trained_dense.DenseDeepCNet", *size],
        "unpadded": [
            alone,
            f"{network}=NotationNetwork",
            f"{network}.notation={valid}-output",
            f"{network}.readout=mean",
        ],
        "zero-padded": [
            alone,
            f"{network}=zero_padded.ZeroPadded",
            f"{network}.levels=3",
            f"{network}.width={width}",
        ],
    }


if __name__ == "__main__":
    main()
