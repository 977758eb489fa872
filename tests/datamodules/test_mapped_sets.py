"""Memory-mapped sets in other processes."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    EpochBatchSampler,
    EpochSampler,
    HandwritingAugmentation,
    HandwritingDataset,
    Octogram,
    PenDigits8,
    Rasteriser,
    Shards,
)
from spcnn_lightning.datamodules.characters import Subset
from spcnn_lightning.datamodules.manifest import FIELDS
from spcnn_lightning.datamodules.preparing import prepare


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mapped") / "digits"
    prepare(PenDigits8(), folder, {"class": "PenDigits8"})
    return folder


def is_mapped(array):
    return isinstance(array, np.memmap) or isinstance(array.base, np.memmap)


def test_a_pickle_names_the_files_and_holds_no_data(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root.parent)
    strokes = Shards(root.name).train()
    text = pickle.dumps(strokes)
    assert len(text) < 2_000 < strokes.points.nbytes
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(text)
    for name in FIELDS:
        one, other = getattr(strokes, name), getattr(again, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert is_mapped(other), name
            np.testing.assert_array_equal(one, other)


def test_a_pickle_of_a_subset_holds_its_indices_alone(root):
    subset = Subset(Shards(root).train(), np.arange(0, 7000, 2))
    assert len(subset.labels) == 3500, "kept once it was asked for"
    text = pickle.dumps(subset)
    assert len(text) < subset.indices.nbytes + 2_000
    np.testing.assert_array_equal(pickle.loads(text).labels, subset.labels)


def test_a_pickle_whose_files_are_gone_says_so(root, tmp_path):
    moved = root.rename(tmp_path / "moved")
    text = pickle.dumps(Shards(moved).train())
    moved.rename(root)
    with pytest.raises(DataError, match=r"train\..*\.npy: missing"):
        pickle.loads(text)


def test_a_spawned_worker_gives_the_same_batches(root):
    drawing = Rasteriser((48, 48), 16, Octogram(), HandwritingAugmentation())
    data = HandwritingDataset(Subset(Shards(root).train(), np.arange(70, 90)), drawing, seed=3)
    batches = EpochBatchSampler(EpochSampler(len(data), seed=3), 8)
    load = partial(DataLoader, data, batch_sampler=batches, collate_fn=collate)
    spawned = load(num_workers=1, multiprocessing_context="spawn")
    count = 0
    for (batch, targets), (other, others) in zip(load(), spawned, strict=True):
        torch.testing.assert_close(batch.to_dense(), other.to_dense(), rtol=0, atol=0)
        torch.testing.assert_close(targets, others)
        count += 1
    assert count == 3
