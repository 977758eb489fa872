"""Loops compiled by numba, for CPUs, beside the torch operations that say the same.

Each has a twin in torch operations, which runs everywhere and is the reference of the tests; these
only save time. They need the extra ``fast``. Nothing is imported here before a process has done
enough work for compiling to pay, so that short runs and small fields never wait for it. A run may
change over at any step, and one that is resumed does so at another: both give the same bits.

The environment variable SPCNN_COMPILE changes that: "at_once" for a server that wants them from its
first answer on, "never" to do without them.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import warnings
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from spcnn_lightning.compiled.threads import in_lanes, num_threads

WHEN = {"": None, "at_once": 0, "never": math.inf}
"""What SPCNN_COMPILE may say."""


def worth_compiling(usual: float) -> float:
    """Return the work after which loops are compiled: ``usual``, or what SPCNN_COMPILE says."""
    said = os.environ.get("SPCNN_COMPILE", "")
    if said not in WHEN:
        warnings.warn(
            f"SPCNN_COMPILE is {said!r} and changes nothing: set it to at_once or never",
            stacklevel=2,
        )
    chosen = WHEN.get(said)
    return usual if chosen is None else chosen


WORTH_COMPILING = worth_compiling(100_000_000)
"""Numbers that a process moves in torch operations before it asks for the compiled loops.

Compiling takes some seconds, once on a machine, and loading what was compiled 0.6 s; torch
operations take about 2 ns longer for each number.
"""
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)
WORTH_A_THREAD = 200_000
"""Numbers to move for each thread: about 0.1 ms."""

WAKING = 40_000
"""Numbers to move for each thread of torch, all of which wake up: about 0.02 ms."""

_moved = 0


def compiled_for(numbers: int, *tensors: Tensor) -> bool:
    """Return whether the compiled loops are to do the next ``numbers`` numbers of this process.

    They take float32, float64 and integers on the CPU, outside of `torch.compile`.
    """
    global _moved  # noqa: PLW0603  # a count for speed alone: no result depends on it
    if torch.compiler.is_compiling() or not all(map(_is_plain, tensors)):
        return False
    _moved += numbers
    return _moved >= WORTH_COMPILING and has_numba()


def _is_plain(tensor: Tensor) -> bool:
    known = tensor.dtype in (torch.float32, torch.float64, *INTEGERS)
    return known and tensor.device.type == "cpu" and type(tensor) in (Tensor, torch.nn.Parameter)


@cache
def has_numba() -> bool:
    """Whether the extra ``fast`` is installed and works; a warning says why it does not."""
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        importlib.import_module("numba")
    except ImportError as error:  # a numpy that is newer than it knows, for instance
        warnings.warn(
            f"numba is installed but cannot be used ({error}): its loops run in torch and numpy "
            "operations, more slowly and with the same results; install a numba that fits, or "
            "remove it",
            stacklevel=2,
        )
        return False
    return True


def in_pieces(kernel: Callable[..., None], rows: int, numbers: int, *arguments: Any) -> None:
    """Call ``kernel(*arguments, first, end)`` for pieces of ``rows`` rows, on torch's threads.

    Args:
        kernel: Compiled without the lock of Python; writes to the rows first..end - 1 alone.
        rows: To be cut into pieces.
        numbers: Moved in all rows; small work is done by one thread.
        arguments: Tensors are handed over as NumPy arrays.
    """
    arrays = [a.detach().numpy() if isinstance(a, Tensor) else a for a in arguments]
    pieces = pieces_of(rows, numbers)
    in_lanes(lambda piece: kernel(*arrays, piece.start, piece.stop), pieces)


def pieces_of(rows: int, numbers: int) -> list[slice]:
    """Return parts of the rows for `in_lanes`, as many as moving so many numbers is worth."""
    every = num_threads()
    threads = min(every, numbers // WORTH_A_THREAD, rows) if numbers >= every * WAKING else 1
    threads = max(1, threads)
    bounds = [rows * piece // threads for piece in range(threads + 1)]
    return [slice(*ends) for ends in pairwise(bounds)]
