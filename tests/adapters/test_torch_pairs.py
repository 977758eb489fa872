"""The order in which pairs are multiplied: each once, by lanes that share no row."""

import pytest
import torch

from spcnn_lightning.adapters import torch_rows
from spcnn_lightning.adapters.torch_pairs import Pairs
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map

SUBMANIFOLD = ConvGeometry.submanifold((3, 3))


def map_of(geometry, shuffled=False):
    generator = torch.Generator().manual_seed(6)
    coords = (torch.rand(4, 12, 11, generator=generator) < 0.4).nonzero().int()
    if shuffled:
        coords = coords[torch.randperm(len(coords), generator=generator)]
    return kernel_map(ActiveSet(coords, (12, 11), 4), geometry)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("side", ["outputs", "inputs"])
@pytest.mark.parametrize("geometry", [SUBMANIFOLD, ConvGeometry((3, 2), 2)], ids=str)
@pytest.mark.parametrize(("block", "threads"), [(1, 1), (40, 1), (40, 3), (10**6, 1)])
def test_every_pair_is_there_once(block, threads, geometry, side, shuffled, monkeypatch):
    monkeypatch.setattr(torch_rows, "LEAST_ROWS", 1)
    monkeypatch.setattr(torch_rows, "CACHE_BLOCK", block)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    rulebook = map_of(geometry, shuffled)
    sources, targets, counts = rulebook.pairs
    rows = rulebook.num_outputs
    if side == "inputs":
        sources, targets, rows = targets, sources, rulebook.num_inputs
    taps = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    expected = {*zip(taps.tolist(), sources.tolist(), targets.tolist(), strict=True)}
    found = Pairs(sources, targets, counts, rows, width=4)
    seen = []
    reached = torch.zeros(rows, dtype=torch.int64)
    for lane in found.lanes:
        own = torch.zeros(rows, dtype=torch.bool)
        for chunk in lane:
            reached[chunk.rows] += 1
            own[chunk.rows] = True
            for group in chunk.groups:
                starts = [pairs.start for _, pairs in group]
                assert starts[1:] == [pairs.stop for _, pairs in group[:-1]], "side by side"
                assert sum(pairs.stop - pairs.start for _, pairs in group) <= found.longest
                for tap, pairs in group:
                    both = torch.stack([found.sources[pairs], found.targets[pairs]], 1)
                    seen += [(tap, *line) for line in both.tolist()]
                    assert bool(own[found.targets[pairs]].all()), "of rows that have begun"
    assert reached.tolist() == [1] * rows
    if found.same is not None:
        seen += [(found.same, row, row) for row in range(rows)]
    assert (found.same == 4) is (geometry is SUBMANIFOLD)
    assert len(seen) == len(expected)
    assert set(seen) == expected
    if not shuffled:
        assert len(found.lanes) == threads


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_each_lane_has_the_block_of_one_thread(threads, monkeypatch):
    monkeypatch.setattr(torch_rows, "LEAST_ROWS", 1)
    monkeypatch.setattr(torch_rows, "CACHE_BLOCK", 40)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    rulebook = map_of(SUBMANIFOLD)
    found = Pairs(*rulebook.pairs, rulebook.num_outputs, width=4)
    assert len(found.lanes) == threads
    assert found.longest == 10
