"""Measures how evenly processes share work: batches by sites against batches by samples.

    python scripts/measure_balance.py

Draws simulated Chinese characters with the field of CASIA's config, counts the sites of each as
training draws it (with augmentation), and prints for 2 to 64 processes the work of the busiest one
over the mean of all: averaged over the steps of an epoch, and in its worst step. Work is the number
of active sites of the input.
"""

import argparse
import time

import numpy as np

from spcnn_lightning.datamodules import (
    EpochBatchSampler,
    EpochSampler,
    HandwritingAugmentation,
    HandwritingDataModule,
    SimulatedHanzi,
    SiteBatchSampler,
    count_sites,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=8, help="3,755 characters of each")
    parser.add_argument("--batch", type=int, default=100, help="characters per process and step")
    arguments = parser.parse_args()
    data = HandwritingDataModule(
        SimulatedHanzi(train_writers=arguments.writers),
        box=64,
        augmentation=HandwritingAugmentation(jitter=1, shift=12),
        validation_fraction=0,
        seed=1,
    )
    data.setup("fit")
    start = time.perf_counter()
    counted = count_sites(data.evaluation_data("train"))
    seconds = time.perf_counter() - start
    drawn = count_sites(data.training_data(1))
    print(
        f"{len(counted):,} characters, {counted.mean():.0f} sites each (largest {counted.max()}), "
        f"counted at {len(counted) / seconds:,.0f} a second"
    )
    budget = int(arguments.batch * counted.mean() + counted.max())
    print("processes  by samples: mean, worst  by sites: mean, worst  largest batch by sites")
    for world_size in (2, 4, 8, 16, 64):
        ranks = range(world_size)
        plain = [
            EpochBatchSampler(
                EpochSampler(len(counted), rank=rank, world_size=world_size),
                arguments.batch,
                drop_last=True,
            )
            for rank in ranks
        ]
        by_sites = [
            SiteBatchSampler(counted, budget, rank=rank, world_size=world_size) for rank in ranks
        ]
        works = []
        for samplers in (plain, by_sites):
            work = [[drawn[batch].sum() for batch in s.batches(0)] for s in samplers]
            works.append(np.array(work))
        spreads = [work.max(0) / work.mean(0) for work in works]
        print(
            f"{world_size:9}  {spreads[0].mean():16.3f}, {spreads[0].max():.3f}  "
            f"{spreads[1].mean():14.3f}, {spreads[1].max():.3f}  "
            f"{works[1].max() / budget:.3f} of the budget"
        )


if __name__ == "__main__":
    main()
