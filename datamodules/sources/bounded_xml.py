"""Reading XML files of unknown origin: as a stream, with nothing expanded and nothing fetched.

A document type may stand in the file (those of Tomoe and KanjiVG have one) and its defaults for
attributes are used, but a file that declares an entity is refused: an entity can grow without
bounds when it is expanded, or name a file elsewhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.files import open_file
from spcnn_lightning.datamodules.sources.parsing import shortened

LARGEST_ELEMENT = 1 << 23
DEEPEST = 100
_BLOCK = 1 << 16


def read_elements(path: Path, tag: str, on_damage: OnDamage) -> Iterator[tuple[str, Element]]:
    """Yield each element of a name with its place in the file; names lose their prefixes.

    Elements are handed over one by one and not kept. A file that is no XML from some place on, or
    breaks one of the limits, is damage and ends there; so is a file without such an element.

    Args:
        path: A plain or .gz file.
        tag: Name of the elements wanted; one inside another belongs to the outer.
        on_damage: Is told of the damage.

    Yields:
        File name, line and byte at which the element begins, for errors; and the element.
    """
    reader = _Reader(path, tag)
    offset = 0
    try:
        with open_file(path) as file:
            while block := file.read(_BLOCK):
                offset += len(block)
                reader.parser.Parse(block, False)
                yield from reader.take()
                reader.check_size()
            reader.parser.Parse(b"", True)
            yield from reader.take()
            if not reader.num_found:
                raise DataError(f"{path}: no <{tag}> in it: not a file of this format")
    except DataError as error:
        on_damage(error)
    except expat.ExpatError as error:
        yield from reader.take()
        message = expat.ErrorString(error.code)
        at = reader.parser.ErrorByteIndex
        on_damage(DataError(f"{path}: line {error.lineno} (byte {at}): {message}, expected XML"))
    except (LookupError, ValueError) as error:  # an encoding that the parser does not know
        on_damage(DataError(f"{path}: cannot be decoded: {error}"))
    except (OSError, EOFError, zlib.error) as error:
        on_damage(DataError(f"{path}: cannot be read beyond byte {offset}: {error}; get it again"))


class _Reader:
    """Builds trees for the elements wanted and for nothing else."""

    def __init__(self, path: Path, tag: str) -> None:
        self.path, self.tag = path, tag
        self.depth = 0
        self.builder: TreeBuilder | None = None
        self.builder_depth = self.first_byte = 0
        self.begin = ""  # place of the element that is being built
        self.found: list[tuple[str, Element]] = []
        self.num_found = 0
        self.parser = expat.ParserCreate(namespace_separator="}")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._entity

    def take(self) -> list[tuple[str, Element]]:
        found, self.found = self.found, []
        self.num_found += len(found)
        return found

    def check_size(self) -> None:
        size = self.parser.CurrentByteIndex - self.first_byte
        if self.builder is not None and size > LARGEST_ELEMENT:
            raise DataError(
                f"{self.begin}: <{self.tag}> is longer than {LARGEST_ELEMENT} bytes: not a file of "
                "this format"
            )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise DataError(f"{self._where()}: elements inside elements, {DEEPEST} deep")
        local = name.rpartition("}")[2]
        if self.builder is None and local == self.tag:
            self.builder, self.builder_depth = TreeBuilder(), self.depth
            self.begin, self.first_byte = self._where(), self.parser.CurrentByteIndex
        if self.builder is not None:
            plain = {key.rpartition("}")[2]: value for key, value in attributes.items()}
            self.builder.start(local, plain)

    def _end(self, name: str) -> None:
        if self.builder is not None:
            self.builder.end(name.rpartition("}")[2])
            if self.depth == self.builder_depth:
                self.found.append((self.begin, self.builder.close()))
                self.builder = None
        self.depth -= 1

    def _text(self, text: str) -> None:
        if self.builder is not None:
            self.builder.data(text)

    def _entity(self, name: str, *_: object) -> NoReturn:
        raise DataError(
            f"{self._where()}: declares the entity {shortened(name)}: refused, remove it"
        )

    def _where(self) -> str:
        line, byte = self.parser.CurrentLineNumber, self.parser.CurrentByteIndex
        return f"{self.path}: line {line} (byte {byte})"
