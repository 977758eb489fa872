"""KernelMapClock: how much of the time went into kernel maps."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch

from spcnn_lightning.bench.values import synchronise
from spcnn_lightning.core.active_set import ActiveSet


class KernelMapClock:
    """Adds up the time in which kernel maps are built, while it is entered.

    Every map of every backend is kept on an `ActiveSet` and built through its ``kernel_map``, so
    that method is watched; and so are the views that a map computes later, when they are first
    looked at (the ``cached_property`` members of its class).

    Attributes:
        elapsed: Seconds so far; set it to 0 to begin anew.
    """

    def __init__(self, device: torch.device) -> None:
        self.elapsed = 0.0
        self._device = device
        self._depth = 0
        self._undo: list[Callable[[], None]] = []
        self._watched: set[type] = set()

    def __enter__(self) -> KernelMapClock:
        original = ActiveSet.kernel_map

        def kernel_map(sites: ActiveSet, builder: str, geometry: Any, build: Any) -> Any:
            found = original(sites, builder, geometry, lambda: self._timed(build))
            self._watch_views(type(found))
            return found

        # By name: it stands in for a method, which is not what a type is for.
        setattr(ActiveSet, "kernel_map", kernel_map)  # noqa: B010
        self._undo.append(lambda: setattr(ActiveSet, "kernel_map", original))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._undo:
            self._undo.pop()()
        self._watched.clear()

    def _timed(self, work: Callable[[], Any]) -> Any:
        if self._depth:
            return work()
        self._depth += 1
        synchronise(self._device)
        start = time.perf_counter()
        try:
            return work()
        finally:
            synchronise(self._device)
            self.elapsed += time.perf_counter() - start
            self._depth -= 1

    def _watch_views(self, kind: type) -> None:
        if kind in self._watched:
            return
        self._watched.add(kind)
        for cls in kind.__mro__:
            for view in vars(cls).values():
                if isinstance(view, functools.cached_property):
                    self._watch(view)

    def _watch(self, view: functools.cached_property[Any]) -> None:
        compute = view.func
        view.func = lambda owner: self._timed(lambda: compute(owner))
        self._undo.append(lambda: setattr(view, "func", compute))
