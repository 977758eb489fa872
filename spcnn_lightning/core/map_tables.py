"""KernelMap (rulebook): which input row feeds which output row through which tap, as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from spcnn_lightning.compiled import compiled_for
from spcnn_lightning.core.active_set import MAX_FIELD_SITES, ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.site_map import SiteMap

TABLE_FACTOR = 4
"""A field with at most this many sites per (input site, tap) is looked up in a dense table."""


class KernelMap(SiteMap):
    """The pairs (input row, tap, output row) of one window on one active set.

    Attributes:
        in_to_out: int64, shape (N, K): the output row that input row n reaches through tap k,
            or M where there is none.
        out_to_in: int64, shape (M, K): the input row under tap k of output row m, or N where
            that site is not active.
        input_coords: int32, shape (N, 1 + D): the input sites; None if the builder kept none.
    """

    input_coords: Tensor | None = None

    def __init__(self, geometry: ConvGeometry, output: ActiveSet, in_to_out: Tensor) -> None:
        super().__init__(geometry, output)
        self.in_to_out = in_to_out

    @property
    def num_inputs(self) -> int:
        """Number of input rows, N."""
        return self.in_to_out.shape[0]

    @cached_property
    def num_pairs(self) -> int:
        """Number of (input row, tap, output row) triples: multiply-adds per pair of channels."""
        return int((self.in_to_out < self.num_outputs).sum())

    @property
    def out_to_in(self) -> Tensor:
        """The transposed view of ``in_to_out``."""
        return self.windows[:-1]

    @cached_property
    def windows(self) -> Tensor:
        """``out_to_in`` and one window more, without any active site: int64, (M + 1, K)."""
        with torch.inference_mode(False), torch.no_grad():
            n, taps, m = self.num_inputs, self.geometry.num_taps, self.num_outputs
            if compiled_for(2 * n * taps, self.in_to_out):
                from spcnn_lightning.compiled.pairs import windows_of

                return windows_of(self.in_to_out, m)
            # Row M collects the entries that reach no output, until it is overwritten.
            table = self.in_to_out.new_full((m + 1, taps), n)
            rows = torch.arange(n, device=table.device)[:, None].expand(n, taps)
            table.scatter_(0, self.in_to_out, rows)[m].fill_(n)
            return table

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor, list[int]]:
        """Input rows and output rows of all pairs, grouped by tap, and the number for each tap."""
        with torch.inference_mode(False), torch.no_grad():
            if compiled_for(4 * self.in_to_out.numel(), self.in_to_out):
                from spcnn_lightning.compiled.pairs import pairs_of

                return pairs_of(self.in_to_out, self.num_outputs)
            reaches = (self.in_to_out < self.num_outputs).T
            tap, row_in = reaches.nonzero(as_tuple=True)
            row_out = self.in_to_out[row_in, tap]
            return row_in, row_out, reaches.sum(1).tolist()

    @cached_property
    def outside(self) -> Tensor | None:
        """Window slots that lie outside the input field: bool (M, K), or None if there are none."""
        geometry = self.geometry
        if not any(low or high for low, high in geometry.padding):
            return None
        with torch.inference_mode(False), torch.no_grad():
            device = self.output.device
            low = torch.tensor([pair[0] for pair in geometry.padding], device=device)
            stride = torch.tensor(geometry.stride, device=device)
            dilation = torch.tensor(geometry.dilation, device=device)
            taps = torch.tensor(geometry.offsets, device=device) * dilation
            sites = (self.output.coords[:, 1:] * stride - low)[:, None, :] + taps
            limits = torch.tensor(self._input_shape, device=device)
            return ((sites < 0) | (sites >= limits)).any(-1)

    _input_shape: tuple[int, ...] = ()

    def relocated(self, move: Callable[[Tensor], Tensor], memo: dict[int, ActiveSet]) -> KernelMap:
        """Return the same map with every tensor passed through ``move``."""
        moved = KernelMap(self.geometry, self.output.relocated(move, memo), move(self.in_to_out))
        moved._input_shape = self._input_shape
        if "num_pairs" in vars(self):  # counting them again would make the host wait
            moved.num_pairs = self.num_pairs
        if "windows" in vars(self):
            moved.windows = move(self.windows)
        return moved


def build_tables(active_set: ActiveSet, geometry: ConvGeometry) -> KernelMap:
    """Build a map with its tables, whatever the set; ``geometry`` has been checked."""
    shape = geometry.output_shape(active_set.spatial_shape)
    result = _compiled(active_set, geometry, shape) or _built(active_set, geometry, shape)
    result._input_shape, result.input_coords = active_set.spatial_shape, active_set.coords
    return result


def _built(active_set: ActiveSet, geometry: ConvGeometry, shape: tuple[int, ...]) -> KernelMap:
    """Build it in torch operations, on any device."""
    keys, reaches = _candidates(active_set, geometry, shape)
    if geometry.activity is Activity.SUBMANIFOLD:
        return KernelMap(geometry, active_set, _rows_of_known_sites(active_set, keys, reaches))
    # On its way to the host before that has to wait for the number of sites anyway.
    pairs = reaches.sum().to("cpu", non_blocking=True)
    unique, in_to_out = _rows_of_new_sites(keys, reaches, active_set.batch_size, shape)
    constants = _constants(geometry, shape, active_set.device)
    coords = (unique[:, None] // constants.columns % constants.limits).int()
    output = _output_set(active_set, geometry, shape, coords)
    result = KernelMap(geometry, output, in_to_out)
    result.num_pairs = int(pairs)
    return result


def _compiled(
    active_set: ActiveSet, geometry: ConvGeometry, shape: tuple[int, ...]
) -> KernelMap | None:
    """Build the same by compiled loops; None where there are none, or the field is too large."""
    coords, same = active_set.coords, geometry.activity is Activity.SUBMANIFOLD
    if not compiled_for(len(coords) * geometry.num_taps * _NUMBERS_A_CANDIDATE, coords):
        return None
    from spcnn_lightning.compiled.sites import find_pairs

    low = [pair[0] for pair in geometry.padding]
    steps = [
        [p - d * t for p, d, t in zip(low, geometry.dilation, tap, strict=True)]
        for tap in geometry.offsets
    ]
    found = find_pairs(coords, active_set.batch_size, shape, steps, geometry.stride, same)
    if found is None:
        return None
    output = active_set if same else _output_set(active_set, geometry, shape, found.coords)
    result = KernelMap(geometry, output, found.in_to_out)
    result.num_pairs = found.num_pairs
    return result


_NUMBERS_A_CANDIDATE = 30
"""A (site, tap) costs as much in torch operations as moving so many numbers."""


def _output_set(
    active_set: ActiveSet, geometry: ConvGeometry, shape: tuple[int, ...], coords: Tensor
) -> ActiveSet:
    """Return the set of new sites, which knows its place in the input grid."""
    strides = active_set.tensor_stride
    return ActiveSet(
        coords,
        shape,
        active_set.batch_size,
        tensor_stride=[t * s for t, s in zip(strides, geometry.stride, strict=True)],
        offset=[
            o - t * low
            for o, t, (low, _) in zip(active_set.offset, strides, geometry.padding, strict=True)
        ],
        validate=False,
    )


class _Constants(NamedTuple):
    """What a window and a field hold, as tensors: on a GPU the host would wait to bring them anew.

    Attributes:
        steps: ``stride * output = input + step`` of axis and tap, (D, k) for the largest size k.
        stride: Of the window, (D, 1).
        sizes: Of the output field, (D, 1).
        places: How many sites are between neighbours of an axis in row-major order, (D, 1).
        columns: The same of samples and axes, (1 + D,).
        limits: Sizes of samples (without limit) and axes, (1 + D,).
        chosen: The taps among all sites of the window, (K,).
    """

    steps: Tensor
    stride: Tensor
    sizes: Tensor
    places: Tensor
    columns: Tensor
    limits: Tensor
    chosen: Tensor


_kept: dict[tuple[ConvGeometry, tuple[int, ...], torch.device], _Constants] = {}
MOST_KEPT = 1_024


def _constants(geometry: ConvGeometry, shape: tuple[int, ...], device: torch.device) -> _Constants:
    """Return them, on a GPU those that are there already."""
    key = (geometry, shape, device)
    if key in _kept:
        return _kept[key]
    made = _new_constants(*key)
    if device.type != "cpu" and type(made.steps) is Tensor:  # and not one that stands in for it
        if len(_kept) == MOST_KEPT:
            _kept.clear()
        _kept[key] = made
    return made


def _new_constants(
    geometry: ConvGeometry, shape: tuple[int, ...], device: torch.device
) -> _Constants:
    def column(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, device=device)[:, None]

    places = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    taps = torch.arange(max(geometry.kernel_size), device=device)
    low = column([pair[0] for pair in geometry.padding])
    chosen = [0] * geometry.num_taps
    for axis, size in enumerate(geometry.kernel_size):
        chosen = [c * size + tap[axis] for c, tap in zip(chosen, geometry.offsets, strict=True)]
    return _Constants(
        low - column(geometry.dilation) * taps,
        column(geometry.stride),
        column(shape),
        column(places),
        column([math.prod(shape), *places])[:, 0],
        column([MAX_FIELD_SITES, *shape])[:, 0],
        column(chosen)[:, 0],
    )


def _candidates(
    active_set: ActiveSet, geometry: ConvGeometry, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return for each (input row, tap) the key of the output site, and whether it exists."""
    constants = _constants(geometry, shape, active_set.device)
    coords = active_set.coords.long()
    site = coords[:, 1:, None] + constants.steps  # along each axis for itself
    if max(geometry.stride) == 1:
        inside = (site >= 0) & (site < constants.sizes)
    else:
        inside = site % constants.stride == 0
        site = torch.div(site, constants.stride, rounding_mode="floor")
        inside &= (site >= 0) & (site < constants.sizes)
    site = site * constants.places
    keys, reaches = coords[:, :1] * math.prod(shape), torch.ones_like(coords[:, :1]).bool()
    for axis, size in enumerate(geometry.kernel_size):
        keys = (keys[:, :, None] + site[:, axis, None, :size]).flatten(1)
        reaches = (reaches[:, :, None] & inside[:, axis, None, :size]).flatten(1)
    if not geometry.is_full_window:
        keys, reaches = (t.index_select(1, constants.chosen) for t in (keys, reaches))
    return keys, reaches


