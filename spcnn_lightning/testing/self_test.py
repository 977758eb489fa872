"""Run the conformance suite without pytest, on this machine and device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from spcnn_lightning.core.backend import Backend
from spcnn_lightning.testing.checks import CHECKS, Check, check_claims, check_refused, warm_up
from spcnn_lightning.testing.surroundings import unchanged_surroundings

TIME_LIMIT = 110.0
"""Seconds that a self-test may take, unless told otherwise."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""The dtypes of a self-test, those that networks are trained in first."""

MAX_FAILURES = 10
"""After so many failures in one dtype the rest of it is not run."""

Progress = Callable[[torch.dtype, int, int], None]
"""Called before each check with the dtype, the number of checks behind it and that of all."""


@dataclass
class DtypeReport:
    """What came out for one dtype."""

    dtype: torch.dtype
    passed: int = 0
    refused: list[str] = field(default_factory=list)
    """Each check that the backend does not support, with its reasons."""
    failures: list[str] = field(default_factory=list)
    """Each check that failed, with the error."""
    finished: bool = False
    """Whether every check was looked at."""

    @property
    def ok(self) -> bool:
        """Whether at least one check ran, all were looked at and none failed."""
        return self.finished and self.passed > 0 and not self.failures


@dataclass
class SelfTestReport:
    """What came out of `self_test`."""

    backend: str
    version: str | None
    device: str
    reasons: list[str]
    """Why the backend cannot be used here at all; then nothing was run."""
    dtypes: list[DtypeReport] = field(default_factory=list)
    """One for each dtype that the backend takes on this device."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the backend can be used and every dtype that it takes passed."""
        return not self.reasons and bool(self.dtypes) and all(d.ok for d in self.dtypes)


def self_test(
    backend: Backend,
    device: str = "cpu",
    dtypes: Sequence[torch.dtype] = DTYPES,
    *,
    time_limit: float = TIME_LIMIT,
    progress: Progress | None = None,
) -> SelfTestReport:
    """Run every check of the conformance suite and report; nothing is raised for a failure.

    Args:
        backend: The backend.
        device: Where to compute, as torch names it.
        dtypes: Those to look at; a dtype that the backend refuses entirely is left out.
        time_limit: In seconds. When it is over the rest is not run, and counts as not passed.
        progress: Called before each check.
    """
    start = time.monotonic()
    report = SelfTestReport(backend.name, backend.version(), device, backend.availability())
    warm_up(device)
    for dtype in () if report.reasons else dtypes:
        checks = [check for check in CHECKS if dtype in check.dtypes]
        if all(backend.unsupported_reasons(check.request(device, dtype)) for check in checks):
            continue
        part = DtypeReport(dtype)
        report.dtypes.append(part)
        _attempt(part, "capabilities", partial(check_claims, backend, device, dtype))
        for number, check in enumerate(checks):
            late = time.monotonic() - start > time_limit
            if late or len(part.failures) >= MAX_FAILURES:
                break
            if progress:
                progress(dtype, number, len(checks))
            _run(part, check, backend, device)
        else:
            part.finished = True
    report.seconds = time.monotonic() - start
    return report


def _run(part: DtypeReport, check: Check, backend: Backend, device: str) -> None:
    dtype = part.dtype
    if reasons := backend.unsupported_reasons(check.request(device, dtype)):
        part.refused.append(f"{check.name}: {'; '.join(reasons)}")
        _attempt(part, check.name, partial(check_refused, check, backend, device, dtype))
    elif _attempt(part, check.name, partial(check.run, backend, device, dtype)):
        part.passed += 1


def _attempt(part: DtypeReport, name: str, run: Callable[[], None]) -> bool:
    """Return whether ``run`` came to its end without an error or a trace."""
    try:
        with unchanged_surroundings():
            run()
    except Exception as error:
        part.failures.append(f"{name}: {type(error).__name__}: {error}")
        return False
    return True
