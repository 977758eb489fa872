"""Chains of operations on torch's own threads: what one of them has written stays in its cache.

Torch shares out each operation anew, so that blocks of rows travel between cores from one operation
to the next, and threads wait for each other in between. Here a thread does a whole chain on rows of
its own, a lane. The threads are those of the OpenMP library that torch uses, since others would
compete with them for the cores: idle ones go on looking for work for some time.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, TypeVar

import torch

Lane = TypeVar("Lane")
Result = TypeVar("Result")


def in_lanes(function: Callable[[Lane], Result], lanes: Sequence[Lane]) -> list[Result]:
    """Return ``function(lane)`` for each of them, done side by side; they share nothing.

    No gradients are recorded, and torch's operations take one thread. What fails in a lane is
    raised when all have ended.
    """
    openmp = _openmp()
    if len(lanes) == 1 or num_threads() == 1 or openmp is None:
        return [function(lane) for lane in lanes]
    inference = torch.is_inference_mode_enabled()
    results: dict[int, Result] = {}
    errors: list[BaseException] = []

    def share() -> Iterator[None]:
        try:
            yield
            _here.is_lane = True
            with torch.inference_mode(inference), torch.no_grad():  # modes belong to threads
                first, step = openmp.omp_get_thread_num(), openmp.omp_get_num_threads()
                for number in range(first, len(lanes), step):
                    results[number] = function(lanes[number])
        except GeneratorExit:  # of a thread that there is not
            return
        except BaseException as error:  # C cannot hand it on; it is raised below
            errors.append(error)
        yield

    # Handlers of signals run in the main thread wherever Python is. At the entry of a function
    # ctypes would drop what they raise; so each thread goes on with an iterator, in its `try`.
    shares = [share() for _ in range(openmp.omp_get_max_threads())]
    for each in shares:
        next(each)
    going_on = partial(next, map(next, iter(shares.pop, None)))
    try:
        # All threads of torch, also where lanes are fewer: others would end, and begin anew.
        openmp.GOMP_parallel(_CALLBACK(going_on), None, 0, 0)
    finally:
        _here.is_lane = False  # of this thread; the others do nothing else
    if not errors and len(results) < len(lanes):
        errors.append(KeyboardInterrupt("a signal ended an operation"))
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # else the error keeps this frame, and the frame the error
    return [results[number] for number in range(len(lanes))]


def num_threads() -> int:
    """Return how many threads an operation may take here: as many as torch's, but one in a lane."""
    return 1 if getattr(_here, "is_lane", False) or _forked.is_set() else torch.get_num_threads()


def has_lanes(device: torch.device) -> bool:
    """Return whether operations may be spread over `in_lanes` here.

    On CPUs alone, not where torch traces them, and not where somebody watches the operations of
    this thread, as `torch.utils.flop_counter` does.
    """
    if device.type != "cpu" or num_threads() == 1 or _openmp() is None:
        return False
    return not torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack() == 0


@cache
def _openmp() -> Any:
    """Return the OpenMP library that torch calls, or None if it does not have GNU's interface."""
    # In the order in which torch found it: one that was loaded before it comes first.
    for name in (None, torch._C.__file__) if os.name == "posix" else ():
        library = ctypes.CDLL(name)  # and what it needs
        if hasattr(library, "GOMP_parallel"):
            break
    else:
        return None
    arguments = _CALLBACK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
    library.GOMP_parallel.argtypes, library.GOMP_parallel.restype = arguments, None
    return library


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_here = threading.local()
_forked = threading.Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked.set)  # the threads do not live on in the child
