"""The machine that a measurement was taken on, and how fast its matrix product is."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from spcnn_lightning import __version__
from spcnn_lightning.bench.values import synchronise

GEMM_SHAPE = (4096, 1024, 1024)
"""Rows, inner size and columns of the matrix product that is timed."""


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Return processor, cores, threads, device, load and versions, in plain types."""
    facts: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "spcnn_lightning": __version__,
    }
    if hasattr(os, "getloadavg"):
        facts["load"] = round(os.getloadavg()[0], 2)
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def machine_line(facts: dict[str, Any]) -> str:
    """Return the facts in one line."""
    gpu = f"{facts['gpu']}; " if "gpu" in facts else ""
    # Other work on the machine is the first suspect where the spread is wide.
    load = f"; load {facts['load']} before" if "load" in facts else ""
    return (
        f"{gpu}{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads; torch "
        f"{facts['torch']}, Python {facts['python']}, spcnn-lightning "
        f"{facts['spcnn_lightning']}{load}"
    )


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gemm_rate(device: torch.device, dtype: torch.dtype, repeats: int = 9) -> float:
    """Return the multiply-adds per second of the best of several products of `GEMM_SHAPE`."""
    rows, inner, columns = GEMM_SHAPE
    left = torch.rand(rows, inner, device=device).to(dtype)
    right = torch.rand(inner, columns, device=device).to(dtype)
    out = left @ right
    best = float("inf")
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return rows * inner * columns / best


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
