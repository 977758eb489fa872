"""Pictures augmented and padded a second on one core, against one picture and site at a time.

    python scripts/benchmark_pictures.py
    python scripts/benchmark_pictures.py --size 28 --channels 1 --repeats 7

Random pictures, so that every pixel is active; the field is three times as wide. All steps count,
from uint8 pictures to the sites and features of a batch. Figures are medians over the repeats; the
rows take turns, so that a busy machine slows them alike. The reference, which is also the oracle
of the tests, shares nothing with the code that it is compared with; it knows no bending and no
colours.
"""

import argparse
import importlib.util
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from spcnn_lightning.datamodules import (
    ColourShift,
    Padder,
    PictureAugmentation,
    PictureDataset,
    Scaling,
)
from spcnn_lightning.datamodules.pictures import PictureArray

PER_PICTURE = Path(__file__).resolve().parent.parent / "tests" / "datamodules" / "per_picture.py"
ROWS = {
    "none": None,
    "shift": PictureAugmentation(0, 0, 0, shift=2),
    "paper": PictureAugmentation(flip=True, shift=16),
    "paper, colour": PictureAugmentation(flip=True, shift=16, colour=ColourShift()),
    "paper, elastic": PictureAugmentation(flip=True, shift=16, elastic=0.03),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=32, help="of a picture, in pixels")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--batches", type=int, default=10, help="in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if asked.clock == "cpu" else time.perf_counter
    shape = (1000, asked.size, asked.size, asked.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pictures, field = PictureArray(images, np.zeros(1000, np.int64)), (3 * asked.size,) * 2
    data = {
        name: PictureDataset(pictures, Padder(field, Scaling(128.0), augmentation=augmentation))
        for name, augmentation in ROWS.items()
    }

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{platform.machine()}, 1 of {os.cpu_count()} cores, load {load:.1f}")
    print(f"{asked.clock} time; median of {asked.repeats} repeats of {asked.batches} batches")
    print(f"{asked.size} x {asked.size} x {asked.channels} in {field}, batches of ", end="")
    print(f"{asked.batch_size}\n\n{'pictures/s':16} {'one by one':>10} {'batch':>8} {'ratio':>7}")
    rates = measure(data, asked, clock)
    for name, augmentation in ROWS.items():
        slow = None
        if augmentation is None or not (augmentation.colour or augmentation.elastic.amount):
            slow = reference_rate(images, field, augmentation, clock)
        ratio = f"{rates[name] / slow:7,.0f}" if slow else f"{'-':>7}"
        print(f"{name:16} {f'{slow:10,.1f}' if slow else '         -'} {rates[name]:8,.0f} {ratio}")


def measure(data: dict[str, PictureDataset], asked: argparse.Namespace, clock) -> dict[str, float]:
    """Return pictures a second for each row."""
    seconds: dict[str, list[float]] = {name: [] for name in data}
    size = asked.batch_size
    for repeat in range(-1, asked.repeats):  # the first warms up, and is not counted
        for name, dataset in data.items():
            start = clock()
            for batch in range(asked.batches):
                indices = np.arange(batch * size, (batch + 1) * size) % len(dataset)
                dataset.prepare([(max(repeat, 0), int(index)) for index in indices])
            if repeat >= 0:
                seconds[name].append(clock() - start)
    count = asked.batches * size
    return {name: count / statistics.median(times) for name, times in seconds.items()}


def reference_rate(images: np.ndarray, field: tuple[int, int], augmentation, clock) -> float:
    """Return pictures a second of the reference."""
    spec = importlib.util.spec_from_file_location("per_picture", PER_PICTURE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    draws = np.random.default_rng(1).uniform(size=(5, 7))
    start = clock()
    for picture, numbers in zip(images, draws, strict=False):
        module.sites_of(picture, field, numbers, background=128, augmentation=augmentation)
    return len(draws) / (clock() - start)


if __name__ == "__main__":
    main()
