from itertools import chain

import numpy as np
import pytest
import torch

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    EpochBatchSampler,
    EpochSampler,
    HandwritingDataModule,
    ImagePaddingDataModule,
    SimulatedHanzi,
    SiteBatchSampler,
    count_sites,
    sparse_datamodule,
)

BUDGET = 3000


@pytest.fixture
def sites():
    """Sizes of 1,500 samples, skewed as handwriting is; three samples are empty."""
    drawn = np.random.default_rng(2).gamma(4.0, 25.0, 1500).astype(int) + 10
    drawn[[3, 700, 701]] = 0
    return drawn


def shares(sites, world_size, budget=BUDGET, epoch=0, seed=4):
    """Return the batches of each process."""
    samplers = [
        SiteBatchSampler(sites, budget, seed, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    found = [[batch.tolist() for batch in sampler.batches(epoch)] for sampler in samplers]
    assert [len(batches) for batches in found] == [len(sampler) for sampler in samplers]
    return found


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_each_sample_occurs_once_in_as_many_batches_of_every_process(sites, world_size):
    for epoch in range(3):
        found = shares(sites, world_size, epoch=epoch)
        assert len({len(batches) for batches in found}) == 1
        assert sorted(chain(*chain(*found))) == list(range(len(sites)))
        assert all(chain(*found)), "no batch is empty"


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_no_batch_exceeds_the_budget_and_most_of_it_is_used(sites, world_size):
    work = np.array([[sites[batch].sum() for batch in b] for b in shares(sites, world_size)])
    assert work.max() <= BUDGET
    assert work.mean() > 0.8 * BUDGET


@pytest.mark.parametrize("seed", range(20))
def test_the_budget_holds_for_any_sizes(seed):
    random = np.random.default_rng(seed)
    sites = random.pareto(1.0, 60).clip(0, 50) * 20
    budget = 2 * max(int(sites.max()), 1) + int(random.integers(0, 300))
    found = shares(sites, int(random.integers(1, 6)), budget)
    assert max(sites[batch].astype(int).sum() for batch in chain(*found)) <= budget
    assert sorted(chain(*chain(*found))) == list(range(60))


def test_epochs_and_seeds_have_orders_of_their_own(sites):
    assert shares(sites, 2) == shares(sites, 2)
    assert shares(sites, 2) != shares(sites, 2, epoch=1)
    assert shares(sites, 2) != shares(sites, 2, seed=5)
    plain = SiteBatchSampler(sites, BUDGET, shuffle=False)
    first = plain.batches(0)[0]
    assert sorted(first) == list(range(len(first)))


@pytest.mark.parametrize("skip", [0, 1, 7])
def test_a_resumed_epoch_lacks_its_first_batches(sites, skip):
    sampler = SiteBatchSampler(sites, BUDGET, seed=4, rank=1, world_size=2)
    sampler.set_epoch(2)
    whole = list(sampler)
    assert whole[0][0][0] == 2, "keys are (epoch, index)"
    sampler.start_at(2, skip)
    assert list(sampler) == whole[skip:]
    sampler.set_epoch(3)
    assert len(list(sampler)) == len(sampler)


def test_a_budget_below_two_of_the_largest_samples_is_refused(sites):
    largest = sites.max()
    with pytest.raises(ValueError, match=f"largest sample has {largest} .* least {2 * largest}"):
        SiteBatchSampler(sites, 2 * largest - 1)
    with pytest.raises(ValueError, match="no sample"):
        SiteBatchSampler([], 10)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        SiteBatchSampler(sites, BUDGET, rank=2, world_size=2)


def spread(samplers, sites):
    """Return the largest work of a process over the mean of all, averaged over steps."""
    work = np.array([[sites[batch].sum() for batch in s.batches(0)] for s in samplers])
    return float((work.max(0) / work.mean(0)).mean())


def test_processes_work_equally_long_on_simulated_characters():
    """Also where augmentation has changed the counts that batches are made by."""
    source = SimulatedHanzi(classes=1000, train_writers=2)
    data = HandwritingDataModule(source, box=32, validation_fraction=0, seed=1)
    data.setup("fit")
    sites = count_sites(data.evaluation_data("train"))
    augmented = count_sites(data.training_data(1))
    assert not np.array_equal(sites, augmented)
    budget = int(60 * sites.mean())
    for world_size in (2, 4, 8):
        ranks = range(world_size)
        by_sites = [SiteBatchSampler(sites, budget, rank=r, world_size=world_size) for r in ranks]
        plain = [
            EpochBatchSampler(EpochSampler(len(sites), rank=r, world_size=world_size), 60)
            for r in ranks
        ]
        assert spread(by_sites, sites) < 1.005
        assert spread(by_sites, augmented) < 1.05
        assert spread(by_sites, augmented) < spread(plain, augmented)


@pytest.mark.parametrize("kind", [HandwritingDataModule, ImagePaddingDataModule])
def test_data_modules_fill_training_batches_by_sites(kind):
    data = kind(box=16, sites_per_batch=3000, augment=False, batch_size=7, seed=1)
    data.setup("fit")
    loader = data.train_dataloader()
    sizes = torch.tensor([[batch.num_sites, len(targets)] for batch, targets in loader])
    assert len(sizes) == len(loader)
    assert int(sizes[:, 0].max()) <= 3000
    assert int(sizes[:, 0].min()) > 2000
    assert int(sizes[:, 1].sum()) == len(data.training_data(1))
    assert loader.state_dict()["sites_per_batch"] == 3000
    assert {len(targets) for _, targets in list(data.val_dataloader())[:-1]} == {7}


def test_data_modules_say_which_budget_suffices():
    data = HandwritingDataModule(box=16, sites_per_batch=10)
    data.setup("fit")
    with pytest.raises(DataError, match="sites_per_batch is 10, and the largest sample has"):
        data.train_dataloader()


def test_workers_count_the_same():
    data = HandwritingDataModule(box=16)
    data.setup("fit")
    samples, some = data.evaluation_data("train"), range(3, 1500, 2)
    alone = count_sites(samples, some)
    assert alone.tolist() == count_sites(samples, some, num_workers=2).tolist()
    assert alone[:2].tolist() == [samples[3][0].num_sites, samples[5][0].num_sites]
    assert len(count_sites(samples, [])) == 0


def test_a_checkpoint_brings_what_was_counted(monkeypatch):
    """Unless the training samples are others."""

    def module(**arguments):
        data = HandwritingDataModule(box=16, sites_per_batch=3000, seed=1, **arguments)
        data.setup("fit")
        return data

    first = module()
    assert first.state_dict()["site_counts"] is None
    wanted = [
        batch for batch, _ in zip(first.train_dataloader().batch_sampler, range(3), strict=False)
    ]
    state = first.state_dict()

    counted = []
    monkeypatch.setattr(
        sparse_datamodule, "count_sites", lambda *a: counted.append(1) or count_sites(*a)
    )
    second = module()
    second.load_state_dict(state)
    found = [
        batch for batch, _ in zip(second.train_dataloader().batch_sampler, range(3), strict=False)
    ]
    assert (counted, found) == ([], wanted)

    other = module(split_seed=5)
    other.load_state_dict(state)
    other.train_dataloader()
    assert counted == [1]


def test_counts_of_other_samples_with_the_same_labels_are_not_taken(monkeypatch):
    """Each writer of the source writes all classes in the same order."""
    counted = []
    monkeypatch.setattr(
        sparse_datamodule, "count_sites", lambda *a: counted.append(1) or count_sites(*a)
    )

    def module(source_seed=0, **arguments):
        source = SimulatedHanzi(5, train_writers=6, test_writers=1, seed=source_seed)
        data = HandwritingDataModule(source, box=16, sites_per_batch=3000, seed=1, **arguments)
        data.setup("fit")
        return data

    first = module(validation_writers=[0])
    first.train_dataloader()
    state = first.state_dict()
    for other, recounts in (
        (module(validation_writers=[0]), 0),
        (module(validation_writers=[1]), 1),
        (module(9, validation_writers=[0]), 1),
    ):
        counted.clear()
        other.load_state_dict(state)
        other.train_dataloader()
        assert len(counted) == recounts
