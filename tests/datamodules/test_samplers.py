import tracemalloc
from itertools import chain

import pytest
import torch
from torch.utils.data import DataLoader

from spcnn_lightning.core.collate import collate
from spcnn_lightning.datamodules import EpochBatchSampler, EpochSampler


def batches_of(sampler, epoch, skip=0):
    sampler.start_at(epoch, skip)
    return list(sampler)


def test_an_epoch_holds_every_sample_once_in_its_own_order():
    sampler = EpochBatchSampler(EpochSampler(23, seed=4), batch_size=5)
    epochs = [list(chain(*batches_of(sampler, epoch))) for epoch in (0, 1, 0)]
    for epoch, keys in zip((0, 1, 0), epochs, strict=True):
        assert sorted(keys) == [(epoch, index) for index in range(23)]
    assert epochs[0] == epochs[2]
    assert [i for _, i in epochs[0]] != [i for _, i in epochs[1]]
    assert len(sampler) == 5
    assert [len(batch) for batch in sampler] == [5, 5, 5, 5, 3]


def test_the_order_depends_on_the_seed():
    assert list(EpochSampler(50, seed=1)) != list(EpochSampler(50, seed=2))


def test_without_shuffling_samples_keep_their_order():
    assert list(EpochSampler(3, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]


def test_the_last_short_batch_can_be_left_out():
    sampler = EpochBatchSampler(EpochSampler(23), batch_size=5, drop_last=True)
    assert [len(batch) for batch in sampler] == [5] * 4
    assert len(sampler) == 4


@pytest.mark.parametrize("skip", [0, 1, 4, 5])
def test_a_resumed_epoch_lacks_its_first_batches_and_no_other_epoch_does(skip):
    sampler = EpochBatchSampler(EpochSampler(23, seed=4), batch_size=5)
    whole = {epoch: batches_of(sampler, epoch) for epoch in (2, 3)}
    assert batches_of(sampler, 2, skip) == whole[2][skip:]
    assert len(sampler) == 5, "trainers count whole epochs"
    sampler.set_epoch(3)
    assert list(sampler) == whole[3]


def test_the_epoch_is_settled_when_iteration_begins():
    sampler = EpochBatchSampler(EpochSampler(9), batch_size=3)
    sampler.set_epoch(1)
    iterator = iter(sampler)
    sampler.set_epoch(2)
    assert {epoch for batch in iterator for epoch, _ in batch} == {1}


def test_an_epoch_of_a_million_samples_is_no_list_of_keys():
    sampler = EpochBatchSampler(EpochSampler(1_000_000, seed=4), batch_size=100)
    tracemalloc.start()
    try:
        batches = iter(sampler)
        first = next(batches)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(first) == 100
    assert held < 12e6, "the order in int64, and one batch"


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("num_samples", [12, 13, 2])
def test_processes_share_an_epoch(world_size, num_samples):
    """Padded, all take equally many; unpadded, each sample is taken once."""
    for pad in (True, False):
        shares = []
        for rank in range(world_size):
            sampler = EpochSampler(num_samples, rank=rank, world_size=world_size, pad=pad)
            shares.append(sampler.indices(0).tolist())
            assert len(sampler) == len(shares[-1])
        everything = list(chain(*shares))
        assert set(everything) == set(range(num_samples))
        if pad:
            assert len({len(share) for share in shares}) == 1
        else:
            assert len(everything) == num_samples


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("num_samples", [1, 15, 16, 20])
def test_processes_yield_equally_many_batches(num_samples, batch_size, world_size):
    """A process that has none where others have one would not wait for them."""
    shares = []
    for rank in range(world_size):
        sampler = EpochSampler(num_samples, rank=rank, world_size=world_size, pad=False)
        shares.append(batches_of(EpochBatchSampler(sampler, batch_size), 0))
        assert len(EpochBatchSampler(sampler, batch_size)) == len(shares[-1])
        assert max(map(len, shares[-1])) <= batch_size
    assert len({len(share) for share in shares}) == 1
    assert sorted(chain(*chain(*shares))) == [(0, index) for index in range(num_samples)]
    if num_samples >= world_size and batch_size > 1:
        assert all(chain(*shares)), "no batch is empty"


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_out_of_range_is_refused(rank, world_size):
    with pytest.raises(ValueError, match=f"rank {rank} of {world_size}"):
        EpochSampler(5, rank=rank, world_size=world_size)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0"):
        EpochBatchSampler(EpochSampler(5), 0)


def test_the_samplers_serve_a_plain_dataloader():
    class Keys(torch.utils.data.Dataset):
        def __getitem__(self, key):
            return torch.tensor(key)

    sampler = EpochSampler(7, seed=3)
    by_batches = DataLoader(Keys(), batch_sampler=EpochBatchSampler(sampler, 3))
    one_by_one = DataLoader(Keys(), sampler=sampler, batch_size=3, collate_fn=collate)
    for one, other in zip(by_batches, one_by_one, strict=True):
        torch.testing.assert_close(one, other)
