"""The conformance suite that every backend has to pass, ours or an outsider's.

In a test file, with pytest::

    from spcnn_lightning.testing.conformance import BackendConformance

    class TestMyBackend(BackendConformance):
        backend = MyBackend()

Without pytest: `self_test(backend, device)`; that is what ``spcnn doctor --check`` runs.
"""

from __future__ import annotations

from spcnn_lightning.testing.oracle import ConformanceError
from spcnn_lightning.testing.self_test import DtypeReport, SelfTestReport, self_test

__all__ = ["ConformanceError", "DtypeReport", "SelfTestReport", "self_test"]
