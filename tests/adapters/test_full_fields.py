"""Full fields in the torch backend: dense convolution and pooling of the rows as they are."""

import pytest
import torch

from spcnn_lightning import compiled
from spcnn_lightning.adapters import torch_backend
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.full_field import FullFieldMap
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional

CONVS = [
    ((40,), ConvGeometry((3,), stride=2)),
    ((17, 15), ConvGeometry((3, 2))),
    ((17, 15), ConvGeometry((2, 3), stride=(2, 1), dilation=(1, 2))),
    ((7, 8, 6), ConvGeometry((2, 2, 3))),
]


def full_batch(shape, channels, samples=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    sites = ActiveSet.full(shape, samples)
    rows = torch.randn(len(sites), channels, generator=generator, dtype=dtype)
    ground = torch.randn(channels, generator=generator, dtype=dtype)
    return SparseBatch(sites, rows.requires_grad_(), ground.requires_grad_())


def by_windows(function, monkeypatch):
    """Do it without the ways for full fields."""
    with monkeypatch.context() as patch:
        patch.setattr(TorchBackend, "takes_ground", lambda *arguments: False)
        patch.setattr(functional, "has_dense_pooling", lambda *arguments: False)
        return function()


@pytest.fixture
def taken(monkeypatch):
    """Names of the dense ways that were taken."""
    names = []
    convolve, pool = torch_backend.convolve_field, functional.max_of_fields

    def convolved(*arguments):
        names.append("convolution")
        return convolve(*arguments)

    def pooled(*arguments):
        names.append("pooling")
        return pool(*arguments)

    monkeypatch.setattr(torch_backend, "convolve_field", convolved)
    monkeypatch.setattr(functional, "max_of_fields", pooled)
    return names


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("shape", "geometry"), CONVS)
def test_convolution_is_that_of_the_windows(shape, geometry, with_bias, taken, monkeypatch):
    batch = full_batch(shape, 5)
    weight = torch.randn(geometry.num_taps, 5, 7, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(7, dtype=torch.float64, requires_grad=True) if with_bias else None
    leaves = [batch.features, weight, *([bias] if with_bias else [])]

    def results():
        out = functional.sparse_conv(batch, weight, bias, geometry, "torch")
        seed = torch.cos(torch.arange(out.features.numel(), dtype=torch.float64))
        return [
            out.features,
            out.ground_state,
            *torch.autograd.grad(out.features, leaves, seed.view_as(out.features)),
        ]

    found = results()
    assert taken == ["convolution"]
    for one, other in zip(found, by_windows(results, monkeypatch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("shape", "geometry"), [*CONVS, ((9, 9), ConvGeometry((3, 3), stride=2))])
def test_pooling_is_that_of_the_windows(shape, geometry, taken, monkeypatch):
    batch = full_batch(shape, 5)
    with torch.no_grad():  # ties, in windows that overlap
        batch.features.mul_(2).round_()

    def results():
        out = functional.max_pool(batch, geometry)
        seed = torch.cos(torch.arange(out.features.numel(), dtype=torch.float64))
        (gradient,) = torch.autograd.grad(out.features, batch.features, seed.view_as(out.features))
        return out.features, out.ground_state, gradient

    found = results()
    assert taken == ["pooling"]
    for one, other in zip(found, by_windows(results, monkeypatch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "geometry", "c_out"),
    [
        # oneDNN is wrong where the last axis has one output and a stride.
        ((10, 4), ConvGeometry((2, 3), stride=(1, 2)), 4),
        ((12, 3), ConvGeometry((3, 3), stride=(1, 2)), 4),
        ((6, 5, 4), ConvGeometry((2, 2, 3), stride=(2, 1, 3)), 16),
        ((8, 2), ConvGeometry((2, 2), stride=2), 4),
        # torch's backward refuses other weights than contiguous ones for one channel.
        ((12, 12), ConvGeometry((3, 3)), 1),
    ],
)
def test_where_torchs_own_convolutions_fail(shape, geometry, c_out, dtype, taken):
    full = full_batch(shape, 3)
    most = ActiveSet(full.coords[1:], shape, 8)  # by the box, if at all
    for batch in (full, SparseBatch(most, full.features[1:], full.ground_state)):
        weight = torch.randn(geometry.num_taps, 3, c_out, dtype=torch.float64)
        weight = weight.to(dtype).requires_grad_()
        short = batch.to(dtype)
        found = functional.sparse_conv(short, weight, None, geometry, "torch").to_dense()
        wide = weight.detach().double().requires_grad_()
        expected = conv_of_fields(short.to(torch.float64), wide, geometry)
        scale = float(expected.detach().abs().max())
        tolerance = {8: 1e-12, 4: 2e-5, 2: 2e-2}[dtype.itemsize]
        torch.testing.assert_close(found.double(), expected, atol=tolerance * scale, rtol=0)
        seed = torch.cos(torch.arange(found.numel(), dtype=torch.float64)).view_as(found)
        (gradient,) = torch.autograd.grad(found, weight, seed.to(dtype))
        (exact,) = torch.autograd.grad(expected, wide, seed)
        assert (gradient.double() - exact).norm() < 2 * tolerance * exact.norm()


def conv_of_fields(batch, weight, geometry):
    """By the definition, window by window, with no help of torch's convolutions."""
    field = batch.to_dense()
    for axis, (size, step, reach) in enumerate(
        zip(geometry.kernel_size, geometry.stride, geometry.dilation, strict=True)
    ):
        assert reach == 1
        field = field.unfold(axis + 2, size, step)
    windows = field.flatten(2 + geometry.dimensions)
    kernel = weight.reshape(-1, *weight.shape[1:])
    return torch.einsum("bc...k,kcd->bd...", windows, kernel)


def test_rows_lie_as_everywhere():
    batch = full_batch((40,), 5, samples=1)
    weight = torch.randn(3, 5, 7, dtype=torch.float64)
    out = functional.sparse_conv(batch, weight, None, ConvGeometry((3,)), "torch")
    assert out.features.is_contiguous()
    assert functional.max_pool(out, ConvGeometry((2,))).features.is_contiguous()


def test_autocast_with_a_bias():
    batch = full_batch((12, 12), 8, dtype=torch.float32)
    weight, bias = torch.randn(9, 8, 8), torch.randn(8)
    expected = functional.sparse_conv(batch, weight, bias, ConvGeometry((3, 3)), "torch")
    with torch.autocast("cpu", torch.bfloat16):
        found = functional.sparse_conv(batch, weight, bias, ConvGeometry((3, 3)), "torch")
    assert found.features.dtype is found.ground_state.dtype is torch.bfloat16
    error = (found.features.float() - expected.features).norm() / expected.features.norm()
    assert error < 1e-2


def test_nan_wins_a_pool():
    batch = full_batch((4, 4), 2)
    with torch.no_grad():
        batch.features[5, 1] = torch.nan
    out = functional.max_pool(batch, ConvGeometry((2, 2), stride=2))
    assert out.features.isnan().nonzero().tolist() == [[0, 1]]


def test_few_rows_do_not_pay_for_the_order_of_the_weights(taken):
    batch = full_batch((2, 2), 60, samples=3)
    weight = torch.randn(4, 60, 70, dtype=torch.float64)
    functional.sparse_conv(batch, weight, None, ConvGeometry((2, 2)), "torch")
    assert taken == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype, taken):
    batch = full_batch((12, 12), 8)
    weight = torch.randn(9, 8, 8, dtype=torch.float64)
    expected = functional.sparse_conv(batch, weight, None, ConvGeometry((3, 3)), "torch")
    taken.clear()
    found = functional.sparse_conv(
        batch.to(dtype), weight.to(dtype), None, ConvGeometry((3, 3)), "torch"
    )
    assert taken == ([] if dtype is torch.float16 else ["convolution"])
    error = (found.features.double() - expected.features).norm() / expected.features.norm()
    assert error < {4: 1e-6, 2: 1e-2}[dtype.itemsize]
    functional.max_pool(batch.to(dtype), ConvGeometry((2, 2), stride=2))


def test_a_network_keeps_its_fields_full(taken, monkeypatch):
    from spcnn_lightning import DeepCNet

    monkeypatch.setattr(compiled, "WORTH_COMPILING", 10**18)  # those loops pool, too
    batch = full_batch((24, 24), 2, dtype=torch.float32)
    DeepCNet(3, 16, 2, 4)(batch).sum().backward()
    assert taken.count("pooling") == 3
    assert taken.count("convolution") >= 2
    sites = batch.active_set
    while found := sites.maps_of("core"):
        ((_, rulebook),) = found
        assert isinstance(rulebook, FullFieldMap)
        sites = rulebook.output
    assert sites.spatial_shape == (1, 1)
