"""The conformance suite as a test class for pytest; inherit it and name a backend."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest
import torch

from spcnn_lightning.adapters import get_backend
from spcnn_lightning.core.backend import Backend
from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.testing.checks import CHECKS, Check, check_claims, check_refused, warm_up
from spcnn_lightning.testing.oracle import TOLERANCES
from spcnn_lightning.testing.surroundings import unchanged_surroundings

REQUIRED_VARIABLE = "SPCNN_TEST_BACKENDS"
"""Names the backends, with commas between them, that have to run: they fail, and never skip."""

_PAIRS = [
    pytest.param(check, dtype, id=f"{check.name}-{str(dtype).removeprefix('torch.')}")
    for check in CHECKS
    for dtype in check.dtypes
]


class BackendConformance:
    """Everything that a backend promises, as tests.

    Attributes:
        backend: The backend, or the name of a registered one.
        device: Where it computes.

    Example:
        >>> class TestMyBackend(BackendConformance):
        ...     backend = "torch"
        ...     device = "cpu"
    """

    backend: ClassVar[Backend | str]
    device: ClassVar[str] = "cpu"

    @pytest.fixture
    def engine(self, request: pytest.FixtureRequest) -> Backend:
        """The backend; skips with its own reason if it cannot be used here."""
        if torch.device(request.cls.device).type == "cuda" and not torch.cuda.is_available():
            pytest.skip("torch finds no CUDA device")
        engine = usable_backend(request.cls.backend)
        warm_up(request.cls.device)
        return engine

    @pytest.mark.parametrize(("check", "dtype"), _PAIRS)
    def test_conforms(self, engine: Backend, check: Check, dtype: torch.dtype) -> None:
        """The backend does it right, or refuses it before it computes."""
        with unchanged_surroundings():
            if reasons := engine.unsupported_reasons(check.request(self.device, dtype)):
                check_refused(check, engine, self.device, dtype)
            else:
                check.run(engine, self.device, dtype)
        if reasons:
            # One reason is enough here, and lets pytest count equal skips together.
            pytest.skip(f"{engine.name}: {reasons[0]}")

    @pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda d: str(d).removeprefix("torch."))
    def test_capabilities_tell_the_truth(self, engine: Backend, dtype: torch.dtype) -> None:
        """What the capabilities deny is refused, and not everything that they claim."""
        check_claims(engine, self.device, dtype)

    def test_runs_at_all(self, engine: Backend) -> None:
        """It does not get through by refusing everything."""
        requests = [check.request(self.device, dtype) for check in CHECKS for dtype in check.dtypes]
        reasons = [engine.unsupported_reasons(request) for request in requests]
        assert not all(reasons), f"{engine.name} refuses everything, first for {reasons[0]}"


def usable_backend(backend: Backend | str) -> Backend:
    """Return the backend; skip the test if it cannot be used here, unless its name is required.

    The environment variable SPCNN_TEST_BACKENDS names those that are.
    """
    name = backend if isinstance(backend, str) else backend.name
    try:
        engine = get_backend(backend) if isinstance(backend, str) else backend
        reasons = "; ".join(engine.availability())
    except SpcnnError as error:
        reasons = str(error)
    if reasons and name in required_backends():
        pytest.fail(f"{name}: {reasons}; yet {REQUIRED_VARIABLE} says that it has to run")
    if reasons:
        pytest.skip(f"{name}: {reasons}")
    return engine


def required_backends() -> list[str]:
    """Return the names in the environment variable SPCNN_TEST_BACKENDS."""
    names = os.environ.get(REQUIRED_VARIABLE, "").replace(",", " ")
    return names.split()
