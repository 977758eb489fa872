"""Watch that a piece of code leaves the process as it found it and prints nothing."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from spcnn_lightning.testing.oracle import ConformanceError


@contextlib.contextmanager
def unchanged_surroundings() -> Iterator[None]:
    """Raise ConformanceError if the block changes global state or writes to standard output.

    Looked at: torch's threads, modes, default dtype and device, precision flags and random
    states, the random states of Python and numpy, environment variables, the working directory,
    warning filters and the level of the root logger. Output counts from Python and from C alike.
    """
    before = _state()
    with _captured_stdout() as text:
        yield
    after = _state()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        raise ConformanceError(f"changed global state and did not restore it: {', '.join(changed)}")
    if text:
        raise ConformanceError(f"printed to standard output: {text[0][:200]!r}")


def _state() -> dict[str, Any]:
    state: dict[str, Any] = {
        "torch threads": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "deterministic algorithms": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "matmul precision": torch.get_float32_matmul_precision(),
        "torch.backends flags": (
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.enabled,
        ),
        "torch random state": torch.get_rng_state().numpy().tobytes(),
        "Python random state": random.getstate(),
        "environment variables": dict(os.environ),
        "working directory": os.getcwd(),
        "warning filters": list(warnings.filters),
        "level of the root logger": logging.getLogger().level,
    }
    if numpy := sys.modules.get("numpy"):
        kind, keys, *rest = numpy.random.get_state()
        state["numpy random state"] = (kind, keys.tobytes(), *rest)
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["current CUDA device"] = torch.cuda.current_device()
        state["CUDA stream"] = torch.cuda.current_stream()
        state["CUDA random state"] = torch.cuda.get_rng_state().numpy().tobytes()
    return state


@contextlib.contextmanager
def _captured_stdout() -> Iterator[list[str]]:
    """Yield a list that holds, afterwards, what was written to standard output, if anything."""
    found: list[str] = []
    _flush()
    saved = os.dup(1)
    with tempfile.TemporaryFile() as file, io.StringIO() as text:
        try:
            os.dup2(file.fileno(), 1)
            with contextlib.redirect_stdout(text):
                yield found
        finally:
            _flush()
            os.dup2(saved, 1)
            os.close(saved)
        file.seek(0)
        written = text.getvalue() + file.read().decode(errors="replace")
    if written:
        found.append(written)


def _flush() -> None:
    sys.stdout.flush()
    # Compiled libraries buffer on their own; without the C library there is nothing to flush.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
