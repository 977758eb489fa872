"""How loading scales with workers: shards read, distorted, drawn and handed over, per second.

    python scripts/measure_loading.py data/hanzi500 --workers 0 1 2 --repeats 3

Batches of 100 characters of a folder of shards, with the paper's augmentation, at box 32. The main
process does nothing but receive them. Numbers of workers take turns; medians.
"""

import argparse
import statistics
import time

from spcnn_lightning.bench.machine import machine_facts, machine_line
from spcnn_lightning.datamodules import HandwritingDataModule, Shards


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line(machine_facts(torch.device("cpu"))))
    rates: dict[int, list[float]] = {workers: [] for workers in asked.workers}
    for _ in range(asked.repeats):
        for workers in asked.workers:
            rates[workers].append(rate(asked.folder, workers, asked.batches))
    first = statistics.median(rates[asked.workers[0]])
    for workers, found in rates.items():
        median = statistics.median(found)
        print(f"{workers} workers: {median:8,.0f} characters/s, {median / first:.2f} x")


def rate(folder: str, workers: int, batches: int) -> float:
    """Return characters a second, after the first batches of each worker."""
    data = HandwritingDataModule(
        Shards(folder, verify=False), box=32, num_workers=workers, batch_size=100, seed=1
    )
    data.setup("fit")
    loader = iter(data.train_dataloader())
    for _ in range(2 * workers + 2):
        next(loader)
    start = time.perf_counter()
    count = sum(len(next(loader)[1]) for _ in range(batches))
    seconds = time.perf_counter() - start
    data.teardown("fit")
    return count / seconds


if __name__ == "__main__":
    main()
