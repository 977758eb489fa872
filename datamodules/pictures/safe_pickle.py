"""Pickles of plain values and arrays of bytes, read without running anything.

Unpickling calls whatever a file names. This reader knows the few operations that plain values need,
in the binary protocols 2 (as Python 2 writes it) to 5, and carries them out itself: nothing is
imported, no function is called, and an array is a view of the bytes in the file. All else is
damage, and so are names but those of arrays: see `pickled_arrays`.

Source:
    The Python standard library, pickletools, which describes each operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.pickled_arrays import (
    BytesType,
    Name,
    PickleDamageError,
    PickledArray,
    call,
    fill,
    find_name,
)

MOST_OPERATIONS = 500_000
"""Twice as many as the largest batch of CIFAR has; each may take a few hundred bytes of memory."""

_MARK = object()


def load_plain_pickle(data: bytes, name: str) -> Any:
    """Return the value of a pickle: integers, text, bytes, lists, tuples, dicts, uint8 arrays.

    Keys of dicts are text: those of Python 2, which are bytes, are read as Latin-1. Bytes are
    memory views, and arrays stand in a dict at the top or alone.

    Args:
        data: The pickle; arrays share its memory.
        name: Of the file, for errors.

    Raises:
        DataError: At anything else, with the byte where it stands.
    """
    machine = _Machine(data)
    try:
        return machine.run()
    except PickleDamageError as error:
        raise DataError(f"{name}: byte {machine.begin}: {error}") from error


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place, self.begin = memoryview(data), 0, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_OPERATIONS):
            self.begin = self.place
            code = self.take(1)[0]
            if code == ord("."):
                return _finished(self.pop())
            if code not in _OPERATIONS:
                raise PickleDamageError(
                    f"operation {code:#04x}, which plain values and arrays do not need: it is not "
                    "carried out; get the file again"
                )
            _OPERATIONS[code](self)
        raise PickleDamageError(
            f"more than {MOST_OPERATIONS} operations, expected the end of a batch"
        )

    def take(self, size: int) -> memoryview:
        """Return the next bytes of the file."""
        if size > len(self.data) - self.place:
            raise PickleDamageError(
                f"{size} bytes wanted where {len(self.data) - self.place} are left: the file is "
                "cut off or damaged"
            )
        self.place += size
        return self.data[self.place - size : self.place]

    def integer(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, kind: type | None = None) -> Any:
        """Return the value on top."""
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleDamageError("a value is missing")
        return _of_kind(self.stack.pop(), kind)

    def pop_to_mark(self) -> list[Any]:
        """Return the values above the mark, which goes too."""
        place = len(self.stack) - 1
        while place >= 0 and self.stack[place] is not _MARK:
            place -= 1
        if place < 0:
            raise PickleDamageError("a mark is missing")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def top(self, kind: type) -> Any:
        if not self.stack:
            raise PickleDamageError("a value is missing")
        return _of_kind(self.stack[-1], kind)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        if len(pairs) % 2:
            raise PickleDamageError("a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            text = str(key, "latin-1") if isinstance(key, memoryview) else key
            # Text alone: numbers can be chosen so that each finds its place after all others.
            target[_of_kind(text, str)] = value

    def text(self, size: int) -> None:
        try:
            self.push(str(self.take(size), "utf-8", "surrogatepass"))
        except UnicodeDecodeError as error:
            raise PickleDamageError(f"text that is not UTF-8: {error.reason}") from error

    def line(self) -> str:
        """Return ASCII text up to the next end of line."""
        end = bytes(self.data[self.place : self.place + 100]).find(b"\n")
        if end < 0:
            raise PickleDamageError("a name of more than 100 bytes")
        return str(self.take(end + 1)[:-1], "latin-1")

    def memoize(self, number: int) -> None:
        self.memo[number] = self.top(object)

    def recall(self, number: int) -> None:
        if number not in self.memo:
            raise PickleDamageError(f"value number {number} is used before it is stored")
        self.push(self.memo[number])

    def call(self) -> None:
        values, function = self.pop(tuple), self.pop(Name)
        self.push(call(function, values))

    def build(self) -> None:
        state = self.pop(tuple)
        if not isinstance(self.top(object), BytesType):  # a dtype is known by its name
            fill(self.top(PickledArray), state)


def _of_kind(value: Any, kind: type | None) -> Any:
    if kind is not None and not isinstance(value, kind):
        raise PickleDamageError(f"a value of type {type(value).__name__}, expected {kind.__name__}")
    return value


def _finished(value: Any) -> Any:
    """Return plain values for those of the machine, at the top and in a dict there."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, PickledArray):
        if value.array is None:
            raise PickleDamageError("an array without contents")
        return value.array
    return value


def _proto(m: _Machine) -> None:
    if not 2 <= (version := m.integer(1)) <= 5:
        raise PickleDamageError(
            f"protocol {version}, expected 2 to 5: not a batch as it is handed out"
        )


def _frame(m: _Machine) -> None:
    m.take(8)  # a size, for readers that read ahead


def _name_from_stack(m: _Machine) -> None:
    name, module = m.pop(str), m.pop(str)
    m.push(find_name(module, name))


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def operation(m: _Machine) -> None:
        values = [m.pop() for _ in range(count)]
        m.push(tuple(reversed(values)))

    return operation


def _pair(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    m.set_items([key, value])


def _append(m: _Machine) -> None:
    value = m.pop()
    m.top(list).append(value)


def _extend(m: _Machine) -> None:
    values = m.pop_to_mark()
    m.top(list).extend(values)


def _long(m: _Machine) -> None:
    size = m.integer(1)
    if size > 8:
        raise PickleDamageError(f"an integer of {size} bytes, expected at most 8")
    m.push(m.integer(size, signed=True))


_OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _proto,
    0x95: _frame,
    ord("("): lambda m: m.push(_MARK),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.integer(1)),
    ord("M"): lambda m: m.push(m.integer(2)),
    ord("J"): lambda m: m.push(m.integer(4, signed=True)),
    0x8A: _long,
    ord("U"): lambda m: m.push(m.take(m.integer(1))),
    ord("T"): lambda m: m.push(m.take(m.integer(4))),
    ord("C"): lambda m: m.push(m.take(m.integer(1))),
    ord("B"): lambda m: m.push(m.take(m.integer(4))),
    0x8E: lambda m: m.push(m.take(m.integer(8))),
    0x96: lambda m: m.push(m.take(m.integer(8))),
    0x8C: lambda m: m.text(m.integer(1)),
    ord("X"): lambda m: m.text(m.integer(4)),
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    ord("s"): _pair,
    ord("u"): lambda m: m.set_items(m.pop_to_mark()),
    ord("a"): _append,
    ord("e"): _extend,
    ord("c"): lambda m: m.push(find_name(m.line(), m.line())),
    0x93: _name_from_stack,
    ord("R"): lambda m: m.call(),
    ord("b"): lambda m: m.build(),
    ord("q"): lambda m: m.memoize(m.integer(1)),
    ord("r"): lambda m: m.memoize(m.integer(4)),
    0x94: lambda m: m.memoize(len(m.memo)),
    ord("h"): lambda m: m.recall(m.integer(1)),
    ord("j"): lambda m: m.recall(m.integer(4)),
}
"""What each operation does, by its code."""
