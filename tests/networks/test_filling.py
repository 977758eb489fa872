"""Fields that are nearly full are computed whole: the same function, in fewer ways."""

import pytest
import torch
from torch import nn

from spcnn_lightning import DeepCNet, SparseBatch
from spcnn_lightning.adapters import get_backend, torch_full, torch_rows
from spcnn_lightning.core import kernel_map as kernel_map_module
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.modules import count_layers
from spcnn_lightning.networks import SparseNetwork
from spcnn_lightning.networks.sparse_network import without_filling
from spcnn_lightning.nn import (
    Activation,
    BatchNorm,
    MaxPool,
    SparseConv,
    SubmanifoldConv,
    filling,
    functional,
    set_dropout_step,
)


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
    """Whether the fields of each convolution that may be filled were filled."""
    found, fill, ask = [], filling.fill, filling._filled

    def asked(*arguments):
        found.append(False)
        return ask(*arguments)

    def told(batch):
        found[-1] = True
        return fill(batch)

    monkeypatch.setattr(filling, "fill", told)
    monkeypatch.setattr(filling, "_filled", asked)
    return found


def gradients(net, batch):
    scores = net(batch)
    seed = torch.cos(torch.arange(scores.numel(), dtype=scores.dtype)).view_as(scores)
    leaves = [batch.features, batch.ground_state, *net.parameters()]
    return [scores, *torch.autograd.grad(scores, leaves, seed)]


