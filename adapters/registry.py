"""Lazy look-up of backends by name, our own and those that other distributions register.

A name may choose one of a backend's algorithms, behind a colon: ``"spconv:native"``. Without one
the backend takes its default, the first of its class's ``algorithms``.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import warnings
from collections.abc import Sequence
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

from spcnn_lightning.core.backend import Backend
from spcnn_lightning.core.errors import BackendNotFoundError, BackendUnsupportedError

ENTRY_POINT_GROUP = "spcnn_lightning.backends"
"""Other distributions add a backend by an entry point of this group.

The point's name is the backend's name; it leads to a class, or another callable, that returns a
`Backend` when called without arguments. If it has an attribute ``algorithms``, a sequence of words,
it takes one of them as its only argument.
"""

AUTO = "auto"
"""The word that leaves the choice to `spcnn_lightning.adapters.auto`."""

_PACKAGE = "spcnn_lightning.adapters"
BUILT_IN = {
    "torch": f"{_PACKAGE}.torch_backend:TorchBackend",
    "spconv": f"{_PACKAGE}.spconv_backend:SpconvBackend",
    "torchsparse": f"{_PACKAGE}.torchsparse_backend:TorchSparseBackend",
    "spconv_triton": f"{_PACKAGE}.spconv_triton_backend:SpconvTritonBackend",
}


def backend_names() -> list[str]:
    """Return the names that `get_backend` knows, our own first; "auto" is not one of them."""
    return [*BUILT_IN, *sorted(_outside_points())]


@functools.cache
def get_backend(name: str) -> Backend:
    """Return the backend of this name; its library is not imported before it is used.

    Args:
        name: One of `backend_names`, with or without an algorithm: "spconv", "spconv:native".

    Raises:
        BackendNotFoundError: If nothing is registered under the name, or two distributions are, or
            the backend has no such algorithm.
        BackendUnsupportedError: If what a distribution registers cannot be loaded.
    """
    check_name(name)
    base, _, algorithm = name.partition(":")
    if base in BUILT_IN:
        made: Backend = _built_in(base)(*([algorithm] if algorithm else []))
        return made
    return _load(_outside_points()[base][0], algorithm)


def check_name(name: str | Backend, also: Sequence[str] = (AUTO,)) -> None:
    """Raise if nothing goes by a name; no library is imported for it.

    Args:
        name: Of a backend, with or without an algorithm; a backend itself is good, too. The
            algorithms of other distributions are not looked at before they are used.
        also: Names that are good besides those of backends.

    Raises:
        BackendNotFoundError: As `get_backend` does.
    """
    if not isinstance(name, str) or name in also:
        return
    base, colon, _ = name.partition(":")
    points = _outside_points().get(base, [])
    if base not in BUILT_IN and not points:
        known = [*also, *backend_names()]
        raise BackendNotFoundError(
            f"there is no backend {name!r}; known: {', '.join(known)}{_closest(base, known)}"
        )
    if len(points) > 1:
        raise BackendNotFoundError(
            f"backend {base!r} is registered by {' and by '.join(map(_origin, points))}: uninstall "
            "all but one of them"
        )
    if colon and base in BUILT_IN:
        _check_algorithm(_built_in(base), name)


def _built_in(name: str) -> Any:
    module, _, attribute = BUILT_IN[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _check_algorithm(factory: Any, name: str) -> None:
    base, _, algorithm = name.partition(":")
    known = list(getattr(factory, "algorithms", ()))
    if not known:
        raise BackendNotFoundError(
            f"there is no backend {name!r}: {base} has no algorithms to choose from; write {base!r}"
        )
    if algorithm not in known:
        raise BackendNotFoundError(
            f"there is no backend {name!r}: {base} has no algorithm {algorithm!r}; known: "
            f"{', '.join(known)}{_closest(algorithm, known)}"
        )


def _closest(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def shadowed_points() -> list[str]:
    """Return a sentence for each entry point that is ignored, since its name is taken."""
    return [
        f"{_origin(point)} registers a backend {point.name!r}, a name that belongs to "
        f"spcnn-lightning; it is ignored: ask its authors for another name, or uninstall it"
        for point in _entry_points()
        if point.name in (*BUILT_IN, AUTO)
    ]


def forget() -> None:
    """Look entry points and backends up again; `resolution.forget` forgets the answers, too."""
    _outside_points.cache_clear()
    get_backend.cache_clear()


@functools.cache
def _outside_points() -> dict[str, list[EntryPoint]]:
    for sentence in shadowed_points():
        warnings.warn(sentence, stacklevel=2)
    points: dict[str, list[EntryPoint]] = {}
    for point in _entry_points():
        if point.name not in (*BUILT_IN, AUTO):
            points.setdefault(point.name, []).append(point)
    return points


def _entry_points() -> list[EntryPoint]:
    # A distribution that lies on the path twice is one distribution.
    found = {(p.name, p.value, _origin(p)): p for p in entry_points(group=ENTRY_POINT_GROUP)}
    return list(found.values())


def _load(point: EntryPoint, algorithm: str) -> Backend:
    try:
        factory = point.load()
        if algorithm:
            _check_algorithm(factory, f"{point.name}:{algorithm}")
        made: Any = factory(*([algorithm] if algorithm else []))
    except BackendNotFoundError:
        raise
    except Exception as error:
        raise BackendUnsupportedError(
            f"backend {point.name!r} cannot be loaded\n  registered by: {_origin(point)}, as "
            f"{point.value}\n  {type(error).__name__}: {error}\n  mend or uninstall that "
            "distribution, or choose another backend: backend='torch' is always there"
        ) from error
    if not isinstance(made, Backend) or made.name.partition(":")[0] != point.name:
        raise BackendUnsupportedError(
            f"{point.value} of {_origin(point)} gives {made!r}, which is not a backend named "
            f"{point.name!r}: it needs that name and the verbs of spcnn_lightning.core.backend"
        )
    return made


def _origin(point: EntryPoint) -> str:
    """Return which distribution registers an entry point, "example 1.0" say."""
    dist: Distribution | None = getattr(point, "dist", None)
    return f"{dist.name} {dist.version}" if dist else "an unknown distribution"
