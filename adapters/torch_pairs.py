"""The pairs of a kernel map, tap by tap, for chunk after chunk of the rows that they add to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from spcnn_lightning.adapters.torch_rows import blocks_of, lanes_of, rows_of_a_block

Piece = tuple[int, slice]
"""A tap, and where some pairs of it stand."""


class Chunk(NamedTuple):
    """Rows that are added to, and all pairs that do so.

    Attributes:
        rows: The rows.
        groups: Pieces that stand side by side, to be gathered and added together.
    """

    rows: slice
    groups: list[list[Piece]]


class Pairs:
    """The pairs of a kernel map, in an order for adding to the rows of one side.

    On a CPU these rows are done in chunks, which stay in the cache from tap to tap.

    Args:
        sources: int64, shape (P,): rows that are read, tap by tap.
        targets: int64, shape (P,): rows that are added to, no two of a tap the same.
        counts: How many pairs each tap has.
        rows: How many rows there are to add to.
        width: Numbers of a row on either side, at most.
        least: Rows to be worth a lane.

    Attributes:
        sources: In the order of the lanes.
        targets: In the order of the lanes.
        same: The tap that leads from each row to itself, as the middle of a submanifold window, or
            None; its pairs are in no chunk.
        lanes: Chunks for one thread each, which share no row that is added to.
        longest: Pairs of a group, and rows of a chunk, at most.
    """

    def __init__(
        self,
        sources: Tensor,
        targets: Tensor,
        counts: Sequence[int],
        rows: int,
        width: int,
        least: int = 1,
    ) -> None:
        self.sources, self.targets = sources, targets
        bounds = [0, *accumulate(counts)]
        taps = [(tap, slice(*ends)) for tap, ends in enumerate(pairwise(bounds))]
        self.same = next((tap for tap, pairs in taps if self._is_same(pairs, rows)), None)
        taps = [(tap, pairs) for tap, pairs in taps if tap != self.same]
        device, most = sources.device, max(rows, len(sources))
        chunked = device.type == "cpu" and _ascend(targets, bounds)
        lanes = lanes_of(rows, device, least) if chunked else [slice(0, rows)]
        threads = 1 if len(lanes) > 1 else None
        self.longest = rows_of_a_block(most, width, device, threads)
        if chunked:
            self._put_in_chunks(taps, rows, lanes)
        else:
            chunks = [Chunk(part, []) for part in blocks_of(slice(0, rows), self.longest)]
            for piece in self._cut(taps):
                chunks[-1].groups.append([piece])  # once all rows have begun
            self.lanes = [chunks]

    def _is_same(self, pairs: slice, rows: int) -> bool:
        # On a GPU the host would have to wait for the answer.
        every = self.sources.device.type == "cpu" and pairs.stop - pairs.start == rows
        return every and torch.equal(self.sources[pairs], self.targets[pairs])

    def _cut(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for tap, pairs in pieces:
            for start in range(pairs.start, pairs.stop, self.longest):
                yield tap, slice(start, min(start + self.longest, pairs.stop))

    def _put_in_chunks(self, taps: list[Piece], rows: int, parts: list[slice]) -> None:
        lanes = [list(blocks_of(lane, self.longest)) for lane in parts]
        firsts = self.targets.new_tensor([*(chunk.start for lane in lanes for chunk in lane), rows])
        of_taps = [
            (tap, (pairs.start + torch.searchsorted(self.targets[pairs], firsts)).tolist())
            for tap, pairs in taps
        ]
        order: list[slice] = []
        number = place = 0
        self.lanes = []
        for lane in lanes:
            self.lanes.append([])
            for chunk in lane:
                pieces = [(tap, slice(*cuts[number : number + 2])) for tap, cuts in of_taps]
                groups: list[list[Piece]] = []
                room, number = 0, number + 1
                for tap, pairs in self._cut(pieces):
                    length = pairs.stop - pairs.start
                    if length > room:
                        groups.append([])
                        room = self.longest
                    groups[-1].append((tap, slice(place, place + length)))
                    order.append(pairs)
                    place, room = place + length, room - length
                self.lanes[-1].append(Chunk(chunk, groups))
        if order:
            self.sources = torch.cat([self.sources[pairs] for pairs in order])
            self.targets = torch.cat([self.targets[pairs] for pairs in order])


def _ascend(targets: Tensor, bounds: Sequence[int]) -> bool:
    """Return whether the rows of each tap ascend, as where sites are sorted."""
    ascends = targets.diff() > 0
    borders = [bound - 1 for bound in bounds[1:-1] if 0 < bound < len(targets)]
    ascends[borders] = True
    return bool(ascends.all())
