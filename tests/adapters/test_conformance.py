"""The shipped conformance suite, on every backend that comes with the project."""

import pytest

from spcnn_lightning.adapters import backend_names
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.testing.conformance import (
    BackendConformance,
    required_backends,
    usable_backend,
)


class TestTorch(BackendConformance):
    backend = "torch"


class TestSpconv(BackendConformance):
    backend = "spconv"


class TestTorchSparse(BackendConformance):
    backend = "torchsparse"


class TestSpconvTriton(BackendConformance):
    backend = "spconv_triton"


class TestTorchOnCuda(BackendConformance):
    backend = "torch"
    device = "cuda"


class TestSpconvOnCuda(BackendConformance):
    backend = "spconv"
    device = "cuda"


class TestSpconvNativeOnCuda(BackendConformance):
    backend = "spconv:native"
    device = "cuda"


class TestSpconvSplitOnCuda(BackendConformance):
    backend = "spconv:implicit_gemm_split"
    device = "cuda"


class TestSpconvTritonOnCuda(BackendConformance):
    backend = "spconv_triton"
    device = "cuda"


class TestTorchSparseOnCuda(BackendConformance):
    backend = "torchsparse"
    device = "cuda"


class TestTorchSparseImplicitGemmOnCuda(BackendConformance):
    backend = "torchsparse:implicit_gemm"
    device = "cuda"


class Missing(TorchBackend):
    name = "missing"

    def availability(self):
        return ["not installed (No module named 'missing')"]


def test_an_unusable_backend_is_skipped_with_its_own_reason(monkeypatch):
    monkeypatch.setenv("SPCNN_TEST_BACKENDS", "torch,spconv")
    with pytest.raises(pytest.skip.Exception, match="missing: not installed"):
        usable_backend(Missing())
    with pytest.raises(pytest.skip.Exception, match="there is no backend 'nowhere'"):
        usable_backend("nowhere")


def test_a_required_backend_fails_instead(monkeypatch):
    monkeypatch.setenv("SPCNN_TEST_BACKENDS", "torch, missing nowhere")
    with pytest.raises(pytest.fail.Exception, match="says that it has to run"):
        usable_backend(Missing())
    with pytest.raises(pytest.fail.Exception, match="no backend 'nowhere'; known: auto, torch"):
        usable_backend("nowhere")


def test_every_required_backend_is_known():
    assert set(required_backends()) <= set(backend_names())
