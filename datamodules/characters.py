"""Characters: what a data set of strokes must offer, whether or not it is in memory."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.datamodules.strokes import StrokeSet


class Characters(Protocol):
    """A sequence of characters of which any some can be had as a `StrokeSet`.

    A `StrokeSet` is one; others make or load characters when they are asked for.
    """

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers, shape (B,)."""
        ...

    @property
    def writers(self) -> NDArray[np.int32] | None:
        """Who wrote each character, shape (B,), if known."""
        ...

    def __len__(self) -> int: ...

    def select(self, indices: ArrayLike) -> StrokeSet:
        """Return the characters at ``indices``, in that order; repeats are allowed."""
        ...


class Subset:
    """Some of the characters of a sequence, as a view.

    Args:
        characters: The sequence.
        indices: int64, shape (B,): which, in order.
    """

    def __init__(self, characters: Characters, indices: ArrayLike) -> None:
        self.characters, self.indices = characters, np.asarray(indices, np.int64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers, shape (B,)."""
        return self.characters.labels[self.indices]

    @cached_property
    def writers(self) -> NDArray[np.int32] | None:
        """Who wrote each character, shape (B,), if known."""
        writers = self.characters.writers
        return None if writers is None else writers[self.indices]

    def __getstate__(self) -> dict[str, Any]:
        # Workers compute what was cached anew, rather than receive it.
        return {"characters": self.characters, "indices": self.indices}

    def __len__(self) -> int:
        return len(self.indices)

    def select(self, indices: ArrayLike) -> StrokeSet:
        """Return the characters at ``indices`` of the view."""
        return self.characters.select(self.indices[np.asarray(indices, np.int64)])
