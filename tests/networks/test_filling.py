"""Fields that are nearly full are computed whole: the same function, in fewer ways."""

import pytest
import torch

from spcnn_lightning import DeepCNet, SparseBatch
from spcnn_lightning.adapters import get_backend, torch_full
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.networks import SparseNetwork
from spcnn_lightning.nn import MaxPool, SparseConv, SubmanifoldConv, functional


def batch_at(density, dtype=torch.float32, shape=(24, 24), samples=6, channels=2):
    generator = torch.Generator().manual_seed(4)
    mask = torch.rand(samples, *shape, generator=generator) < density
    sites = ActiveSet(mask.nonzero().int(), shape, samples)
    sites = ActiveSet(sites.coords.flip(0), shape, samples)  # rows in no special order
    rows = torch.randn(len(sites), channels, generator=generator, dtype=dtype)
    ground = torch.randn(channels, generator=generator, dtype=dtype)
    return SparseBatch(sites, rows.requires_grad_(), ground.requires_grad_())


@pytest.fixture
def filled(monkeypatch):
    """Whether each convolution of a network had its field filled."""
    found, fill = [], functional.fill
    ask = functional.fill_for_speed

    def asked(*arguments):
        found.append(False)
        return ask(*arguments)

    def told(batch):
        found[-1] = True
        return fill(batch)

    monkeypatch.setattr(functional, "fill", told)
    monkeypatch.setattr(functional, "fill_for_speed", asked)
    return found


def gradients(net, batch):
    scores = net(batch)
    seed = torch.cos(torch.arange(scores.numel(), dtype=scores.dtype)).view_as(scores)
    leaves = [batch.features, batch.ground_state, *net.parameters()]
    return [scores, *torch.autograd.grad(scores, leaves, seed)]


@pytest.mark.parametrize("density", [0.03, 0.2, 0.9])
def test_results_do_not_change(density, filled, monkeypatch):
    # Torch is slow in float64 and so nothing would be filled: let it.
    monkeypatch.setattr(torch_full, "DTYPES", (torch.float64,))
    net, batch = DeepCNet(3, 4, 2, 5).double(), batch_at(density, torch.float64)
    found = gradients(net, batch)
    assert filled[0] is (density > 0.1)
    assert any(filled)
    net.fills = False
    filled.clear()
    expected = gradients(net, batch)
    assert filled == []
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_filled_batch_is_the_same_field():
    batch = batch_at(0.4, torch.float64)
    full = functional.fill(batch)
    assert full.active_set.is_full
    assert torch.equal(full.to_dense(), batch.to_dense())
    assert functional.fill(full) is full
    seed = torch.cos(torch.arange(full.features.numel(), dtype=torch.float64))
    leaves = [batch.features, batch.ground_state]
    found = torch.autograd.grad(full.features, leaves, seed.view_as(full.features))
    field = seed.view(6, 24, 24, 2).movedim(-1, 1)
    expected = torch.autograd.grad(batch.to_dense(), leaves, field)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_filled_field_keeps_its_place_in_the_grid():
    batch = batch_at(0.5)
    pooled = functional.max_pool(batch, ConvGeometry((2, 2), 2, ((1, 1), (0, 0))))
    full = functional.fill(pooled).active_set
    assert full.tensor_stride == pooled.active_set.tensor_stride == (2, 2)
    assert full.offset == pooled.active_set.offset == (-1, 0)


@pytest.mark.parametrize(
    ("density", "geometry", "expected"),
    [
        (0.2, ConvGeometry((3, 3)), True),
        (0.05, ConvGeometry((3, 3)), False),  # 37 % of the outputs
        (0.2, ConvGeometry((2, 2)), False),
        (0.5, ConvGeometry((2, 2), 2), True),
        (0.5, ConvGeometry((3, 3), dilation=2), True),
        (0.9, ConvGeometry((3, 3), padding=1), False),
        (0.9, ConvGeometry.submanifold((3, 3)), False),
        (0.9, ConvGeometry((2, 2), offsets=[(0, 0), (1, 1)]), False),
        (1.1, ConvGeometry((3, 3)), True),  # though not in order
    ],
)
def test_where_it_pays(density, geometry, expected):
    batch = batch_at(density)
    engine = get_backend("torch")
    weight = torch.zeros(geometry.num_taps, 2, 8)
    assert engine.prefers_full(batch.active_set, geometry, batch.features, weight) is expected
    if expected:
        share = torch_full._share_of_outputs(batch.active_set, geometry)
        output = kernel_map(batch.active_set, geometry).output
        exact = output.num_sites / (output.batch_size * output.volume)
        assert abs(share - exact) < 0.05


def test_not_in_other_dtypes_nor_twice():
    engine, batch = get_backend("torch"), batch_at(0.9)
    window, weight = ConvGeometry((3, 3)), torch.zeros(9, 2, 8)
    assert not engine.prefers_full(batch.active_set, window, batch.features.double(), weight)
    full = functional.fill(batch).active_set
    assert not engine.prefers_full(full, window, batch.features, weight)
    many = torch.zeros(9, 2000, 8000)  # for the sites of these few fields
    assert not engine.prefers_full(batch.active_set, window, batch.features, many)


def test_a_network_fills_before_plain_convolutions_alone(filled):
    class Own(SparseConv):
        def forward(self, batch):
            return super().forward(batch)

    layers = [SubmanifoldConv(2, 3, (3, 3)), Own(3, 3, (2, 2)), MaxPool((2, 2), 2)]
    net = SparseNetwork([*layers, SparseConv(3, 3, (2, 2))], 3, 2, 2, (24, 24), "mean")
    net(batch_at(0.2))
    assert filled == [True]


def test_another_engine_is_not_asked(filled):
    pytest.importorskip("spconv")
    net = DeepCNet(2, 4, 2, 5)
    net.backend = "spconv"
    net(batch_at(0.9, shape=(12, 12)))
    assert not any(filled)
