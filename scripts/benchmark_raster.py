"""Characters rasterised a second on one core: point by point, numpy, and numba, in one run.

    python scripts/benchmark_raster.py
    python scripts/benchmark_raster.py --medians hanzi_medians_gb2312_level1.npz --repeats 7

Each row is one encoding and augmentation: that of the paper; with elastic bending and dropped
strokes (more); with warped speed too, where time is looked at (all). All engines take turns on the
same batches, so that a busy machine slows them alike; figures are medians over the repeats. Without
--medians the characters are random, with strokes and points as Chinese ones have. The reference
point by point, which is also the oracle of the tests, knows bitmap and octogram without
augmentation.
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
    Augmentations,
    Bitmap,
    Curvature,
    Elastic,
    Encodings,
    HandwritingAugmentation,
    HandwritingDataset,
    LogSignature,
    Octogram,
    Rasteriser,
    Signature,
    Speed,
    SpeedWarp,
    StrokeDropping,
    StrokeSet,
)
from spcnn_lightning.datamodules.raster import engine, normalise
from spcnn_lightning.datamodules.strokes import offsets_of

PER_POINT = Path(__file__).resolve().parent.parent / "tests" / "datamodules" / "per_point.py"
MORE = [HandwritingAugmentation(), Elastic(), StrokeDropping()]
AUGMENTATIONS = {
    "none": None,
    "paper": HandwritingAugmentation(),
    "more": Augmentations(MORE),
    "all": Augmentations([*MORE, SpeedWarp()]),
}
ROWS = {
    "bitmap": (Bitmap(), ["none", "paper", "more"]),
    "octogram": (Octogram(), ["none", "paper", "more", "all"]),
    "signature 2": (Signature(2), ["more"]),
    "signature 4": (Signature(4), ["more"]),
    "log signature 3": (LogSignature(3), ["more"]),
    "octogram, curvature, speed": (Encodings([Octogram(), Curvature(), Speed()]), ["all"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--medians", type=Path, help="npz: strokes_per_char, points_per_stroke, xy")
    parser.add_argument(
        "--box", type=int, default=64, help="in sites; the field is three boxes wide"
    )
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--batches", type=int, default=10, help="in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if asked.clock == "cpu" else time.perf_counter
    strokes = random_characters(2000) if asked.medians is None else read_medians(asked.medians)
    engines = {"numpy": engine.NUMPY} | (
        {"numba": engine.numba_kernels()} if engine.has_numba() else {}
    )

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    points, lines = len(strokes.points) / len(strokes), len(strokes.point_offsets) / len(strokes)
    print(f"{platform.machine()}, 1 of {os.cpu_count()} cores, load {load:.1f}")
    print(f"{asked.clock} time; median of {asked.repeats} repeats of {asked.batches} batches")
    print(f"{len(strokes)} characters of {lines:.1f} strokes and {points:.0f} points")
    print(f"{asked.box} sites wide, {asked.batch_size} in a batch")
    columns = " ".join(f"{name:>9}" for name in engines)
    print(f"\n{'characters/s':27} {'augment.':8} {'per point':>9} {columns}   ratios to per point")
    for name, (encoder, augmentations) in ROWS.items():
        reference = per_point_rate(name, strokes, asked.box, clock)
        for augmentation in augmentations:
            shape = (3 * asked.box,) * encoder.num_axes
            rasteriser = Rasteriser(shape, asked.box, encoder, AUGMENTATIONS[augmentation])
            rates = measure(HandwritingDataset(strokes, rasteriser), engines, asked, clock)
            figures = " ".join(f"{rate:9,.0f}" for rate in rates)
            slow = f"{reference:9,.1f}" if reference else f"{'-':>9}"
            ratios = ", ".join(f"{rate / reference:,.0f}" for rate in rates) if reference else "-"
            print(f"{name:27} {augmentation:8} {slow} {figures}   {ratios}", flush=True)


def measure(dataset: HandwritingDataset, engines: dict, asked: argparse.Namespace, clock) -> list:
    """Return characters a second for each engine, all steps from points to tensors included."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    size = asked.batch_size
    for repeat in range(-1, asked.repeats):  # the first compiles, and is not counted
        for name, kernels in engines.items():
            engine.kernels_for = lambda samples, kernels=kernels: kernels
            start = clock()
            for batch in range(asked.batches):
                indices = np.arange(batch * size, (batch + 1) * size) % len(dataset)
                dataset.prepare([(max(repeat, 0), int(index)) for index in indices])
            if repeat >= 0:
                seconds[name].append(clock() - start)
    return [asked.batches * size / statistics.median(times) for times in seconds.values()]


def per_point_rate(name: str, strokes: StrokeSet, box: int, clock, count: int = 20) -> float | None:
    """Return characters a second of the reference, augmentation left out; None if it has none."""
    spec = importlib.util.spec_from_file_location("per_point", PER_POINT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if (encode := getattr(module, f"{name}_of", None)) is None:
        return None
    paths = normalise(strokes.select(np.arange(count)), box)
    pieces = [piece.tolist() for piece in np.split(paths.points, paths.point_offsets[1:-1])]
    start = clock()
    for first, end in zip(paths.stroke_offsets, paths.stroke_offsets[1:], strict=False):
        encode(pieces[first:end], (3 * box, 3 * box))
    return count / (clock() - start)


def read_medians(path: Path) -> StrokeSet:
    file = np.load(path)
    strokes = file["strokes_per_char"].astype(np.int64)
    return timed(file["xy"][:, ::-1], file["points_per_stroke"].astype(np.int64), strokes)


def random_characters(count: int) -> StrokeSet:
    """Return characters of 6 to 16 bent strokes of 3 to 9 points in a square of 1000 units."""
    numbers = np.random.default_rng(0)
    strokes = numbers.integers(6, 17, count)
    points = numbers.integers(3, 10, strokes.sum())
    begin = numbers.uniform(0, 1000, (len(points), 2))
    ways = numbers.normal(0, 1, (len(points), 2)) * 50
    number = np.arange(points.sum()) - np.repeat(offsets_of(points)[:-1], points)
    place = np.repeat(begin, points, axis=0) + number[:, None] * np.repeat(ways, points, axis=0)
    return timed(place + numbers.normal(0, 15, place.shape), points, strokes)


def timed(points: np.ndarray, per_stroke: np.ndarray, per_character: np.ndarray) -> StrokeSet:
    """Return characters with 10 ms between points."""
    time_ms = 10.0 * np.arange(len(points))
    labels = np.zeros(len(per_character), np.int64)
    offsets = offsets_of(per_stroke), offsets_of(per_character)
    return StrokeSet(points, *offsets, labels, time=time_ms)


if __name__ == "__main__":
    main()
