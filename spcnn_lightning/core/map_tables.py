"""KernelMap (rulebook): which input row feeds which output row through which tap, as tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from spcnn_lightning.compiled import compiled_for
from spcnn_lightning.core.active_set import ActiveSet, unravel
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
            # Row M collects the entries that reach no output, until it is overwritten.
            table = self.in_to_out.new_full(((m + 1) * taps,), n)
            tap = torch.arange(taps, device=table.device)
            row = torch.arange(n, device=table.device)[:, None].expand(n, taps)
            table[(self.in_to_out * taps + tap).reshape(-1)] = row.reshape(-1)
            table[m * taps :].fill_(n)
            return table.view(m + 1, taps)

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor, list[int]]:
        """Input rows and output rows of all pairs, grouped by tap, and the number for each tap."""
        with torch.inference_mode(False), torch.no_grad():
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
    output = _output_set(active_set, geometry, shape, unravel(unique, shape))
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
    result.windows, result.num_pairs = found.windows, found.num_pairs
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


def _candidates(
    active_set: ActiveSet, geometry: ConvGeometry, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return for each (input row, tap) the key of the output site, and whether it exists."""
    coords = active_set.coords.long()
    keys, reaches = coords[:, :1], torch.ones_like(coords[:, :1], dtype=torch.bool)
    whole = geometry.num_taps == math.prod(geometry.kernel_size)  # each site of it is a tap
    for axis, size in enumerate(shape):
        stride, (low, _) = geometry.stride[axis], geometry.padding[axis]
        taps = torch.arange(geometry.kernel_size[axis], device=coords.device)
        # stride * output = input + padding_low - dilation * tap, along each axis for itself
        site = coords[:, axis + 1, None] + low - geometry.dilation[axis] * taps
        inside = site >= 0
        if stride > 1:
            inside &= site % stride == 0
            site = torch.div(site, stride, rounding_mode="floor")
        inside &= site < size
        if whole:
            keys = ((keys * size)[:, :, None] + site[:, None]).flatten(1)
            reaches = (reaches[:, :, None] & inside[:, None]).flatten(1)
        else:
            chosen = torch.tensor([tap[axis] for tap in geometry.offsets], device=coords.device)
            keys = keys * size + site.index_select(1, chosen)
            reaches = reaches & inside.index_select(1, chosen)
    return keys, reaches


def _rows_of_new_sites(
    keys: Tensor, reaches: Tensor, batch_size: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return the sorted keys of all sites that are reached, and the row of each candidate."""
    # Key `field` stands for "reaches nothing". On a GPU the host waits for the number of sites
    # alone: Python's numbers are filled in, not assigned.
    field = batch_size * math.prod(shape)
    keys = torch.where(reaches, keys, field)
    if field <= TABLE_FACTOR * keys.numel():
        hit = torch.zeros(field + 1, dtype=torch.bool, device=keys.device)
        hit.index_fill_(0, keys.reshape(-1), True)
        hit[field].zero_()
        unique = hit.nonzero()[:, 0]
        rows = torch.empty(field + 1, dtype=torch.int64, device=keys.device)
        rows[unique] = torch.arange(len(unique), device=keys.device)
        rows[field].fill_(len(unique))
        return unique, rows[keys]
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
