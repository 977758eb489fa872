"""Rulebooks of spconv and spconv-triton: asked for, put into row-major order, and kept.

Both libraries have one functional interface, ``<package>.pytorch.ops``, and two layouts of a
rulebook: *Native* (lists of pairs, one for each tap) and *implicit GEMM* (gather tables with bit
masks; CUDA only). Both libraries know equal padding on both sides alone, and count differently
from floor division where it is short; so coordinates are moved by the low padding here, in a field
that is larger by all of it, and the libraries never hear of padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet, ravel
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap
from spcnn_lightning.core.site_map import SiteMap

MAX_INT32 = 2**31 - 1
NATIVE = "native"
IMPLICIT_GEMM = "implicit_gemm"
SPLIT = "implicit_gemm_split"
IN_TORCH = "torch"
"""The library's Native rulebook, computed with in torch."""

MEMBERS = {NATIVE: "Native", IMPLICIT_GEMM: "MaskImplicitGemm", SPLIT: "MaskSplitImplicitGemm"}
"""Names of the algorithms in the libraries' ``ConvAlgo``."""


class Library(NamedTuple):
    """The parts of a library that are called, looked up in it at each call."""

    ops: Any
    """``<package>.pytorch.ops``."""
    algorithms: Any
    """``<package>.core.ConvAlgo``."""


class Native(NamedTuple):
    """Pairs of rows for each tap.

    Attributes:
        pairs: int32 (2, K, N): input rows, then output rows; -1 after the last pair of a tap.
        counts: int32 (K,), the pairs of each tap. Of a submanifold window only those before the
            centre are counted: the centre is the identity, and the others mirror them.
    """

    pairs: Tensor
    counts: Tensor


class ImplicitGemm(NamedTuple):
    """Gather tables, and for each output row a mask of its taps, sorted.

    Attributes:
        forward_table: int32 (K, M): the input row under each tap, or -1.
        backward_table: int32 (K, N): the output row that each tap leads to, or -1.
        forward_masks: One (M, K / 32) of int32 for each split, rows in the order of the sort.
        backward_masks: The same for the input rows; empty for a submanifold window.
        forward_order: One (M,) of int32 for each split: the output row of each sorted mask.
        backward_order: The same for the input rows; empty for a submanifold window.
        splits: numpy uint32, the taps of each split.
    """

    forward_table: Tensor
    backward_table: Tensor
    forward_masks: list[Tensor]
    backward_masks: list[Tensor]
    forward_order: list[Tensor]
    backward_order: list[Tensor]
    splits: list[Any]

    def reversed(self) -> ImplicitGemm:
        """Return the rulebook that leads from output rows to input rows."""
        return ImplicitGemm(
            self.backward_table,
            self.forward_table,
            self.backward_masks,
            self.forward_masks,
            self.backward_order,
            self.forward_order,
            self.splits,
        )