def _rows_of_new_sites(
    keys: Tensor, reaches: Tensor, batch_size: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return the sorted keys of all sites that are reached, and the row of each candidate."""
    field = batch_size * math.prod(shape)
    keys = torch.where(reaches, keys, field)  # which stands for "reaches nothing"
    if field <= TABLE_FACTOR * keys.numel():
        hit = torch.zeros(field + 1, dtype=torch.bool, device=keys.device)
        hit.index_fill_(0, keys.reshape(-1), True)  # a number of Python: the host need not wait
        return hit[:-1].nonzero()[:, 0], (hit.cumsum(0) - 1)[keys]
    with_nothing = torch.cat([keys.reshape(-1), keys.new_full((1,), field)])
    unique, inverse = torch.unique(with_nothing, return_inverse=True)
    return unique[:-1], inverse[:-1].view_as(keys)


def _rows_of_known_sites(active_set: ActiveSet, keys: Tensor, reaches: Tensor) -> Tensor:
    """Return the row of each candidate in ``active_set``, or N where it is not active."""
    n, field = active_set.num_sites, active_set.batch_size * active_set.volume
    if n == 0:
        return keys
    if field <= TABLE_FACTOR * keys.numel():
        rows = torch.full((field + 1,), n, device=keys.device)
        rows[active_set.keys()] = torch.arange(n, device=keys.device)
        return rows[torch.where(reaches, keys, field)]
    known, order = torch.sort(active_set.keys())
    place = torch.searchsorted(known, keys).clamp_(max=n - 1)
    found = reaches & (known[place] == keys)
    return torch.where(found, order[place], n)
