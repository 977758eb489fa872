"""What the self-tests of the engines gave on this machine: a small file in the user's cache.

``spcnn doctor --check`` writes it and `spcnn_lightning.adapters.auto` reads it. A result holds for
one backend in one version, one version of torch, one device and one state of the source code;
anything else needs a new test.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from spcnn_lightning.core.backend import Backend

CACHE_VARIABLE = "SPCNN_CACHE_DIR"
"""Environment variable that names the folder; the default is ~/.cache/spcnn_lightning."""

FORMAT = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckKey:
    """What a result holds for."""

    backend: str
    version: str | None
    torch: str
    device: str
    dtype: str
    source: str


@dataclass(frozen=True)
class CheckResult:
    """The result of a self-test in one dtype."""

    passed: bool
    summary: str
    """One sentence: how many checks passed, or what failed first."""
    checked_at: str
    """Date and time, ISO 8601."""


def cache_file() -> Path:
    """Return the file of the results, which need not exist."""
    folder = os.environ.get(CACHE_VARIABLE)
    if folder:
        return Path(folder) / "backend_checks.json"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spcnn_lightning" / "backend_checks.json"


def check_key(backend: Backend, device: str, dtype: torch.dtype) -> CheckKey:
    """Return what a self-test of ``backend`` would hold for here and now."""
    return CheckKey(
        backend=backend.name,
        version=backend.version(),
        torch=torch.__version__,
        device=device_name(device),
        dtype=str(dtype).removeprefix("torch."),
        source=source_digest(type(backend)),
    )


def device_name(device: str) -> str:
    """Return the name of the hardware behind a device, "NVIDIA H100" say, or its type."""
    kind = torch.device(device)
    if kind.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(kind)
    return kind.type


@functools.cache
def source_digest(backend: type[Backend]) -> str:
    """Return a hash of the code that a self-test tests: the backend, its helpers and the suite."""
    files = {file for name in ("core", "adapters", "testing") for file in _sources(name)}
    try:
        files.add(Path(inspect.getfile(backend)))
    except (OSError, TypeError):
        _log.debug("the source of %s is not to be had; its version has to do", backend)
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda path: (path.name, str(path))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _sources(package: str) -> list[Path]:
    spec = importlib.util.find_spec(f"spcnn_lightning.{package}")
    folders = (spec.submodule_search_locations or []) if spec else []
    return [file.resolve() for folder in folders for file in Path(folder).glob("*.py")]


def read_results(file: Path | None = None) -> dict[CheckKey, CheckResult]:
    """Return all results of the file; a damaged one is reported in the log and counts as empty."""
    file = file or cache_file()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return _parse(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning(
            "the results of earlier self-tests in %s can't be read (%s: %s) and are ignored: "
            "run `spcnn doctor --check` to write them anew",
            file,
            type(error).__name__,
            error,
        )
        return {}


def _parse(content: Any) -> dict[CheckKey, CheckResult]:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}, expected {FORMAT}")
    results = {}
    for entry in content["results"]:
        result = CheckResult(**entry["result"])
        if not isinstance(result.passed, bool):
            raise ValueError(f"passed is {result.passed!r}")
        results[CheckKey(**entry["key"])] = result
    return results


def write_results(new: dict[CheckKey, CheckResult], file: Path | None = None) -> Path:
    """Add results to the file, in one step: readers see the old file or the new one.

    Raises:
        OSError: If the folder can't be written to.
    """
    file = file or cache_file()
    results = read_results(file) | new
    entries = [{"key": asdict(key), "result": asdict(results[key])} for key in results]
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({"format": FORMAT, "results": entries}, stream, indent=1)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return file
