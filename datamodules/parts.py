"""The parts of a source: training, validation and test samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.characters import LabelledSamples, Subset
from spcnn_lightning.datamodules.splits import split_validation

T = TypeVar("T")
NAMES = ("train", "val", "test")


class Source(Protocol):
    """What every source of samples says of itself, before anything is read."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        ...

    def check(self) -> None:
        """Raise `DataError` if a file is missing."""
        ...


def require_words(source: object, *names: str) -> None:
    """Raise `DataError` if somebody's source does not say what every source has to.

    A name that is a property may raise an error of its own, of missing files say.
    """
    for name in names:
        if not hasattr(type(source), name) and not hasattr(source, name):
            kind = type(source).__name__
            raise DataError(f"{kind} has no {name}: set it in the class, or in its __init__")


def check_labels(labels: NDArray[np.int64], source: Source) -> None:
    """Raise `DataError` if a label is beyond the classes of its source."""
    classes = source.num_classes
    if len(labels) and labels.max() >= classes:
        raise DataError(
            f"{type(source).__name__} gave label {labels.max()}, but has {classes} classes: "
            f"labels are numbers from 0 to {classes - 1}"
        )


class Parts(Generic[T]):
    """Reads a source when a part of it is first needed, and holds validation data out.

    Args:
        source: Where the samples come from.
        read: Returns the "train" or the "test" part of it.
        validation_fraction: Share of the training samples held out for validation.
        validation_writers: Hold out exactly these writers instead.
        split_seed: Decides which are held out.
        check: Called with the first sample of what was read and the name of the source; raises
            `DataError` if it cannot be used.
    """

    def __init__(
        self,
        source: Source,
        read: Callable[[str], LabelledSamples[T]],
        validation_fraction: float = 0.1,
        validation_writers: list[int] | None = None,
        split_seed: int = 0,
        check: Callable[[T, str], None] | None = None,
    ) -> None:
        self.source, self.read = source, read
        self.validation_fraction, self.validation_writers = validation_fraction, validation_writers
        self.split_seed, self.check = split_seed, check
        self._parts: dict[str, LabelledSamples[T]] = {}

    def __getitem__(self, name: str) -> LabelledSamples[T]:
        """Return "train", "val" or "test", as views of the source: files stay on disk.

        Raises:
            DataError: If the source's samples or the split cannot be used.
        """
        if name not in self._parts:
            try:
                self._read("test" if name == "test" else "train")
            except DataError:
                raise
            except ValueError as error:
                raise DataError(f"{type(self.source).__name__}: {error}") from error
        return self._parts[name]

    @property
    def sizes(self) -> dict[str, int]:
        """The number of samples of each part that was read so far."""
        return {name: len(self._parts[name]) for name in NAMES if name in self._parts}

    def _read(self, name: str) -> None:
        everything = self._checked(self.read(name))
        if name == "test":
            self._parts["test"] = everything
            return
        kept, held_out = split_validation(
            everything, self.validation_fraction, self.validation_writers, self.split_seed
        )
        self._parts["train"] = Subset(everything, kept)
        self._parts["val"] = Subset(everything, held_out)

    def _checked(self, samples: LabelledSamples[T]) -> LabelledSamples[T]:
        check_labels(samples.labels, self.source)
        if self.check is not None and len(samples):
            self.check(samples.select([0]), type(self.source).__name__)
        return samples
