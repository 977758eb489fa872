"""``spcnn doctor --check``: the self-tests of the engines, each in a process of its own."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from spcnn_lightning.commands.doctor_rules import TIME_UP
from spcnn_lightning.commands.isolated import IsolatedCall

TIME_LIMIT = 120.0
"""Seconds for all self-tests together."""

GRACE = 5.0
"""Seconds after its time in which a process may bring the check in hand to an end."""


def run_checks(names: Sequence[str], device: str, quiet: bool = False) -> list[dict[str, Any]]:
    """Test backends on a device, keep the results in the cache, and return them.

    Args:
        names: Usable backends, those that matter most first.
        device: Where to compute, as torch names it.
        quiet: Whether to show no progress on standard error.
    """
    end = time.monotonic() + TIME_LIMIT
    results = []
    for number, name in enumerate(names):
        # What one does not use up is left for the others.
        left = max(0.0, end - time.monotonic() - GRACE)
        results.append(_check_one(name, device, left / (len(names) - number), quiet))
    return results


def _check_one(name: str, device: str, seconds: float, quiet: bool) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        progress = Path(folder) / "progress"
        call = IsolatedCall(
            f"{__name__}:check_here", name, device, time.time() + seconds, str(progress)
        )
        shown = ""
        while call.is_running():
            time.sleep(0.2)
            text = progress.read_text(encoding="utf-8") if progress.exists() else ""
            if text != shown and not quiet:
                print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)
            shown = text
            if call.seconds > seconds + GRACE:
                break
        answer = call.answer(seconds + GRACE)
    if not quiet:
        print(f"\r{'':<60}\r", end="", file=sys.stderr, flush=True)
    if answer.value is None:
        failed = {"dtype": "", "passed": False, "summary": f"the process {answer.failure}"}
        return {"backend": name, "device": device, "ok": False, "dtypes": [failed]}
    value: dict[str, Any] = answer.value
    return value


def check_here(name: str, device: str, end: float, progress: str) -> dict[str, Any]:
    """Run a self-test in this process, until the time ``end``, and write the results to the cache.

    Until it is over, the cache says that the test did not finish: should the process crash, no
    earlier result is left to be trusted.
    """
    import torch

    from spcnn_lightning.adapters import get_backend
    from spcnn_lightning.adapters.check_results import CheckResult, check_key, write_results
    from spcnn_lightning.testing import self_test
    from spcnn_lightning.testing.self_test import DTYPES

    # Small cases are quicker so; those with many rows take several threads by themselves.
    torch.set_num_threads(1)
    backend = get_backend(name)
    now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    keys = {dtype: check_key(backend, device, dtype) for dtype in DTYPES}
    unfinished = CheckResult(False, "the self-test did not come to its end", now)
    _write(write_results, dict.fromkeys(keys.values(), unfinished))

    def show(dtype: Any, done: int, number: int) -> None:
        word = str(dtype).removeprefix("torch.")
        Path(progress).write_text(f"{name} {word} on {device}: {done}/{number}", encoding="utf-8")

    report = self_test(backend, device, time_limit=end - time.time(), progress=show)
    parts = {part.dtype: (part.ok, _summary(part)) for part in report.dtypes}
    results = {
        keys[dtype]: CheckResult(*parts.get(dtype, (False, "the backend does not take it")), now)
        for dtype in keys
    }
    problem = _write(write_results, results)
    listed = [
        {"dtype": str(dtype).removeprefix("torch."), "passed": ok, "summary": summary}
        for dtype, (ok, summary) in parts.items()
    ]
    return {
        "backend": name,
        "device": device,
        "ok": report.ok,
        "seconds": round(report.seconds, 1),
        "dtypes": listed,
        "reasons": report.reasons,
        "cache_problem": problem,
    }


def _summary(part: Any) -> str:
    done = f"{part.passed} checks passed"
    done += f", {len(part.refused)} not supported" if part.refused else ""
    if part.failures:
        return f"{part.failures[0]} ({len(part.failures)} checks failed; {done})"
    return done if part.finished else f"{done}, but {TIME_UP}"


def _write(write: Any, results: dict[Any, Any]) -> str:
    try:
        write(results)
    except OSError as error:
        return f"the results could not be kept for backend='auto': {error}"
    return ""


def as_json(value: Any) -> str:
    """Return data as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)
