"""Kernel maps by compiled loops, against those of torch's operations."""

import pytest
import torch

from spcnn_lightning import compiled
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map

pytest.importorskip("numba")

FAR = 2**29
GEOMETRIES = [
    ConvGeometry((3, 3)),
    ConvGeometry((3, 2), (2, 1), 1, (1, 2)),
    ConvGeometry((2, 2), 3),
    ConvGeometry.submanifold((3, 3)),
    # Windows that do not lead from a site to itself.
    ConvGeometry((3, 3), 1, 1, activity=Activity.SUBMANIFOLD, offsets=[(0, 0)]),
    ConvGeometry((3, 3), 1, 1, activity=Activity.SUBMANIFOLD, offsets=[(0, 2), (1, 2), (2, 2)]),
]


def build(coords, shape, samples, geometry, worth, monkeypatch):
    monkeypatch.setattr(compiled, "WORTH_COMPILING", worth)
    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(compiled, "WAKING", 0)
    sites = ActiveSet(coords, shape, samples)
    found = kernel_map(sites, geometry)
    return sites, found, found.windows, found.pairs


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("place", ["whole field", "corners of a large one"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_maps_are_those_of_torch(geometry, place, shuffled, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(7)
    mask = torch.rand(5, 13, 11, generator=generator) < 0.3
    mask[2] = False
    coords, shape = mask.nonzero().int(), (13, 11)
    if place != "whole field":
        shape = (FAR, 2 * FAR - 1)
        ends = torch.tensor([[0, FAR - 13, FAR - 13, 0], [0, 0, 2 * FAR - 12, 2 * FAR - 12]]).T
        corners = torch.cat([ends, torch.tensor([[7, 9]])]).int()
        coords[:, 1:] += corners[coords[:, 0].long()]
    if shuffled:
        coords = coords[torch.randperm(len(coords), generator=generator)]
    operands = coords, shape, 5, geometry
    _sites, expected, windows, pairs = build(*operands, 10**18, monkeypatch)
    _same_sites, found, found_windows, found_pairs = build(*operands, 0, monkeypatch)
    assert torch.equal(found.in_to_out, expected.in_to_out)
    assert torch.equal(found.output.coords, expected.output.coords)
    assert found.num_pairs == expected.num_pairs
    assert torch.equal(found_windows, windows)
    assert all(map(torch.equal, found_pairs[:2], pairs[:2]))
    assert found_pairs[2] == pairs[2]
