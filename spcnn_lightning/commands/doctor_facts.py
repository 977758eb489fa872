"""What ``spcnn doctor`` finds out; whatever could crash is asked in a process of its own."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from spcnn_lightning.commands.isolated import Answer, IsolatedCall

TIMEOUT = 180.0
"""Seconds that a probe may take: importing torch from a slow disk may take a minute."""

INTERESTING = re.compile(
    r"(spconv|cumm)(-.*)?|torch-?sparse|torch|numpy|triton|lightning|lightning-sdk|litserve"
    r"|spcnn-lightning",
    re.IGNORECASE,
)
"""Distributions that are looked at; names are compared with "-" for "_" and "."."""

Facts = dict[str, Any]
"""Data for JSON: "python", "torch", "devices", "distributions", "backends", "lightning"."""


def gather() -> Facts:
    """Return all facts; where one cannot be had, its place holds the sentence why."""
    torch_call = IsolatedCall(f"{__name__}:probe_torch")
    facts: Facts = {
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "distributions": installed(),
        "lightning": lightning_command(),
    }
    torch = torch_call.answer(TIMEOUT)
    facts["torch"] = torch.value or {"failure": torch.failure}
    names = facts["torch"].pop("backends", [])
    calls = {name: IsolatedCall(f"{__name__}:probe_backend", name) for name in names}
    facts["backends"] = {name: _backend(call.answer(TIMEOUT)) for name, call in calls.items()}
    return facts


def installed() -> dict[str, list[str]]:
    """Return the versions of each interesting distribution, by its name; usually one each."""
    found: dict[str, list[str]] = {}
    for distribution in importlib.metadata.distributions():
        # Left-over folders have no metadata, and then no name.
        metadata: Any = distribution.metadata
        name = re.sub(r"[-_.]+", "-", str(metadata["Name"] if metadata else "")).lower()
        version = str(distribution.version)
        if INTERESTING.fullmatch(name) and version not in found.get(name, []):
            found.setdefault(name, []).append(version)
    return dict(sorted(found.items()))


def lightning_command() -> dict[str, Any]:
    """Return which file answers to ``lightning``, its module, and who installs that name."""
    path = shutil.which("lightning")
    module = None
    if path:
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
            match = re.search(r"^\s*(?:from|import)\s+(?!re\b|sys\b)([\w.]+)", text, re.MULTILINE)
            module = match.group(1) if match else None
        except OSError:
            module = None
    claims = {
        f"{point.dist.name} {point.dist.version}": point.value.partition(":")[0]
        for point in importlib.metadata.entry_points(group="console_scripts", name="lightning")
        if point.dist
    }
    owners = [owner for owner, value in claims.items() if value == module]
    return {
        "path": path,
        "module": module,
        "owner": owners[0] if owners else None,
        "claimed_by": sorted(claims),
    }


def _backend(answer: Answer) -> dict[str, Any]:
    if answer.value is None:
        return {"version": None, "reasons": [answer.failure], "dtypes": {}, "crashed": True}
    value: dict[str, Any] = answer.value
    return value


def probe_torch() -> dict[str, Any]:
    """Return version, devices and the names of the backends; runs in a process of its own."""
    import torch

    from spcnn_lightning.adapters import backend_names
    from spcnn_lightning.adapters.registry import shadowed_points

    devices = [{"kind": "cpu", "name": f"threads: {torch.get_num_threads()}"}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append(
            {
                "kind": "cuda",
                "name": f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
                f"compute capability {properties.major}.{properties.minor}",
            }
        )
    if torch.backends.mps.is_available():
        devices.append({"kind": "mps", "name": "Apple GPU"})
    try:
        torch.zeros(1).numpy()
        numpy_failure = ""
    except (RuntimeError, ImportError) as error:
        numpy_failure = str(error)
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "devices": devices,
        "numpy_failure": numpy_failure,
        "shadowed": shadowed_points(),
        "backends": backend_names(),
    }


def probe_backend(name: str) -> dict[str, Any]:
    """Return whether a backend can be used, where, and what its self-tests gave."""
    import torch

    from spcnn_lightning.adapters import get_backend
    from spcnn_lightning.adapters.check_results import check_key, read_results
    from spcnn_lightning.core.backend import OpRequest
    from spcnn_lightning.core.geometry import ConvGeometry

    backend = get_backend(name)
    reasons, results = backend.availability(), read_results()
    dtypes: dict[str, list[str]] = {}
    checks = []
    refusals: dict[str, list[str]] = {}
    for kind in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            word = str(dtype).removeprefix("torch.")
            against = backend.unsupported_reasons(OpRequest(ConvGeometry((2, 2)), kind, dtype))
            if against:
                refusals.setdefault(kind, against)
                continue
            dtypes.setdefault(kind, []).append(word)
            if result := results.get(check_key(backend, kind, dtype)):
                entry = {"device": kind, "dtype": word, "passed": result.passed}
                checks.append({**entry, "summary": result.summary, "at": result.checked_at})
    return {
        "version": backend.version(),
        "reasons": reasons,
        "dtypes": dtypes,
        "refusals": {kind: text for kind, text in refusals.items() if kind not in dtypes},
        "checks": checks,
        "crashed": False,
    }