@pytest.mark.parametrize("density", [0.004, 0.2, 0.9])
def test_results_do_not_change(density, filled, monkeypatch):
    # Torch is slow in float64 and so nothing would be filled: let it.
    monkeypatch.setattr(torch_full, "DTYPES", (torch.float64,))
    net, batch = DeepCNet(3, 16, 2, 5).double(), batch_at(density, torch.float64)
    found = gradients(net, batch)
    assert filled[0] is (density > 0.1)
    assert any(filled) is (density > 0.1)
    net.fills = False
    filled.clear()
    expected = gradients(net, batch)
    assert filled == []
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "layer",
    [lambda: SubmanifoldConv(4, 4, (3, 3)), lambda: BatchNorm(4)],
    ids=["submanifold", "norm"],
)
def test_nothing_is_filled_before_a_layer_that_asks_which_sites_are_active(layer, training, filled):
    layers = [SparseConv(2, 4, (3, 3)), layer(), Activation(nn.ReLU()), MaxPool((2, 2), 2)]
    net = SparseNetwork([*layers, SparseConv(4, 5, (2, 2))], 5, 3, 2, (24, 24), "mean")
    net.train(training)
    batch = batch_at(0.15)
    found = gradients(net, batch)
    assert filled == [True], "the last one alone may be"
    net.fills = False
    for one, other in zip(found, gradients(net, batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_another_readout_may_ask_which_sites_are_active(filled):
    class MeanOfActive(nn.Module):
        mode = "mean"

        def forward(self, batch):
            return batch.features.mean(0, keepdim=True).expand(batch.batch_size, -1)

    net = SparseNetwork([SparseConv(2, 4, (3, 3))], 4, 3, 2, (24, 24), "mean")
    net(batch_at(0.2))
    assert filled == [True]
    net.readout = MeanOfActive()
    net(batch_at(0.2))
    assert filled == [True]


def test_dropout_and_autocast(filled):
    net, batch = DeepCNet(3, 16, 2, 5, dropout=0.5), batch_at(0.2)
    found = gradients(net, batch)
    assert filled[0]
    set_dropout_step(net, 0)
    net.fills = False
    for one, other in zip(found, gradients(net, batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    set_dropout_step(net, 0)
    net.fills = True
    with torch.autocast("cpu", torch.bfloat16):
        short = net(batch)
    assert (short.float() - found[0]).norm() < 0.05 * found[0].norm()


def test_what_a_network_hands_out_has_its_own_sites():
    net, batch = DeepCNet(2, 4, 2, 5), batch_at(0.2, shape=(12, 12))
    sites = [count.sites for count in count_layers(net, batch)]
    net.fills = False
    assert sites == [count.sites for count in count_layers(net, batch)]
    expected = net.forward_features(batch).num_sites
    net.fills = True
    assert net.forward_features(batch).num_sites == expected


def test_filling_is_as_before_when_it_was_off():
    one, other = DeepCNet(2, 4, 2, 5), DeepCNet(2, 4, 2, 5)
    other.fills = False
    both = nn.ModuleList([one, other])
    with without_filling(both):
        assert not any(net.fills for net in both)
    assert "fills" not in vars(one)
    assert not other.fills


def test_a_filled_batch_is_the_same_field():
    batch = batch_at(0.4, torch.float64)
    full = filling.fill(batch)
    assert full.active_set.is_full
    assert torch.equal(full.to_dense(), batch.to_dense())
    assert filling.fill(full) is full
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
    full = filling.fill(pooled).active_set
    assert full.tensor_stride == pooled.active_set.tensor_stride == (2, 2)
    assert full.offset == pooled.active_set.offset == (-1, 0)


@pytest.mark.parametrize(
    ("density", "geometry", "expected"),
    [
        (0.2, ConvGeometry((3, 3)), True),
        (0.05, ConvGeometry((3, 3)), False),  # 37 % of the outputs
        (0.1, ConvGeometry((2, 2)), False),
        (0.2, ConvGeometry((2, 2)), True),
        (0.05, ConvGeometry((2, 2), 2), False),  # each site lies in one window
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
    weight = torch.zeros(geometry.num_taps, 9, 32)
    assert engine.prefers_full(batch.active_set, geometry, batch.features, weight) is expected
    if expected:
        share = torch_full.share_of_outputs(batch.active_set, geometry)
        output = kernel_map(batch.active_set, geometry).output
        exact = output.num_sites / (output.batch_size * output.volume)
        assert abs(share - exact) < 0.05


def prefers_full(batch, geometry, c_in=2, c_out=64):
    weight = torch.zeros(geometry.num_taps, c_in, c_out)
    return get_backend("torch").prefers_full(batch.active_set, geometry, batch.features, weight)


def test_not_in_other_dtypes_nor_dimensions_nor_twice():
    window, batch = ConvGeometry((3, 3)), batch_at(0.9)
    assert prefers_full(batch, window)
    assert not prefers_full(batch.to(torch.float64), window)
    assert not prefers_full(filling.fill(batch), window)
    assert not prefers_full(batch, window, 2000, 8000), "many weights for few sites"
    assert not prefers_full(batch_at(0.9, shape=(6, 6, 6, 6)), ConvGeometry((3, 3, 3, 3)))
    assert not prefers_full(batch.to("meta"), window), "on CPUs alone"


def test_large_fields_are_never_touched(monkeypatch):
    """Wide strides and dilations reach all outputs from a few sites."""
    monkeypatch.setattr(torch_full, "share_of_outputs", None)
    coords = torch.tensor([[0, 0, 0], [0, 12287, 12287]], dtype=torch.int32)
    two = SparseBatch(ActiveSet(coords, (12288, 12288), 1), torch.ones(2, 2))
    for geometry in (ConvGeometry((3, 3), dilation=6143), ConvGeometry((2, 2), 6144)):
        assert not prefers_full(two, geometry)
    batch = batch_at(0.9)
    monkeypatch.setattr(torch_rows, "MAX_BUFFER", 6 * 22 * 22 * 64 - 1)
    assert not prefers_full(batch, ConvGeometry((3, 3)))


@pytest.mark.parametrize(
    "geometry",
    [ConvGeometry((3, 3)), ConvGeometry((2, 3), (1, 2)), ConvGeometry((3, 2), dilation=(3, 5))],
)
def test_the_share_of_outputs_is_that_of_the_kernel_map(geometry):
    sites = batch_at(0.02, samples=4).active_set
    output = kernel_map(sites, geometry).output
    exact = output.num_sites / (output.batch_size * output.volume)
    assert torch_full.share_of_outputs(sites, geometry) == pytest.approx(exact, rel=1e-6)


def test_samples_from_all_of_the_batch_decide():
    mask = torch.zeros(12, 24, 24, dtype=torch.bool)
    mask[:4] = True
    mask[4:, :2, :2] = True
    batch = [
        SparseBatch(ActiveSet(m.nonzero().int(), (24, 24), 12), torch.ones(int(m.sum()), 2))
        for m in (mask, mask.flip(0))
    ]
    window = ConvGeometry((3, 3))
    shares = [torch_full.share_of_outputs(one.active_set, window) for one in batch]
    assert all(0.2 < share < 0.6 for share in shares), "a third of the samples are full"


def test_maps_of_a_filled_field_are_kept(monkeypatch):
    net, batch = DeepCNet(2, 4, 2, 5), batch_at(0.5, shape=(12, 12))
    net(batch)
    monkeypatch.setattr(kernel_map_module, "build_kernel_map", None)
    net(batch)


def test_a_network_fills_before_plain_convolutions_alone(filled):
    class Own(SparseConv):
        def forward(self, batch):
            return super().forward(batch)

    def with_own(place):
        layers = [SparseConv(2, 3, (3, 3)), SparseConv(3, 3, (2, 2)), MaxPool((2, 2), 2)]
        layers[place] = Own(*layers[place].weight.shape[1:], layers[place].geometry.kernel_size)
        return SparseNetwork([*layers, SparseConv(3, 3, (2, 2))], 3, 2, 2, (24, 24), "mean")

    with_own(1)(batch_at(0.3))
    assert len(filled) == 1
    with_own(0)(batch_at(0.3))
    assert len(filled) == 1 + 2


def test_another_engine_is_not_asked(filled):
    pytest.importorskip("spconv")
    net = DeepCNet(2, 4, 2, 5)
    net.backend = "spconv"
    net(batch_at(0.9, shape=(12, 12)))
    assert not any(filled)
