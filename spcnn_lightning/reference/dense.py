"""The dense definition of each operation, which the sparse form has to equal.

Nothing here is shared with the sparse path but `ConvGeometry`, whose one relation
``input = stride * output + dilation * tap - padding_low`` is the definition of a window. Fields
have shape (B, C, *spatial_shape) with any number of spatial axes; activity masks are bool of shape
(B, *spatial_shape). torch has convolution and pooling for up to three axes; with more, slices are
summed one tap at a time, which is slow and serves tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from spcnn_lightning.core.geometry import ConvGeometry

TORCH_DIMENSIONS = 3
"""Most spatial axes that torch's own convolution and max pooling know."""

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_MAX_POOLINGS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


def dense_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    ground_state: Tensor | None = None,
) -> Tensor:
    """Convolve a field whose padding holds the ground state.

    Args:
        x: Shape (B, C_in, *spatial_shape).
        weight: Shape (K, C_in, C_out), taps in the order of ``geometry.offsets``.
        bias: Shape (C_out,), or None.
        geometry: The window; its activity rule is not looked at.
        ground_state: Shape (C_in,): the value of the padding; zeros if not given.

    Returns:
        Shape (B, C_out, *output_shape).

    Raises:
        ValueError: If the window does not fit into the field.
    """
    geometry.output_shape(x.shape[2:])
    field = extend(x, geometry, 0.0 if ground_state is None else ground_state)
    if geometry.dimensions > TORCH_DIMENSIONS:
        out = torch.stack(
            [
                torch.einsum("bi...,io->bo...", slots, matrix)
                for slots, matrix in zip(slots_of_taps(field, geometry), weight, strict=True)
            ]
        ).sum(0)
        return out if bias is None else out + _along_channels(bias, out)
    convolution = _CONVOLUTIONS[geometry.dimensions - 1]
    kernel = full_kernel(weight, geometry)
    return convolution(field, kernel, bias, geometry.stride, 0, geometry.dilation)


def dense_submanifold_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    *,
    ground_state: Tensor,
    mask: Tensor,
) -> Tensor:
    """Convolve at the sites of ``mask``; every other site takes the new ground state.

    ``mask`` is bool, shape (B, *spatial_shape), and the geometry keeps the field's shape. Other
    arguments as in `dense_conv`.
    """
    everywhere = dense_conv(x, weight, bias, geometry, ground_state)
    new_ground = ground_after_conv(ground_state, weight, bias, geometry)
    return torch.where(mask[:, None], everywhere, _along_channels(new_ground, everywhere))


def dense_inverse_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    *,
    ground_state: Tensor,
    mask: Tensor,
) -> Tensor:
    """Return ``conv_transpose(x - ground_state) + bias`` at the sites of ``mask``, elsewhere bias.

    Args:
        x: Shape (B, C_in, *output_shape): a field that the window leads to.
        weight: Shape (K, C_in, C_out), taps in the order of ``geometry.offsets``.
        bias: Shape (C_out,), or None.
        geometry: The window that leads from the finer field to this one.
        ground_state: Shape (C_in,), of ``x``.
        mask: bool, shape (B, *spatial_shape): the active sites of the finer field.

    Returns:
        Shape (B, C_out, *spatial_shape).
    """
    excess = x - _along_channels(ground_state, x)
    spread = conv_transpose(excess, weight, geometry, tuple(mask.shape[1:]))
    out = torch.where(mask[:, None], spread, 0.0)
    return out if bias is None else out + _along_channels(bias, out)


def conv_transpose(
    x: Tensor, weight: Tensor, geometry: ConvGeometry, spatial_shape: tuple[int, ...]
) -> Tensor:
    """Return the transpose of a convolution, from its output field back to its input field.

    Each site of ``x`` (B, C_in, *output_shape) adds ``x @ weight[tap]`` to the site under each of
    its taps; what falls into the padding is lost. Result: (B, C_out, *spatial_shape).
    """
    padded = [n + sum(pair) for n, pair in zip(spatial_shape, geometry.padding, strict=True)]
    field = x.new_zeros(x.shape[0], weight.shape[2], *padded)
    for slots, matrix in zip(slots_of_taps(field, geometry), weight, strict=True):
        slots.add_(torch.einsum("bi...,io->bo...", x, matrix))
    crops = [
        slice(low, low + n) for n, (low, _) in zip(spatial_shape, geometry.padding, strict=True)
    ]
    inside = (slice(None), slice(None), *crops)
    return field[inside]


