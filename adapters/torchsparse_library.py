"""How TorchSparse is found and imported, on machines without a GPU too."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import re
import sys
import unittest.mock
import warnings
from types import ModuleType

import torch

SOURCE = "https://github.com/mit-han-lab/torchsparse"
OLDEST = (2, 1)


def installed_version() -> str | None:
    """Return the version number without importing the library; None if it is not installed."""
    try:
        return importlib.metadata.version("torchsparse")
    except importlib.metadata.PackageNotFoundError:
        return getattr(sys.modules.get("torchsparse"), "__version__", None)


def load() -> tuple[ModuleType | None, list[str]]:
    """Import the library; return it, or None and why it cannot be used."""
    if reasons := _reasons_against_version(installed_version()):
        return None, reasons
    try:
        library = _import_library()
    except ModuleNotFoundError as error:
        if error.name != "torchsparse":
            return None, [f"lacks a package that it needs ({error}): pip install {error.name}"]
        hint = f"build version 2.1 from {SOURCE}; torch-sparse on PyPI is another library"
        return None, [f"not installed ({error}): {hint}"]
    except Exception as error:  # whatever a broken build raises is a reason, not a crash
        return None, [f"cannot be imported ({type(error).__name__}: {error})"]
    reasons = _reasons_against_version(library.__version__)
    if not hasattr(library.backend, "conv_forward_gather_scatter_cpu"):
        reasons.append(f"its extension lacks the gather-scatter engine: build it from {SOURCE}")
    return (None if reasons else library), reasons


def _import_library() -> ModuleType:
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")  # old idioms of the library, nothing a user can mend
        if not torch.cuda.is_available():
            # The library asks for the GPU's capability when it is imported, even to run on CPU.
            stack.enter_context(
                unittest.mock.patch("torch.cuda.get_device_capability", return_value=(0, 0))
            )
        library = importlib.import_module("torchsparse")
        importlib.import_module("torchsparse.backend")
        return library


def _reasons_against_version(version: str | None) -> list[str]:
    numbers = re.findall(r"\d+", version or "")[:2]
    if version is None or tuple(map(int, numbers)) >= OLDEST:
        return []
    return [
        f"version {version} is older than 2.1, whose engine calls and column order differ: build "
        f"2.1 from {SOURCE}"
    ]


def has_cuda(library: ModuleType) -> bool:
    """Return whether the library was built with its CUDA engines."""
    return hasattr(library.backend, "conv_forward_gather_scatter_cuda")


def is_old_gpu() -> bool:
    """Whether the current GPU is older than the library's float16 implicit GEMM asks for."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() < (7, 5)
