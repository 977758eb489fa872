"""A product for each tap, on the pairs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spcnn_lightning.adapters.torch_pairs import Chunk, Pairs, Piece
from spcnn_lightning.adapters.torch_rows import (
    Sums,
    Windows,
    difference_to,
    dtype_of_sums,
    total,
)
from spcnn_lightning.compiled import compiled_for
from spcnn_lightning.compiled.threads import in_lanes
from spcnn_lightning.core.kernel_map import KernelMap


def sum_over_taps(
    x: Tensor,
    weight: Tensor,
    kernel_map: KernelMap,
    transposed: bool = False,
    ground: Tensor | None = None,
    begin: Tensor | None = None,
) -> Tensor:
    """Return the sums of a convolution, one row for each output.

    Args:
        x: Shape (N, C_in).
        weight: Shape (K, C_in, C_out).
        kernel_map: Of the window.
        transposed: From its outputs to its inputs.
        ground: Shape (C_in,): taken from each row before its products.
        begin: Shape (C_out,): what each sum begins with; zeros if not given.
    """
    sources, targets, counts = kernel_map.pairs
    rows = kernel_map.num_outputs
    if transposed:
        sources, targets, rows = targets, sources, kernel_map.num_inputs
    pairs = Pairs(sources, targets, counts, rows, max(weight.shape[1:]))
    out = x.new_empty(rows, weight.shape[2], dtype=dtype_of_sums(x))
    inputs = Windows(x, pairs.sources[:, None], complete=True)

    def of_lane(lane: list[Chunk]) -> None:
        to_rows, read = _ToRows(out, weight, pairs, begin), inputs.reader(pairs.longest)
        difference = difference_to(ground, pairs.longest)
        for chunk in lane:
            own = x[:0] if pairs.same is None else difference(x[chunk.rows])
            to_rows.begin(chunk, own)
            for group in chunk.groups:
                to_rows.add(group, difference(read(_whole(group))))

    in_lanes(of_lane, pairs.lanes)
    return out.to(x.dtype)


def gradients_over_taps(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    kernel_map: KernelMap,
    transposed: bool,
    wants_x: bool,
    wants_weight: bool,
    ground: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of ``x - ground`` and of the weights."""
    targets, sources, counts = kernel_map.pairs
    if transposed:
        sources, targets = targets, sources
    taps, *channels = weight.shape
    # The sums of a lane should not have more numbers than what they add up.
    least = len(x) * taps * channels[0] // max(1, len(targets)) if wants_weight else 1
    pairs = Pairs(sources, targets, counts, len(x), max(channels), least)
    backward = _Backward(grad, x, weight, ground, pairs, wants_x, wants_weight)
    found = in_lanes(backward.of_lane, pairs.lanes)
    grad_w = torch.zeros_like(weight) if wants_weight else None
    if grad_w is not None:
        for tap, of_lanes in enumerate(zip(*found, strict=True)):
            if any(sums.sums is not None for sums in of_lanes):
                grad_w[tap] = total(list(of_lanes))
    return None if backward.grad_x is None else backward.grad_x.to(x.dtype), grad_w


class _Backward:
    """Gathers the gradients of the outputs that rows reach, for one gradient or for both."""

    def __init__(
        self,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        ground: Tensor | None,
        pairs: Pairs,
        wants_x: bool,
        wants_weight: bool,
    ) -> None:
        self.grad, self.x, self.ground, self.pairs = grad, x, ground, pairs
        self.grad_x = x.new_empty(x.shape, dtype=dtype_of_sums(x)) if wants_x else None
        self.wants_weight, self.weight = wants_weight, weight.transpose(1, 2)
        self.grads = Windows(grad, pairs.sources[:, None], complete=True)
        self.inputs = Windows(x, pairs.targets[:, None], complete=True)

    def of_lane(self, lane: list[Chunk]) -> list[Sums]:
        """Write the gradients of the rows of a lane, and return its sums for the weights."""
        if self.grad_x is not None:
            to_rows = _ToRows(self.grad_x, self.weight, self.pairs)
        sums = [Sums(self.x.dtype) for _ in self.weight] if self.wants_weight else []
        longest = self.pairs.longest
        read, read_x = (windows.reader(longest) for windows in (self.grads, self.inputs))
        difference = difference_to(self.ground, longest)
        for chunk in lane:
            if self.grad_x is not None:
                to_rows.begin(chunk, self.grad[chunk.rows])
            if sums and self.pairs.same is not None:
                sums[self.pairs.same].add(difference(self.x[chunk.rows]), self.grad[chunk.rows])
            for group in chunk.groups:
                spread = read(_whole(group))
                if self.grad_x is not None:
                    to_rows.add(group, spread)
                if sums:
                    rows = difference(read_x(_whole(group)))
                    for tap, part in _within(group):
                        sums[tap].add(rows[part], spread[part])
        return sums


class _ToRows:
    """Multiplies what the pairs of a lane have read, and adds it to the rows that they lead to."""

    def __init__(
        self, out: Tensor, weight: Tensor, pairs: Pairs, begin: Tensor | None = None
    ) -> None:
        self.out, self.weight, self.same, self.targets = out, weight, pairs.same, pairs.targets
        self.first = begin
        self.products = weight.new_empty(pairs.longest, weight.shape[2])
        compiled = compiled_for(self.targets.numel() * out.shape[1], out)
        self.adder: Callable[[slice], None] | None = None
        if compiled and weight.dtype is not torch.float16:
            from spcnn_lightning.compiled.adding import Adder

            self.adder = Adder(self.products, self.targets[:, None], out)

    def begin(self, chunk: Chunk, rows: Tensor) -> None:
        """Write what the rows of a chunk begin with, and what they have of ``rows``, themselves."""
        out = self.out[chunk.rows]
        if self.same is None:
            out[:] = 0 if self.first is None else self.first
            return
        weight = self.weight[self.same]
        if self.first is None and out.dtype is rows.dtype:
            torch.mm(rows, weight, out=out)
            return
        products = torch.mm(rows, weight, out=self.products[: len(rows)])
        out.copy_(products)
        if self.first is not None:
            out += self.first

    def add(self, group: list[Piece], read: Tensor) -> None:
        """Add the products of a group."""
        for tap, part in _within(group):
            torch.mm(read[part], self.weight[tap], out=self.products[part])
        if self.adder is not None:
            self.adder(_whole(group))
            return
        for (_, pairs), (_, part) in zip(group, _within(group), strict=True):
            terms = self.products[part].to(self.out.dtype)
            self.out.index_add_(0, self.targets[pairs], terms)


def _whole(group: list[Piece]) -> slice:
    return slice(group[0][1].start, group[-1][1].stop)


def _within(group: list[Piece]) -> Iterator[Piece]:
    """Yield each tap and where its pairs stand in the group."""
    first = group[0][1].start
    for tap, pairs in group:
        yield tap, slice(pairs.start - first, pairs.stop - first)