def ground_after_conv(
    ground_state: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
) -> Tensor:
    """Return the response, shape (C_out,), to a window that holds the ground state alone."""
    extent = [d * (k - 1) + 1 for k, d in zip(geometry.kernel_size, geometry.dilation, strict=True)]
    window = ground_state.view(1, -1, *[1] * len(extent)).expand(-1, -1, *extent)
    bare = ConvGeometry(geometry.kernel_size, dilation=geometry.dilation, offsets=geometry.offsets)
    return dense_conv(window, weight, bias, bare).flatten()


def dense_max_pool(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """Take the maximum of each window; the first one receives the gradient, padding never counts.

    ``x`` has shape (B, C, *spatial_shape); the result (B, C, *output_shape).
    """
    geometry.output_shape(x.shape[2:])
    field = extend(x, geometry, -torch.inf)
    if geometry.dimensions > TORCH_DIMENSIONS or not geometry.is_full_window:
        return torch.stack(list(slots_of_taps(field, geometry))).max(0).values
    pooling = _MAX_POOLINGS[geometry.dimensions - 1]
    out: Tensor = pooling(field, geometry.kernel_size, geometry.stride, 0, geometry.dilation)
    return out


def dense_avg_pool(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """Take the mean of each window over its slots inside the field; shapes as `dense_max_pool`."""
    sums = torch.stack(list(slots_of_taps(extend(x, geometry, 0.0), geometry))).sum(0)
    inside = extend(torch.ones_like(x[:1, :1]), geometry, 0.0)
    return sums / torch.stack(list(slots_of_taps(inside, geometry))).sum(0)


def dilate_mask(mask: Tensor, geometry: ConvGeometry) -> Tensor:
    """Return the sites whose window holds an active site: bool, shape (B, *output_shape)."""
    field = extend(mask[:, None].float(), geometry, 0.0)
    return torch.stack(list(slots_of_taps(field, geometry))).amax(0)[:, 0] > 0


def dense_batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, *, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    """Normalise with the given mean and (biased) variance, both of shape (C,)."""
    centred = (x - _along_channels(mean, x)) / torch.sqrt(_along_channels(var, x) + eps)
    return centred * _along_channels(weight, x) + _along_channels(bias, x)


def site_statistics(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, int]:
    """Return mean and biased variance of each channel, and the number of sites they are from.

    Args:
        x: Shape (B, C, *spatial_shape).
        mask: bool, shape (B, *spatial_shape): the sites to look at; all of them if not given.
    """
    rows = x.movedim(1, -1)
    rows = rows.flatten(0, -2) if mask is None else rows[mask]
    count = rows.shape[0]
    mean = rows.sum(0) / max(1, count)
    return mean, (rows - mean).square().sum(0) / max(1, count), count


def extend(x: Tensor, geometry: ConvGeometry, value: Tensor | float) -> Tensor:
    """Return the field with its padding, which holds ``value``: a number, or shape (C,)."""
    pads = [pad for pair in reversed(geometry.padding) for pad in pair]
    if not any(pads):
        return x
    if not isinstance(value, Tensor):
        return F.pad(x, pads, value=value)
    inside = F.pad(torch.ones_like(x[:1, :1]), pads) > 0
    return torch.where(inside, F.pad(x, pads), _along_channels(value, x))


def slots_of_taps(field: Tensor, geometry: ConvGeometry) -> Iterator[Tensor]:
    """Yield for each tap what lies under it, shape (B, C, *output_shape).

    ``field`` includes the padding, so that ``input = stride * output + dilation * tap``.
    """
    bare = ConvGeometry(geometry.kernel_size, geometry.stride, dilation=geometry.dilation)
    shape = bare.output_shape(field.shape[2:])
    for tap in geometry.offsets:
        windows = [
            slice(d * t, d * t + s * (n - 1) + 1, s)
            for t, n, s, d in zip(tap, shape, geometry.stride, geometry.dilation, strict=True)
        ]
        window = (slice(None), slice(None), *windows)
        yield field[window]


def full_kernel(weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """Return the weight as torch has it, (C_out, C_in, *kernel_size), with zeros at absent taps."""
    if not geometry.is_full_window:
        positions = itertools.product(*(range(size) for size in geometry.kernel_size))
        number = {position: row for row, position in enumerate(positions)}
        rows = torch.tensor([number[tap] for tap in geometry.offsets], device=weight.device)
        full = weight.new_zeros(len(number), *weight.shape[1:])
        weight = full.index_copy(0, rows, weight)
    kernel = weight.reshape(*geometry.kernel_size, *weight.shape[1:])
    # Contiguous, for the backward pass of torch's convolution of float64 fields needs it.
    return kernel.movedim((-1, -2), (0, 1)).contiguous()


def _along_channels(vector: Tensor, field: Tensor) -> Tensor:
    """Return a vector (C,) in a shape that broadcasts over a field (B, C, *spatial_shape)."""
    return vector.view(-1, *[1] * (field.ndim - 2))
