"""Numbers for class names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.parsing import shortened

Classes = list[str] | int | None
"""Which characters a source gives: these, the first n of GB2312 level 1, or all that it has."""


class ClassTable:
    """Gives each class its number.

    Args:
        classes: The names that the user chose; an integer means the first n characters of GB2312
            level 1; None: all names that ``discover`` finds, sorted.
        discover: Looks into the files, and tells what cannot be read.
        where: Names these, for the error.

    Raises:
        ValueError: If no class is chosen, or a name twice.
        DataError: If ``discover`` finds no class; says what it could not read.
    """

    def __init__(
        self, classes: Classes, discover: Callable[[OnDamage], Iterable[str]], where: str
    ) -> None:
        self.chosen = classes is not None
        self.damage: list[DataError] = []  # where names may have been lost
        if classes is None:
            self.names = tuple(sorted(set(discover(self.damage.append))))
            if not self.names:
                raise DataError(
                    f"{where}: no class found: these files hold no labelled character"
                    f"{self._unread()}"
                )
        elif isinstance(classes, int):
            self.names = level1_characters(classes)
        else:
            self.names = tuple(classes)
        if not self.names:
            raise ValueError("classes is an empty list: name at least one class, or leave it out")
        self._numbers = {name: number for number, name in enumerate(self.names)}
        if len(self._numbers) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"classes names {twice!r} twice")

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def number(self, name: str, where: str) -> int | None:
        """Return the number of a class; None if the user's choice leaves it out.

        Raises:
            DataError: If the user chose nothing and ``name`` is unknown: then it was not among the
                training data. The message begins with ``where``.
        """
        found = self._numbers.get(name)
        if found is None and not self.chosen:
            raise DataError(
                f"{where}: class {shortened(name)} is not among the {len(self.names)} classes of "
                f"the training part: give classes=[...] to choose what to read{self._unread()}"
            )
        return found

    def _unread(self) -> str:
        if not self.damage:
            return ""
        first = str(self.damage[0])
        first = first if len(first) <= 300 else f"{first[:297]}..."
        places = "1 place" if len(self.damage) == 1 else f"{len(self.damage)} places"
        return f"; {places} there cannot be read, the first: {first}"


def level1_characters(count: int = 3755) -> tuple[str, ...]:
    """Return the first characters of GB2312 level 1, which are the classes of CASIA.

    >>> "".join(level1_characters(5)), level1_characters()[-1]
    ('啊阿埃挨哎', '座')

    Raises:
        ValueError: If ``count`` is not 1 to 3755.
    """
    if not 1 <= count <= 3755:
        raise ValueError(f"{count} characters asked of GB2312 level 1, which has 3755")
    places = range(count)
    return tuple(bytes([0xB0 + i // 94, 0xA1 + i % 94]).decode("gb2312") for i in places)
