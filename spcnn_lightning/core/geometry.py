"""Window arithmetic on plain integers, for any number of dimensions."""

from __future__ import annotations

import enum
import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

PerAxis = int | Sequence[int]
"""One integer for every axis, or one integer per axis."""


class Activity(enum.Enum):
    """The rule that says which output sites of a window operation are active."""

    DILATING = "dilating"
    """A site is active if its window holds an active input site (the rule of the paper)."""
    SUBMANIFOLD = "submanifold"
    """The active sites of the output are those of the input."""


def per_axis(value: PerAxis, dimensions: int, name: str) -> tuple[int, ...]:
    """Return ``value`` as one integer per axis.

    Raises:
        ValueError: If a sequence does not have ``dimensions`` entries.
    """
    if isinstance(value, SupportsIndex):
        return (operator.index(value),) * dimensions
    result = tuple(int(entry) for entry in value)
    if len(result) != dimensions:
        raise ValueError(
            f"{name} is {result}, which has {len(result)} entries, but the window has "
            f"{dimensions} dimensions: give one integer, or one per axis"
        )
    return result


@dataclass(frozen=True)
class ConvGeometry:
    """A window and the way it moves over the field, in sites of the input.

    The one relation between an output site and the input site under one of its taps is
    ``input = stride * output + dilation * tap - padding_low``, on every axis.

    ``kernel_size`` fixes the number of dimensions D. ``stride``, ``padding`` and ``dilation``
    may be given as one integer; ``padding`` also as one ``(low, high)`` pair per axis. Padding
    extends the field with the ground state. ``offsets`` are the taps, each a D-tuple, in
    row-major order: all positions of the window unless a subset is given (a simplex, say).

    Raises:
        ValueError: If a number is out of range or has the wrong number of axes.

    Example:
        >>> ConvGeometry((3, 2), stride=2).output_shape((9, 8))
        (4, 4)
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    activity: Activity
    offsets: tuple[tuple[int, ...], ...]

    def __init__(
        self,
        kernel_size: Sequence[int],
        stride: PerAxis = 1,
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        dilation: PerAxis = 1,
        activity: Activity = Activity.DILATING,
        offsets: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if isinstance(kernel_size, SupportsIndex):
            raise ValueError(
                f"kernel_size is {kernel_size}: give one integer per axis, which also says how "
                f"many axes there are, as ({kernel_size}, {kernel_size})"
            )
        size = tuple(int(entry) for entry in kernel_size)
        dimensions = len(size)
        if offsets is None:
            taps = tuple(itertools.product(*(range(entry) for entry in size)))
        else:
            taps = tuple(sorted(tuple(int(entry) for entry in tap) for tap in offsets))
        set_field = object.__setattr__
        set_field(self, "kernel_size", size)
        set_field(self, "stride", per_axis(stride, dimensions, "stride"))
        set_field(self, "padding", _padding_pairs(padding, dimensions))
        set_field(self, "dilation", per_axis(dilation, dimensions, "dilation"))
        set_field(self, "activity", activity)
        set_field(self, "offsets", taps)
        self._check()

    def _check(self) -> None:
        if not self.kernel_size or min(self.kernel_size) < 1:
            raise ValueError(f"kernel_size is {self.kernel_size}: every entry must be at least 1")
        if min(self.stride) < 1 or min(self.dilation) < 1:
            raise ValueError(
                f"stride is {self.stride} and dilation is {self.dilation}: "
                "every entry must be at least 1"
            )
        if min(min(pair) for pair in self.padding) < 0:
            raise ValueError(f"padding is {self.padding}: no entry may be negative")
        outside = [
            tap
            for tap in self.offsets
            if len(tap) != self.dimensions
            or any(not 0 <= t < k for t, k in zip(tap, self.kernel_size, strict=True))
        ]
        if outside or not self.offsets or len(set(self.offsets)) != len(self.offsets):
            raise ValueError(
                f"offsets must be distinct taps inside kernel_size {self.kernel_size}; "
                f"{outside or self.offsets} are not"
            )
        if self.activity is Activity.SUBMANIFOLD and max(self.stride) > 1:
            raise ValueError(
                f"a submanifold window keeps its sites, so its stride must be 1, not {self.stride}"
            )

    @classmethod
    def submanifold(cls, kernel_size: Sequence[int], dilation: PerAxis = 1) -> ConvGeometry:
        """Return the window that puts tap ``(k - 1) // 2`` on the site and keeps the sites."""
        size = tuple(int(entry) for entry in kernel_size)
        steps = per_axis(dilation, len(size), "dilation")
        pairs = [
            (d * ((k - 1) // 2), d * (k - 1 - (k - 1) // 2))
            for k, d in zip(size, steps, strict=True)
        ]
        return cls(size, 1, pairs, steps, Activity.SUBMANIFOLD)

    @property
    def dimensions(self) -> int:
        """Number of spatial axes, D."""
        return len(self.kernel_size)

    @property
    def num_taps(self) -> int:
        """Number of taps, K."""
        return len(self.offsets)

    @property
    def is_full_window(self) -> bool:
        """Whether every position of the window is a tap."""
        return self.num_taps == math.prod(self.kernel_size)

    def output_shape(self, spatial_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the sizes of the output field, by floor division as in torch.

        Raises:
            ValueError: If the window does not fit into the padded field, or the field has
                another number of axes.
        """
        shape = tuple(spatial_shape)
        if len(shape) != self.dimensions:
            raise ValueError(
                f"a window of {self.dimensions} dimensions (kernel_size {self.kernel_size}) "
                f"cannot move over a field of shape {shape}, which has {len(shape)}"
            )
        result = []
        for n, k, s, (low, high), d in zip(
            shape, self.kernel_size, self.stride, self.padding, self.dilation, strict=True
        ):
            free = n + low + high - d * (k - 1) - 1
            if free < 0:
                raise ValueError(
                    f"kernel_size {self.kernel_size} (dilation {self.dilation}, padding "
                    f"{self.padding}) does not fit into a field of shape {shape}: take a larger "
                    "field, fewer levels or a smaller kernel"
                )
            result.append(free // s + 1)
        return tuple(result)


def _padding_pairs(
    padding: int | Sequence[int] | Sequence[tuple[int, int]], dimensions: int
) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, int):
        return ((padding, padding),) * dimensions
    if len(padding) != dimensions:
        raise ValueError(
            f"padding is {padding}, which has {len(padding)} entries, but the window has "
            f"{dimensions} dimensions: give one integer, or one integer or (low, high) per axis"
        )
    pairs = []
    for entry in padding:
        low, high = (entry, entry) if isinstance(entry, int) else entry
        pairs.append((int(low), int(high)))
    return tuple(pairs)
