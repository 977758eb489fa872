"""Samples and characters: what a data set must offer, whether or not it is in memory."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.datamodules.strokes import StrokeSet

T_co = TypeVar("T_co", covariant=True)


class LabelledSamples(Protocol[T_co]):
    """A labelled sequence of which any some samples can be had together, as one object."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers, shape (B,)."""
        ...

    @property
    def writers(self) -> NDArray[np.int32] | None:
        """Who wrote each sample, shape (B,), if known."""
        ...

    def __len__(self) -> int: ...

    def select(self, indices: ArrayLike, /) -> T_co:
        """Return the samples at ``indices``, in that order; repeats are allowed."""
        ...


Characters = LabelledSamples[StrokeSet]
"""A sequence of characters; a `StrokeSet` is one, others make or load them when asked for."""


class Subset(Generic[T_co]):
    """Some of the samples of a sequence, as a view.

    Args:
        samples: The sequence.
        indices: int64, shape (B,): which, in order.
    """

    def __init__(self, samples: LabelledSamples[T_co], indices: ArrayLike) -> None:
        self.samples, self.indices = samples, np.asarray(indices, np.int64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers, shape (B,)."""
        return self.samples.labels[self.indices]

    @cached_property
    def writers(self) -> NDArray[np.int32] | None:
        """Who wrote each sample, shape (B,), if known."""
        writers = self.samples.writers
        return None if writers is None else writers[self.indices]

    @cached_property
    def names(self) -> list[str] | None:
        """What each sample is called, if it has a name."""
        names = getattr(self.samples, "names", None)
        return None if names is None else [names[i] for i in self.indices]

    def __getstate__(self) -> dict[str, Any]:
        # Workers compute what was cached anew, rather than receive it.
        cached = ("labels", "writers", "names")
        return {name: value for name, value in vars(self).items() if name not in cached}

    def __len__(self) -> int:
        return len(self.indices)

    def select(self, indices: ArrayLike, /) -> T_co:
        """Return the samples at ``indices`` of the view."""
        return self.samples.select(self.indices[np.asarray(indices, np.int64)])
