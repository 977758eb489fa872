"""Backends by name; each library is imported only when its backend is used."""

from __future__ import annotations

from spcnn_lightning.adapters.registry import backend_names, get_backend, resolve_backend

__all__ = ["backend_names", "get_backend", "resolve_backend"]
