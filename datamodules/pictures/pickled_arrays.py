"""What the pickle of an array of bytes names and calls, done without NumPy's functions.

Source:
    numpy.ndarray.__reduce__ and __reduce_ex__, whose results are in the pickles.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUFFER_MODULES = ("numpy.core.numeric", "numpy._core.numeric")
_NAMES = {
    **{(module, "_reconstruct"): "reconstruct" for module in _MODULES},
    **{(module, "_frombuffer"): "frombuffer" for module in _BUFFER_MODULES},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
}
"""What the pickle of an array names, in old and new versions of NumPy."""


class PickleDamageError(Exception):
    """Becomes a `DataError` where the file's name and the place in it are known."""


class Name(NamedTuple):
    """Stands for a function or class of NumPy.

    Args:
        name: One of the values of `_NAMES`.
    """

    name: str


class BytesType:
    """Stands for the dtype of unsigned bytes."""


class PickledArray:
    """An array whose contents the file has not said yet, or has."""

    array: NDArray[np.uint8] | None = None


def find_name(module: str, name: str) -> Name:
    """Return what stands for a name in a pickle; `PickleDamageError` if arrays do not need it."""
    if (module, name) not in _NAMES:
        raise PickleDamageError(
            f"the name {f'{module}.{name}'[:80]!r}, expected none but those of NumPy's arrays: "
            "it is not called; get the file again"
        )
    return Name(_NAMES[module, name])


def call(function: Name, values: tuple[Any, ...]) -> BytesType | PickledArray:
    """Return what the function of NumPy would give, for arrays of bytes alone."""
    match function.name, values:
        case "dtype", ("u1" | "|u1", *_):
            return BytesType()
        case "dtype", (memoryview() as code, *_) if bytes(code[:4]) in (b"u1", b"|u1"):
            return BytesType()
        case "reconstruct", (Name("ndarray"), _, _):
            return PickledArray()
        case "frombuffer", (memoryview() as data, BytesType(), tuple() as shape, order):
            found = PickledArray()
            found.array = _array(data, shape, order == "F")
            return found
    raise PickleDamageError("expected an array of unsigned bytes (dtype u1)")


def fill(target: PickledArray, state: tuple[Any, ...]) -> None:
    """Give an array the contents that a pickle of protocol 2 to 4 says apart."""
    match state:
        case (_, tuple() as shape, BytesType(), bool() as fortran, memoryview() as data):
            target.array = _array(data, shape, fortran)
        case _:
            raise PickleDamageError("expected the shape, dtype u1 and the bytes of an array")


def _array(data: memoryview, shape: tuple[Any, ...], columns_first: bool) -> NDArray[np.uint8]:
    is_shape = 0 < len(shape) <= 4 and all(type(n) is int and n > 0 for n in shape)
    if not is_shape or math.prod(shape) != len(data):
        raise PickleDamageError(f"an array of {len(data)} bytes, which its shape does not have")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if columns_first else "C")
