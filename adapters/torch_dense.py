"""Torch's dense convolution of the box around the sites, for fields that are full there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spcnn_lightning.adapters import torch_rows
from spcnn_lightning.core.active_set import ravel
from spcnn_lightning.core.full_field import FullFieldMap
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap

DIMENSIONS = range(1, 4)
"""Of torch's dense convolutions."""
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
GATHER_COST = 100
"""Multiply-adds that take the time of moving one number (measured order of magnitude)."""
WEIGHT_COST = 400
"""Multiply-adds that take the time of bringing one weight into the order of oneDNN (measured)."""


class Box:
    """The output sites' box, and the box under its windows, over all samples.

    Args:
        kernel_map: Of full windows, from input sites that it knows.

    Attributes:
        shape_in: Number of samples, then sizes of the input's box, in sites.
        padding: Zeros on either side of it, for each of these axes; none for samples.
        shape_out: The same for the output.
        holds_all: Whether all input sites lie in the input's box; one that no window sees may not.
    """

    def __init__(self, kernel_map: KernelMap) -> None:
        geometry, sites, output = kernel_map.geometry, kernel_map.input_coords, kernel_map.output
        assert sites is not None
        self.kernel_map = kernel_map
        self._low_out, self.shape_out = _bounds(output.coords)
        first, sizes = _bounds(sites)
        # Samples are an axis with windows of one.
        stride, dilation = (1, *geometry.stride), (1, *geometry.dilation)
        taps, padding = (1, *geometry.kernel_size), (0, *(pair[0] for pair in geometry.padding))
        self._low_in, self.shape_in, self.padding = [], [], []
        self.holds_all = True
        for axis, (start, size) in enumerate(zip(first, sizes, strict=True)):
            seen_from = stride[axis] * self._low_out[axis] - padding[axis]
            seen = stride[axis] * (self.shape_out[axis] - 1) + dilation[axis] * (taps[axis] - 1) + 1
            before, behind = start - seen_from, seen_from + seen - start - size
            self.holds_all &= min(before, behind) >= 0
            # What is empty on both sides torch pads, which costs nothing.
            pad = max(0, min(before, behind))
            self._low_in.append(seen_from + pad)
            self.shape_in.append(seen - 2 * pad)
            self.padding.append(pad)

    @property
    def volume_in(self) -> int:
        """Sites of the input's box, in all samples together."""
        return math.prod(self.shape_in)

    @property
    def volume_out(self) -> int:
        """Sites of the output's box, in all samples together."""
        return math.prod(self.shape_out)

    @cached_property
    def places_in(self) -> Tensor | None:
        """Row-major place of each input row in the box, int64 (N,); None if row n is place n."""
        assert self.kernel_map.input_coords is not None
        return _places(self.kernel_map.input_coords, self._low_in, self.shape_in)

    @cached_property
    def places_out(self) -> Tensor | None:
        """Row-major place of each output row in the box, int64 (M,); None if row m is place m."""
        m, activity = self.kernel_map.num_outputs, self.kernel_map.geometry.activity
        if m == self.volume_out and activity is Activity.DILATING:
            return None  # core lists new sites in order
        return _places(self.kernel_map.output.coords, self._low_out, self.shape_out)

    def work(self, c_in: int, c_out: int) -> tuple[int, int]:
        """Return multiply-adds of a convolution, and how many numbers are moved besides."""
        weights = self.kernel_map.geometry.num_taps * c_in * c_out
        n, m = self.kernel_map.num_inputs, self.kernel_map.num_outputs
        moved = c_in * n * (n < self.volume_in) + c_out * m * (m < self.volume_out)
        return weights * (self.volume_out + WEIGHT_COST), moved

    def fits(self, c_in: int, c_out: int) -> bool:
        """Return whether no buffer is larger than allowed."""
        return max(self.volume_in * c_in, self.volume_out * c_out) <= torch_rows.MAX_BUFFER


class DenseBox(torch.autograd.Function):
    """Torch's dense convolution of the box; the rows of inactive sites in it are zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, box: Box) -> Tensor:
        """Return the sums, one row for each output."""
        ctx.save_for_backward(x, weight)
        ctx.box = box
        kernel = _kernel(weight, box.kernel_map.geometry)
        field = torch.convolution(_field(x, box), kernel, None, *_window_of(box))
        rows = field.movedim(1, -1).reshape(box.volume_out, -1)
        return rows if box.places_out is None else rows.index_select(0, box.places_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weight."""
        x, weight = ctx.saved_tensors
        box, (wants_x, wants_weight) = ctx.box, ctx.needs_input_grad[:2]
        grad_x, grad_w, _ = torch.ops.aten.convolution_backward(
            _spread(grad, box.places_out, box.shape_out),
            _field(x, box),
            _kernel(weight, box.kernel_map.geometry),
            None,
            *_window_of(box),
            [wants_x, wants_weight, False],
        )
        if wants_x:
            grad_x = grad_x.movedim(1, -1).reshape(box.volume_in, -1)
            if box.places_in is not None:
                grad_x = grad_x.index_select(0, box.places_in)
        if wants_weight:
            grad_w = grad_w.movedim((1, 0), (-2, -1)).reshape(weight.shape)
        return grad_x, grad_w, None


