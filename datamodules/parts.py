"""The parts of a source: training, validation and test characters."""

from __future__ import annotations

from collections.abc import Callable

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.characters import Characters, Subset
from spcnn_lightning.datamodules.sources import StrokeSource
from spcnn_lightning.datamodules.splits import split_validation
from spcnn_lightning.datamodules.strokes import StrokeSet


class StrokeParts:
    """Reads a source when a part of it is first needed, and holds validation data out.

    Args:
        source: Where the characters come from.
        validation_fraction: Share of the training characters held out for validation.
        validation_writers: Hold out exactly these writers instead.
        split_seed: Decides which are held out.
        check: Called with the first character of what was read and the name of the source; raises
            `DataError` if it cannot be used.
    """

    def __init__(
        self,
        source: StrokeSource,
        validation_fraction: float = 0.1,
        validation_writers: list[int] | None = None,
        split_seed: int = 0,
        check: Callable[[StrokeSet, str], None] | None = None,
    ) -> None:
        self.source = source
        self.validation_fraction, self.validation_writers = validation_fraction, validation_writers
        self.split_seed, self.check = split_seed, check
        self._parts: dict[str, Characters] = {}

    def __getitem__(self, name: str) -> Characters:
        """Return "train", "val" or "test", as views of the source: shards stay on disk.

        Raises:
            DataError: If the source's characters or the split cannot be used.
        """
        if name not in self._parts:
            try:
                self._read("test" if name == "test" else "train")
            except DataError:
                raise
            except ValueError as error:
                raise DataError(f"{type(self.source).__name__}: {error}") from error
        return self._parts[name]

    def _read(self, name: str) -> None:
        if name == "test":
            self._parts["test"] = self._checked(self.source.characters("test"))
            return
        everything = self._checked(self.source.characters("train"))
        kept, held_out = split_validation(
            everything, self.validation_fraction, self.validation_writers, self.split_seed
        )
        self._parts["train"] = Subset(everything, kept)
        self._parts["val"] = Subset(everything, held_out)

    def _checked(self, strokes: Characters) -> Characters:
        classes = self.source.num_classes
        if len(strokes) and strokes.labels.max() >= classes:
            raise DataError(
                f"{type(self.source).__name__} gave label {strokes.labels.max()}, but has "
                f"{classes} classes: labels are numbers from 0 to {classes - 1}"
            )
        if self.check is not None and len(strokes):
            self.check(strokes.select([0]), type(self.source).__name__)
        return strokes
