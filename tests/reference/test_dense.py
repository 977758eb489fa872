"""The definitions themselves, against torch where torch has the operation, else by counting."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.reference import dense

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SHAPES = {1: (9,), 2: (7, 6), 3: (5, 4, 6), 4: (4, 3, 3, 5)}


def field(dimensions, channels=3, samples=2):
    return torch.randn(samples, channels, *SHAPES[dimensions], dtype=torch.float64)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_convolution_with_a_zero_ground_state_is_that_of_torch(dimensions):
    kernel = torch.randn(4, 3, *(3, 2, 3)[:dimensions], dtype=torch.float64)
    weight, bias = kernel.movedim((0, 1), (-1, -2)).reshape(-1, 3, 4), torch.randn(4).double()
    x = field(dimensions)
    for stride, padding, dilation in [(1, 0, 1), (2, 1, 1), (1, 2, 2)]:
        geometry = ConvGeometry(kernel.shape[2:], stride, padding, dilation)
        expected = CONVOLUTIONS[dimensions](x, kernel, bias, stride, padding, dilation)
        torch.testing.assert_close(dense.dense_conv(x, weight, bias, geometry), expected)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_sums_over_slices_are_the_same_convolution(dimensions, monkeypatch):
    geometry = ConvGeometry((3, 2, 2)[:dimensions], (2, 1, 1)[:dimensions], 1, 2)
    x, weight = field(dimensions), torch.randn(geometry.num_taps, 3, 4, dtype=torch.float64)
    ground = torch.randn(3, dtype=torch.float64)
    expected = dense.dense_conv(x, weight, None, geometry, ground)
    pooled = dense.dense_max_pool(x, geometry)
    monkeypatch.setattr(dense, "TORCH_DIMENSIONS", 0)
    torch.testing.assert_close(dense.dense_conv(x, weight, None, geometry, ground), expected)
    assert torch.equal(dense.dense_max_pool(x, geometry), pooled)


def test_a_convolution_of_four_dimensions_is_its_sum():
    geometry = ConvGeometry((2, 1, 3, 2), (1, 2, 1, 2), ((1, 0), (0, 1), (0, 0), (1, 1)))
    x, weight = field(4), torch.randn(12, 3, 2, dtype=torch.float64)
    bias, ground = torch.randn(2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    out = dense.dense_conv(x, weight, bias, geometry, ground)
    for place in [(0, 0, 0, 0), (1, 1, 0, 2), (3, 0, 0, 1), (0, 1, 0, 2)]:
        expected = bias.clone()
        for tap, matrix in zip(geometry.offsets, weight, strict=True):
            site = [
                s * o + t - low
                for s, o, t, (low, _) in zip(
                    geometry.stride, place, tap, geometry.padding, strict=True
                )
            ]
            inside = all(0 <= i < n for i, n in zip(site, SHAPES[4], strict=True))
            expected += (x[(0, slice(None), *site)] if inside else ground) @ matrix
        torch.testing.assert_close(out[(0, slice(None), *place)], expected)


def test_padding_holds_the_ground_state():
    geometry = ConvGeometry((2, 3), 1, ((2, 0), (1, 3)))
    x, ground = field(2), torch.randn(3, dtype=torch.float64)
    weight = torch.randn(6, 3, 4, dtype=torch.float64)
    around = ground.view(3, 1, 1).expand(2, 3, 9, 10).clone()
    around[:, :, 2:, 1:7] = x
    expected = dense.dense_conv(around, weight, None, ConvGeometry((2, 3)))
    torch.testing.assert_close(dense.dense_conv(x, weight, None, geometry, ground), expected)


def test_a_field_of_ground_state_answers_with_the_new_ground_state():
    geometry = ConvGeometry((2, 3), 2, ((2, 0), (1, 3)), (1, 2))
    ground, bias = torch.randn(3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    weight = torch.randn(6, 3, 4, dtype=torch.float64)
    x = ground.view(1, 3, 1, 1).expand(2, 3, 7, 6)
    out = dense.dense_conv(x, weight, bias, geometry, ground)
    new_ground = dense.ground_after_conv(ground, weight, bias, geometry)
    torch.testing.assert_close(out, new_ground.view(1, 4, 1, 1).expand_as(out))


def test_absent_taps_are_zeros_of_the_full_kernel():
    geometry = ConvGeometry((2, 3), offsets=[(0, 1), (1, 2)])
    weight = torch.randn(2, 3, 4, dtype=torch.float64)
    x = field(2)
    expected = torch.einsum("bchw,co->bohw", x[:, :, :-1, 1:-1], weight[0])
    expected = expected + torch.einsum("bchw,co->bohw", x[:, :, 1:, 2:], weight[1])
    torch.testing.assert_close(dense.dense_conv(x, weight, None, geometry), expected)


@pytest.mark.parametrize("geometry", [ConvGeometry((2, 2), 2), ConvGeometry((3, 2), (2, 1), 1)])
def test_pooling_is_that_of_torch(geometry):
    x = field(2)
    pads = tuple(low for low, _ in geometry.padding)
    arguments = (x, geometry.kernel_size, geometry.stride, pads)
    torch.testing.assert_close(dense.dense_max_pool(x, geometry), F.max_pool2d(*arguments))
    expected = F.avg_pool2d(*arguments, count_include_pad=False)
    torch.testing.assert_close(dense.dense_avg_pool(x, geometry), expected)


def test_the_first_maximum_takes_the_gradient_in_four_dimensions_too():
    x = torch.zeros(1, 1, 2, 2, 2, 2, requires_grad=True)
    dense.dense_max_pool(x, ConvGeometry((2, 2, 2, 2))).sum().backward()
    assert x.grad.flatten().tolist() == [1.0] + [0.0] * 15


@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry((3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2)),
        ConvGeometry((2, 2), 3),
        ConvGeometry((3, 3), offsets=[(0, 0), (2, 1)]),
    ],
    ids=str,
)
def test_dilation_of_a_mask_counts_windows_that_hold_an_active_site(geometry):
    mask = torch.rand(2, 7, 6, generator=torch.Generator().manual_seed(0)) < 0.2
    out = dense.dilate_mask(mask, geometry)
    assert out.shape[1:] == geometry.output_shape((7, 6))
    for sample, *place in itertools.product(range(2), *(range(n) for n in out.shape[1:])):
        active = False
        for tap in geometry.offsets:
            site = [
                s * o + d * t - low
                for s, o, d, t, (low, _) in zip(
                    geometry.stride, place, geometry.dilation, tap, geometry.padding, strict=True
                )
            ]
            if all(0 <= i < n for i, n in zip(site, (7, 6), strict=True)):
                active |= bool(mask[(sample, *site)])
        assert bool(out[(sample, *place)]) == active


def test_a_window_that_does_not_fit_is_refused():
    for operation in (dense.dense_max_pool, dense.dense_avg_pool):
        with pytest.raises(ValueError, match="does not fit into a field"):
            operation(field(2), ConvGeometry((9, 9)))
    with pytest.raises(ValueError, match="does not fit into a field"):
        dense.dense_conv(field(2), torch.ones(81, 3, 1).double(), None, ConvGeometry((9, 9)))


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 2, 2)])
def test_transposed_convolution_equals_torch(stride, padding, dilation):
    geometry = ConvGeometry((3, 2), stride, padding, dilation)
    generator = torch.Generator().manual_seed(0)
    shape = (11, 9)
    x = torch.randn(2, 4, *geometry.output_shape(shape), generator=generator).double()
    weight = torch.randn(6, 4, 5, generator=generator).double()
    kernel = weight.view(3, 2, 4, 5).permute(2, 3, 0, 1)
    extents = [dilation * 2 + 1, dilation + 1]
    rest = [(n + 2 * padding - e) % stride for n, e in zip(shape, extents, strict=True)]
    expected = F.conv_transpose2d(x, kernel, None, stride, padding, rest, 1, dilation)
    torch.testing.assert_close(dense.conv_transpose(x, weight, geometry, shape), expected)
