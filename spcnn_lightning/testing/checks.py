"""The checks of the conformance suite: one list, run by pytest and by `self_test` alike."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from spcnn_lightning.adapters import get_backend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Backend, OpRequest
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional
from spcnn_lightning.testing import behaviour
from spcnn_lightning.testing.cases import CASES, MANY_ROWS, Case, random_rows, random_weight
from spcnn_lightning.testing.oracle import TOLERANCES, ConformanceError, compare_outcomes
from spcnn_lightning.testing.trial import Trial, check_case, prepare, run

FULL_PRECISION = (torch.float64, torch.float32)

REPETITIONS = 5
"""How often a case with many rows runs: a race does not show every time."""


@dataclass(frozen=True)
class Check:
    """One thing that a backend has to do right.

    Attributes:
        name: In one word.
        case: The convolution that has to be supported for the check to make sense.
        run: Called with backend, device and dtype; raises ConformanceError.
        dtypes: The dtypes it runs in.
    """

    name: str
    case: Case
    run: Callable[[Backend, str, torch.dtype], None]
    dtypes: tuple[torch.dtype, ...] = tuple(TOLERANCES)

    def request(self, device: str, dtype: torch.dtype) -> OpRequest:
        """Return what to ask `Backend.unsupported_reasons` before the check is run."""
        return self.case.request(device, dtype)


@functools.cache
def warm_up(device: str) -> None:
    """Run torch through a small case, so that what it imports late is not blamed on a backend."""
    check_case(CASES[0], get_backend("torch"), device, torch.float32)


def check_many_rows(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Compare repeated passes over more than 20,000 rows with the dense result.

    Raises:
        ConformanceError: At the first pass that is wrong.
    """
    trial = prepare(case, backend, device, dtype)
    expected = trial.expected()
    for repetition in range(REPETITIONS):
        fresh = ActiveSet(trial.sites.coords, case.spatial_shape, case.samples)
        try:
            with _several_threads():
                actual = run(Trial(case, fresh, None, trial.leaves), backend)
            compare_outcomes(actual, expected, TOLERANCES[dtype])
        except ConformanceError as error:
            raise ConformanceError(
                f"pass {repetition + 1} of {REPETITIONS} over {len(fresh)} sites: {error}"
            ) from None


@contextlib.contextmanager
def _several_threads() -> Iterator[None]:
    """Let torch and what shares its OpenMP compute on two threads at least."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(2, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_refused(check: Check, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """See that a layer refuses what ``backend`` says it cannot do, with every reason, unstarted.

    Raises:
        ConformanceError: If a verb was called, or the error lacks a reason.
    """
    reasons = backend.unsupported_reasons(check.request(device, dtype))
    case, spy = check.case, _Idle(backend)
    sites = case.active_set(device)
    if case.transposed:
        coarse = kernel_map(sites, case.geometry).output
    c_in = case.channels[0]
    weight = random_weight(case.geometry, case.channels, 2).to(device, dtype)
    start = coarse if case.transposed else sites
    batch = SparseBatch(start, random_rows(len(start), c_in, 1).to(device, dtype))
    try:
        if case.transposed:
            functional.inverse_conv(batch, weight, None, case.geometry, sites, spy)
        else:
            functional.sparse_conv(batch, weight, None, case.geometry, spy)
    except BackendUnsupportedError as error:
        missing = [reason for reason in reasons if not reason or reason not in str(error)]
        if missing:
            raise ConformanceError(f"the refusal does not give the reasons {missing}") from None


def check_claims(backend: Backend, device: str, dtype: torch.dtype) -> None:
    """See that the capabilities and `unsupported_reasons` tell one story.

    Raises:
        ConformanceError: If something is accepted that the capabilities deny, or if everything of
            a number of dimensions that they declare is refused.
    """
    kind = torch.device(device).type
    requests = [check.request(device, dtype) for check in CHECKS]
    strange = [
        OpRequest(ConvGeometry((2,) * dimensions), where, dtype)
        for dimensions in range(1, 10)
        for where in (kind, "cpu", "cuda", "mps")
    ]
    declared: set[int] = set()
    accepted: set[int] = set()
    for request in (*requests, *strange):
        denied = backend.capabilities.reasons_against(request)
        reasons = backend.unsupported_reasons(request)
        if denied and not reasons:
            raise ConformanceError(
                f"the capabilities deny {request} ({'; '.join(denied)}), and unsupported_reasons "
                "says nothing against it"
            )
        if request.device == kind:
            declared |= set() if denied else {request.geometry.dimensions}
            accepted |= set() if reasons else {request.geometry.dimensions}
    if not backend.availability() and declared != accepted:
        raise ConformanceError(
            f"declares {sorted(declared)} dimensions in {dtype} on {device}, but refuses every "
            f"window of {sorted(declared - accepted)}"
        )


def _dtypes(case: Case) -> tuple[torch.dtype, ...]:
    """Return the dtypes to run a case in: half precision has kernels of its own, not maps."""
    half_too = case.sites == "mixed" and case.geometry.dimensions <= 3
    return tuple(TOLERANCES) if half_too else FULL_PRECISION


class _Idle:
    """Answers as ``backend`` does, and fails when asked to work."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.capabilities = backend.name, backend.capabilities
        self.availability, self.version = backend.availability, backend.version
        self.unsupported_reasons = backend.unsupported_reasons

    def build_kernel_map(self, active_set: ActiveSet, geometry: ConvGeometry) -> None:
        raise ConformanceError("a kernel map was asked for, of a window that cannot be run")

    def convolve(
        self, features: Tensor, weight: Tensor, kernel_map: None, transposed: bool = False
    ) -> Tensor:
        raise ConformanceError("a convolution was started that cannot be run")


CHECKS: tuple[Check, ...] = (
    *(Check(case.name, case, partial(check_case, case), _dtypes(case)) for case in CASES),
    *(
        Check(f"{name}-{case.name}", case, partial(function, case), FULL_PRECISION)
        for name, function in behaviour.CHECKS.items()
        for case in behaviour.CASES
    ),
    *(
        Check(f"many_rows-{case.name}", case, partial(check_many_rows, case), (torch.float32,))
        for case in MANY_ROWS
    ),
)
"""All checks, the quick ones first."""
