import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.sparse_batch import SparseBatch


def sample(seed, size=1):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(size, 1, 4, 3, generator=generator) < 0.4
    return SparseBatch.from_dense(torch.rand(size, 2, 4, 3, generator=generator) * mask)


@pytest.mark.parametrize("join", [collate, default_collate])
def test_pairs_become_a_batch_and_its_targets(join):
    pairs = [(sample(seed), target) for seed, target in enumerate([3, 0, 7])]
    batch, targets = join(pairs)
    assert isinstance(batch, SparseBatch)
    assert targets.tolist() == [3, 0, 7]
    assert targets.dtype == torch.int64
    assert torch.equal(batch.to_dense(), torch.cat([one.to_dense() for one, _ in pairs]))


@pytest.mark.parametrize("join", [collate, default_collate])
def test_bare_samples_become_a_batch(join):
    assert join([sample(0), sample(1)]).batch_size == 2


def test_whole_batches_are_joined_with_their_targets():
    parts = [(sample(0, 3), torch.tensor([1, 2, 3])), (sample(1, 2), torch.tensor([4, 5]))]
    batch, targets = collate(parts)
    assert batch.batch_size == 5
    assert targets.tolist() == [1, 2, 3, 4, 5]
    one = collate([(sample(0), torch.tensor([8])), (sample(1), torch.tensor([9]))])
    assert one[1].tolist() == [8, 9]


def test_targets_may_be_tensors_without_axes():
    assert collate([(sample(0), torch.tensor(4)), (sample(1), torch.tensor(5))])[1].tolist() == [
        4,
        5,
    ]


def test_more_than_a_target_may_stand_beside_a_sample():
    batch, targets, names = collate([(sample(0), 1, "a"), (sample(1), 2, "b")])
    assert (batch.batch_size, targets.tolist(), list(names)) == (2, [1, 2], ["a", "b"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_of_torch_alone_makes_batches(workers):
    data = [(sample(seed), seed) for seed in range(5)]
    seen = [target for _, targets in DataLoader(data, 2, num_workers=workers) for target in targets]
    assert [int(target) for target in seen] == [0, 1, 2, 3, 4]
