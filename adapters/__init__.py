"""Backends by name; each library is imported only when its backend is used."""

from __future__ import annotations

from spcnn_lightning.adapters.auto import agree_on_backends
from spcnn_lightning.adapters.registry import backend_names, check_name, get_backend
from spcnn_lightning.adapters.resolution import resolve_backend

__all__ = ["agree_on_backends", "backend_names", "check_name", "get_backend", "resolve_backend"]
