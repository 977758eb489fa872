"""Lazy look-up of backends by name, our own and those that other distributions register."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import EntryPoint, entry_points

from spcnn_lightning.core.backend import Backend, OpRequest
from spcnn_lightning.core.errors import BackendNotFoundError, BackendUnsupportedError

ENTRY_POINT_GROUP = "spcnn_lightning.backends"
"""Other distributions add a backend by an entry point of this group that names its class."""

BUILT_IN = {"torch": "spcnn_lightning.adapters.torch_backend:TorchBackend"}


def _locations() -> dict[str, str]:
    outside: dict[str, EntryPoint] = {e.name: e for e in entry_points(group=ENTRY_POINT_GROUP)}
    return {name: point.value for name, point in outside.items()} | BUILT_IN


def backend_names() -> list[str]:
    """Return the names that `get_backend` knows, our own first; "auto" is not one of them."""
    return list(dict.fromkeys([*BUILT_IN, *_locations()]))


@functools.cache
def get_backend(name: str) -> Backend:
    """Return the backend of this name, importing its library on the first call.

    Raises:
        BackendNotFoundError: If nothing is registered under the name.
    """
    locations = _locations()
    if name not in locations:
        raise BackendNotFoundError(
            f"there is no backend {name!r}; known: auto, {', '.join(backend_names())}"
        )
    module, _, attribute = locations[name].partition(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)()
    return backend


def resolve_backend(backend: str | Backend, request: OpRequest) -> Backend:
    """Return the backend that runs ``request``: the one asked for, or the choice of "auto".

    Raises:
        BackendUnsupportedError: If it cannot, with every reason and one that can.
    """
    if backend == "auto":
        return get_backend("torch")
    chosen = get_backend(backend) if isinstance(backend, str) else backend
    if reasons := chosen.unsupported_reasons(request):
        listed = "\n".join(f"  {chosen.name}: {reason}" for reason in reasons)
        raise BackendUnsupportedError(
            f"backend {chosen.name!r} cannot run this convolution\n  asked for: {request}\n"
            f"{listed}\n  backend='torch' runs every floating dtype on every device"
        )
    return chosen
