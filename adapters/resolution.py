"""From the name of a backend and a convolution to the backend that runs it."""

from __future__ import annotations

import functools

from spcnn_lightning.adapters import auto, registry
from spcnn_lightning.adapters.registry import AUTO, BUILT_IN, get_backend
from spcnn_lightning.core.backend import Backend, OpRequest
from spcnn_lightning.core.errors import BackendUnsupportedError


def resolve_backend(backend: str | Backend, request: OpRequest) -> Backend:
    """Return the backend that runs ``request``: the one asked for, or the choice of "auto".

    Layers call it in each forward pass, so the answer for a name is kept.

    Raises:
        BackendNotFoundError: If nothing is registered under the name.
        BackendUnsupportedError: If it cannot, with every reason and one that can.
    """
    if backend == AUTO:
        backend = auto.choose(request).name
    if isinstance(backend, str):
        return _resolve_name(backend, request)
    _require(backend, request)
    return backend


@functools.lru_cache(maxsize=4096)
def _resolve_name(name: str, request: OpRequest) -> Backend:
    backend = get_backend(name)
    _require(backend, request)
    return backend


def forget() -> None:
    """Look backends, results and answers up again; for tests and after an installation."""
    registry.forget()
    auto.forget_choices()
    _resolve_name.cache_clear()


def _require(backend: Backend, request: OpRequest) -> None:
    reasons = backend.unsupported_reasons(request)
    if not reasons:
        return
    lines = [
        f"backend {backend.name!r} cannot run this convolution",
        f"  asked for: {request}",
        *(f"  {backend.name}: {reason}" for reason in reasons),
        f"  {_way_out(backend, request)}",
    ]
    raise BackendUnsupportedError("\n".join(lines))


def _way_out(backend: Backend, request: OpRequest) -> str:
    # Only torch is asked: looking for another engine may not import libraries that are broken.
    if not get_backend("torch").unsupported_reasons(request):
        return (
            "backend='torch' can: it runs every floating dtype on every device; backend='auto' too"
        )
    ours = backend.name.partition(":")[0] in BUILT_IN
    return f"{'no other backend can' if ours else 'torch cannot'} either: change the network"
