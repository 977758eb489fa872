"""The ways that take the ground state along, against the formula around `convolve`."""

import pytest
import torch

from spcnn_lightning import compiled
from spcnn_lightning.adapters import torch_backend, torch_rows
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.adapters.torch_ground import (
    BY_TAP,
    GATHER,
    PROJECT,
    WithGround,
)
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional

WAYS = [GATHER, PROJECT, BY_TAP]
GEOMETRIES = [
    ConvGeometry((2, 2)),
    ConvGeometry((3, 2), (2, 1), 1),
    ConvGeometry((3, 3), 2),
    ConvGeometry.submanifold((3, 3)),
]


@pytest.fixture(autouse=True, params=["torch", "numba"])
def loops(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "WORTH_COMPILING", 0 if request.param == "numba" else 10**18)


@pytest.fixture(params=[1, 5, 10**6])
def block(request, monkeypatch):
    monkeypatch.setattr(torch_rows, "LEAST_ROWS", request.param)
    monkeypatch.setattr(torch_rows, "CACHE_BLOCK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # so that there are lanes


@pytest.fixture
def operands():
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(3, 7, 6, generator=generator) < 0.3
    mask[0] = False
    sites = ActiveSet(mask.nonzero().int(), (7, 6), 3)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    return sites, random(len(sites), 3), random(3), random(9, 3, 5), random(5)


def results(sites, x, ground, weight, bias, geometry, wanted):
    """Rows, the new ground state, and gradients of a function of both."""
    weight = weight[: geometry.num_taps]
    batch = SparseBatch(sites, x, ground)
    out = functional.sparse_conv(batch, weight, bias, geometry, "torch")
    rows, new = out.features, out.ground_state
    seeds = [torch.cos(torch.arange(t.numel(), dtype=t.dtype)).view_as(t) for t in (rows, new)]
    return [rows, new, *torch.autograd.grad([rows, new], wanted, seeds)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_it_is_the_formula(geometry, with_bias, way, operands, block, monkeypatch):
    sites, x, ground, weight, bias = operands
    bias = bias if with_bias else None
    leaves = [leaf for leaf in (x, ground, weight, bias) if leaf is not None]
    monkeypatch.setattr(TorchBackend, "takes_ground", lambda *operands: False)
    expected = results(sites, x, ground, weight, bias, geometry, leaves)
    monkeypatch.setattr(TorchBackend, "takes_ground", lambda *operands: True)
    plain = {with_ground: plain for plain, with_ground in torch_backend._WITH_GROUND.items()}[way]
    monkeypatch.setattr(torch_backend, "_cheapest", lambda *operands: (plain, 0))
    found = results(sites, x, ground, weight, bias, geometry, leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("way", WAYS)
def test_each_gradient_alone(way, place, operands):
    sites, *leaves = operands
    geometry = ConvGeometry((3, 3))
    expected = results(sites, *leaves, geometry, [leaves[place]])[-1]
    leaves = [leaf.detach() for leaf in leaves]
    leaves[place].requires_grad_()
    rulebook = kernel_map(sites, geometry)
    rows, new = WithGround.apply(*leaves, rulebook, way)
    seeds = [torch.cos(torch.arange(t.numel(), dtype=t.dtype)).view_as(t) for t in (rows, new)]
    (found,) = torch.autograd.grad([rows, new], leaves[place], seeds)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("way", "channels"), [(GATHER, 200), (PROJECT, 1)])
def test_it_is_taken_where_it_is_the_cheaper_way(way, channels, operands, monkeypatch):
    sites, x, ground, *_ = operands
    taken = []
    apply = WithGround.apply
    monkeypatch.setattr(WithGround, "apply", lambda *a: taken.append(a[-1]) or apply(*a))
    weight = torch.randn(4, 3, channels, dtype=torch.float64)
    batch = SparseBatch(sites, x, ground)
    functional.sparse_conv(batch, weight, None, ConvGeometry((2, 2)), "torch")
    assert taken == [way]


@pytest.mark.parametrize("way", WAYS)
def test_a_result_may_be_changed_in_place(way, operands):
    sites, *leaves = operands
    rows, _ = WithGround.apply(*leaves, kernel_map(sites, ConvGeometry((3, 3))), way)
    rows.mul_(2).sum().backward()
    once = leaves[0].grad.clone()
    leaves[0].grad = None
    rows, _ = WithGround.apply(*leaves, kernel_map(sites, ConvGeometry((3, 3))), way)
    rows.sum().backward()
    torch.testing.assert_close(once, 2 * leaves[0].grad)
