"""Imports of the libraries that tensors and networks come from, when they are needed."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from spcnn_lightning.adapters.torchsparse_library import load
from spcnn_lightning.core.errors import BackendUnsupportedError


def import_spconv() -> ModuleType:
    """Return ``spconv.pytorch``.

    Raises:
        BackendUnsupportedError: If it cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spconv uses names that torch has renamed
            return importlib.import_module("spconv.pytorch")
    except ImportError as error:
        raise BackendUnsupportedError(
            f"spconv cannot be imported ({error}): install a wheel of spconv 2, spconv-cu120 say, "
            "which runs on CPU as well"
        ) from error


def import_torchsparse() -> ModuleType:
    """Return ``torchsparse``, version 2.1 or later.

    Raises:
        BackendUnsupportedError: If it cannot be imported or is older.
    """
    library, reasons = load()
    if library is None:
        raise BackendUnsupportedError(f"torchsparse: {'; '.join(reasons)}")
    return library