class SpconvMap(SiteMap):
    """A kernel map of the spconv family; its output sites are in row-major order.

    Attributes:
        coords: Input sites, int32 (N, 1 + D).
        spatial_shape: Input field.
        batch_size: Number of samples.
        rulebooks: The same pairs in the layout of each algorithm that was asked for.
    """

    def __init__(
        self,
        geometry: ConvGeometry,
        coords: Tensor,
        spatial_shape: tuple[int, ...],
        output: ActiveSet,
        rulebooks: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(geometry, output)
        self.coords, self.spatial_shape = coords, spatial_shape
        self.batch_size = output.batch_size
        self.rulebooks = {} if rulebooks is None else rulebooks

    @property
    def num_inputs(self) -> int:
        """Number of input rows, N."""
        return self.coords.shape[0]

    @property
    def is_submanifold(self) -> bool:
        """Whether the output sites are the input sites."""
        return self.geometry.activity is Activity.SUBMANIFOLD

    def rulebook(self, library: Library, algorithm: str) -> Any:
        """Return the rulebook of an algorithm; rows mean the same in all of them."""
        if algorithm not in self.rulebooks:
            with torch.inference_mode(False), torch.no_grad():
                if algorithm == IN_TORCH:
                    some = self.num_inputs and self.num_outputs
                    native = self.rulebook(library, NATIVE) if some else None
                    self.rulebooks[algorithm] = core_map(native, self)
                else:
                    problem = (self.coords, self.spatial_shape, self.batch_size)
                    _, book = ask(library, algorithm, *problem, self.geometry)
                    self.rulebooks[algorithm] = book
        return self.rulebooks[algorithm]

    def relocated(self, move: Callable[[Tensor], Tensor], memo: dict[int, ActiveSet]) -> SpconvMap:
        """Return the same map elsewhere; another device's rulebook is built there when needed."""
        output = self.output.relocated(move, memo)
        coords = output.coords if self.is_submanifold else move(self.coords)
        return SpconvMap(self.geometry, coords, self.spatial_shape, output)


def build_map(
    library: Library, algorithm: str, sites: ActiveSet, window: ConvGeometry
) -> SpconvMap:
    """Build the map of a window on an active set with the library's rulebook."""
    shape = window.output_shape(sites.spatial_shape)
    if window.activity is Activity.SUBMANIFOLD:
        result = SpconvMap(window, sites.coords, sites.spatial_shape, sites)
        if sites.num_sites:
            result.rulebook(library, algorithm)
        return result
    coords, books = sites.coords[:0], {}
    if reaches_an_output(sites.coords, window, shape):
        layout = NATIVE if algorithm == IN_TORCH else algorithm
        problem = (sites.coords, sites.spatial_shape, sites.batch_size)
        coords, books[layout] = ask(library, layout, *problem, window)
    strides = zip(sites.tensor_stride, window.stride, strict=True)
    offsets = zip(sites.offset, sites.tensor_stride, window.padding, strict=True)
    output = ActiveSet(
        coords,
        shape,
        sites.batch_size,
        tensor_stride=[t * s for t, s in strides],
        offset=[o - t * low for o, t, (low, _) in offsets],
        validate=False,
    )
    return SpconvMap(window, sites.coords, sites.spatial_shape, output, books)


def padded_shape(spatial_shape: tuple[int, ...], window: ConvGeometry) -> list[int]:
    """Return the sizes of the field with its padding; a submanifold window needs none."""
    if window.activity is Activity.SUBMANIFOLD:
        return list(spatial_shape)
    return [n + low + high for n, (low, high) in zip(spatial_shape, window.padding, strict=True)]


def reaches_an_output(coords: Tensor, window: ConvGeometry, shape: tuple[int, ...]) -> bool:
    """Return whether any site lies in any window: on CUDA the libraries raise where none does."""
    if not len(coords):
        return False
    if max(window.stride) == max(window.dilation) == 1:
        return True
    reached = torch.ones_like(coords[:, 0], dtype=torch.bool)
    for axis, size in enumerate(shape):
        taps = torch.arange(window.kernel_size[axis], device=coords.device)
        site = coords[:, axis + 1, None] + window.padding[axis][0] - window.dilation[axis] * taps
        stride = window.stride[axis]
        inside = (site >= 0) & (site <= stride * (size - 1)) & (site % stride == 0)
        reached &= inside.any(1)
    return bool(reached.any())


def ask(
    library: Library,
    algorithm: str,
    coords: Tensor,
    spatial_shape: tuple[int, ...],
    batch_size: int,
    window: ConvGeometry,
) -> tuple[Tensor, Native | ImplicitGemm]:
    """Return output sites, in row-major order, and the rulebook of at least one input site."""
    submanifold = window.activity is Activity.SUBMANIFOLD
    zeros = [0] * window.dimensions
    if not submanifold and any(low for low, _ in window.padding):
        coords = coords + coords.new_tensor([0, *(low for low, _ in window.padding)])
    arguments = (
        coords,
        batch_size,
        padded_shape(spatial_shape, window),
        getattr(library.algorithms, MEMBERS[algorithm]),
        list(window.kernel_size),
        list(window.stride),
        zeros,
        list(window.dilation),
        zeros,
        submanifold,
    )
    book: Native | ImplicitGemm
    if algorithm == NATIVE:
        found, pairs, counts = library.ops.get_indice_pairs(*arguments)
        book = Native(pairs, counts)
    else:
        found, _, *tables = library.ops.get_indice_pairs_implicit_gemm(*arguments)
        book = ImplicitGemm(*tables)
    if submanifold:
        return coords, book
    order = torch.argsort(ravel(found, window.output_shape(spatial_shape)))
    return found[order], renumbered(book, order)


def renumbered(book: Native | ImplicitGemm, order: Tensor) -> Native | ImplicitGemm:
    """Return the rulebook with output row ``order[i]`` called i.

    The libraries number output rows as they meet them, on CUDA differently from run to run.
    """
    number = torch.empty_like(order, dtype=torch.int32)
    number[order] = torch.arange(len(order), dtype=torch.int32, device=order.device)

    def rename(rows: Tensor) -> Tensor:
        return torch.where(rows >= 0, number[rows.clamp(min=0)], -1).int()

    if isinstance(book, Native):
        return Native(torch.stack([book.pairs[0], rename(book.pairs[1])]), book.counts)
    return book._replace(
        forward_table=book.forward_table[:, order].contiguous(),
        backward_table=rename(book.backward_table),
        forward_order=[rename(rows) for rows in book.forward_order],
    )


def core_map(book: Native | None, rulebook: SpconvMap) -> KernelMap:
    """Return a Native rulebook, or none, as the kernel map that the torch backend computes with."""
    n, taps, m = rulebook.num_inputs, rulebook.geometry.num_taps, rulebook.num_outputs
    in_to_out = torch.full((n, taps), m, device=rulebook.coords.device)
    if book is not None:
        rows_in, rows_out = book.pairs.long()
        tap, place = (rows_in >= 0).nonzero(as_tuple=True)
        in_to_out[rows_in[tap, place], tap] = rows_out[tap, place]
    return KernelMap(rulebook.geometry, rulebook.output, in_to_out)