def convolve_field(
    features: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: FullFieldMap
) -> Tensor:
    """Convolve all sites of full fields by torch's dense convolution; rows stay where they are."""
    geometry, none = kernel_map.geometry, [0] * kernel_map.geometry.dimensions
    field = _spread(features, None, list(kernel_map.input_shape))
    shape = kernel_map.output.spatial_shape
    for axis, size in enumerate(shape):
        if size == 1:  # what the one window sees, for the stride of `_window`
            reach = geometry.dilation[axis] * (geometry.kernel_size[axis] - 1) + 1
            field = field.narrow(axis + 2, 0, reach)
    window = _window(geometry, none, shape)
    out = torch.convolution(field, _kernel(weight, geometry), bias, *window)
    return out.movedim(1, -1).reshape(kernel_map.num_outputs, -1).contiguous()


def pays_for_weights(outputs: int, weight: Tensor) -> bool:
    """Return whether so many outputs are worth bringing the weights into the order of oneDNN.

    Else their windows are gathered.
    """
    taps, c_in, c_out = weight.shape
    moved = outputs * (taps * c_in + 2 * (c_in + c_out))
    return weight.numel() * WEIGHT_COST < GATHER_COST * moved


def box_of(kernel_map: KernelMap, x: Tensor) -> Box | None:
    """Return the box in which rows ``x`` may be convolved densely, or None if there is none.

    On a CPU with oneDNN alone, whose dense convolutions are faster than a product of gathered
    windows; in float64 they are not.
    """
    geometry = kernel_map.geometry
    if (
        x.device.type != "cpu"
        or x.dtype not in (torch.float32, torch.bfloat16)
        or not torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's
        or not geometry.is_full_window
        or geometry.dimensions not in DIMENSIONS
        or kernel_map.input_coords is None
    ):
        return None
    box = Box(kernel_map)
    return box if box.holds_all else None


def _bounds(coords: Tensor) -> tuple[list[int], list[int]]:
    """Return the first site of the box around ``coords``, and its sizes."""
    low, high = torch.aminmax(coords, dim=0)
    return low.tolist(), (high - low + 1).tolist()


def _places(coords: Tensor, low: list[int], shape: list[int]) -> Tensor | None:
    with torch.inference_mode(False), torch.no_grad():
        places = ravel(coords, shape[1:]) - ravel(coords.new_tensor(low), shape[1:])
        everything = len(places) == math.prod(shape)
        return None if everything and bool((places.diff() == 1).all()) else places


def _spread(rows: Tensor, places: Tensor | None, shape: list[int]) -> Tensor:
    """Return the rows as (samples, C, *sizes), channels last in memory."""
    if places is not None:
        rows = rows.new_zeros(math.prod(shape), rows.shape[1]).index_copy_(0, places, rows)
    return rows.reshape(*shape, -1).movedim(-1, 1)


def _field(x: Tensor, box: Box) -> Tensor:
    return _spread(x, box.places_in, box.shape_in)


def _kernel(weight: Tensor, geometry: ConvGeometry) -> Tensor:
    kernel = weight.reshape(*geometry.kernel_size, *weight.shape[1:])
    order = _CHANNELS_LAST.get(geometry.dimensions, torch.contiguous_format)
    if weight.shape[2] == 1:  # torch's backward refuses others
        order = torch.contiguous_format
    return kernel.movedim((-2, -1), (1, 0)).contiguous(memory_format=order)


def _window_of(box: Box) -> tuple[Any, ...]:
    return _window(box.kernel_map.geometry, box.padding[1:], box.shape_out[1:])


def _window(
    geometry: ConvGeometry, padding: list[int], shape_out: Sequence[int]
) -> tuple[Any, ...]:
    """Return stride, padding, dilation, transposed, output padding and groups.

    Along an axis with one output the stride is 1, which is the same: oneDNN's convolutions are
    wrong where the last axis has one output and another stride (torch 2.13).
    """
    stride = [1 if size == 1 else s for size, s in zip(shape_out, geometry.stride, strict=True)]
    none = [0] * geometry.dimensions
    return stride, padding, list(geometry.dilation), False, none, 1
