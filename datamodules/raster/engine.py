"""Which code walks: plain numpy, or the same compiled by numba.

Both give the same numbers to the last bit, so the choice is one of speed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from spcnn_lightning.compiled import has_numba, worth_compiling
from spcnn_lightning.datamodules.raster import legs, runs
from spcnn_lightning.datamodules.raster.legs import Integers, Legs
from spcnn_lightning.datamodules.raster.runs import Runs

WORTH_COMPILING = worth_compiling(200_000)
"""Samples walked by a process from which on compiling pays, so that short runs never wait for it.

Compiling takes about 8 s, once on a machine, and loading what was compiled 0.6 s; a sample gains
0.03 to 0.1 ms.
"""


class Kernels(NamedTuple):
    """The three loops over points, steps and runs."""

    cut_into_legs: Callable[..., Legs]
    runs_of: Callable[..., Runs]
    number_sites: Callable[[Integers, int, int], tuple[Integers, Integers]]


NUMPY = Kernels(legs.cut_into_legs, runs.runs_of, runs.number_sites)

_walked = 0


def kernels_for(samples: int) -> Kernels:
    """Return the kernels for the next ``samples`` samples of this process.

    Numba's, once `WORTH_COMPILING` samples were walked and if it is installed; numpy's otherwise.
    """
    global _walked  # noqa: PLW0603  # a count for speed alone: no result depends on it
    _walked += samples
    if _walked < WORTH_COMPILING or not has_numba():
        return NUMPY
    return numba_kernels()


def numba_kernels() -> Kernels:
    """Return the kernels compiled by numba, compiled on their first call."""
    from spcnn_lightning.datamodules.raster import compiled

    return Kernels(compiled.cut_into_legs, compiled.runs_of, compiled.number_sites)
