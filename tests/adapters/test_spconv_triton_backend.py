"""spconv-triton as far as it goes without a GPU: refusals and what is said about it."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from spcnn_lightning.adapters import spconv_triton_backend
from spcnn_lightning.adapters.spconv_triton_backend import SpconvTritonBackend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import OpRequest
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.geometry import ConvGeometry

SITES = ActiveSet(torch.tensor([[0, 1, 2]], dtype=torch.int32), (4, 4), 1)


def test_it_refuses_the_cpu_before_it_computes():
    backend = SpconvTritonBackend()
    request = OpRequest(ConvGeometry((2, 2)), "cpu", torch.float32)
    assert "runs on cuda, not on cpu" in backend.unsupported_reasons(request)
    with pytest.raises(BackendUnsupportedError, match="backend='torch' runs every"):
        backend.build_kernel_map(SITES, ConvGeometry((2, 2)))


def test_it_takes_bfloat16_and_refuses_float64():
    backend = SpconvTritonBackend()
    window = ConvGeometry((2, 2))
    refused = backend.unsupported_reasons(OpRequest(window, "cuda", torch.float64))
    assert "takes bfloat16, float16, float32 on cuda, not float64" in refused
    taken = backend.unsupported_reasons(OpRequest(window, "cuda", torch.bfloat16))
    assert taken == backend.availability()


def test_what_is_missing_is_said(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(spconv_triton_backend.importlib.metadata, "version", missing)
    backend = SpconvTritonBackend()
    assert backend.version() is None
    assert backend.availability() == [
        "not installed (No module named 'spconv_triton'): pip install spconv-triton"
    ]


def test_a_torch_without_triton_is_said(monkeypatch):
    def no_triton(name):
        raise ModuleNotFoundError("No module named 'triton'", name="triton")

    monkeypatch.setattr(spconv_triton_backend.importlib.metadata, "version", lambda name: "1.0.0")
    monkeypatch.setattr(spconv_triton_backend.importlib, "import_module", no_triton)
    backend = SpconvTritonBackend()
    assert backend.version() == "spconv-triton 1.0.0"
    (reason,) = backend.availability()
    assert "Triton is not" in reason
    assert "torch for CUDA or ROCm" in reason


def test_construction_imports_nothing():
    known = set(sys.modules)
    assert SpconvTritonBackend("native").algorithm == "native"
    assert not {name for name in set(sys.modules) - known if "triton" in name}


INTERPRETED = """
import sys, torch, triton
real = triton.autotune
triton.autotune = lambda configs, key, **rest: real(configs[:1], key)
torch.cpu.get_device_properties = lambda device: None
from spcnn_lightning.adapters.spconv_triton_backend import SpconvTritonBackend
from spcnn_lightning.core.backend import Capabilities
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.testing.cases import Case
from spcnn_lightning.testing.trial import check_case

class OnCpu(SpconvTritonBackend):
    capabilities = Capabilities(frozenset({"cpu"}), None, even_submanifold=False)
    def _algorithm_on(self, device, window):
        return super()._algorithm_on("cuda", window)

for algorithm in ("implicit_gemm", "implicit_gemm_split", "native"):
    backend = OnCpu(algorithm)
    assert not backend.availability(), backend.availability()
    for window in (
        ConvGeometry((2, 2)),
        ConvGeometry((3, 2), 2, ((1, 0), (0, 2))),
        ConvGeometry((2, 2), 3),
        ConvGeometry.submanifold((3, 3)),
    ):
        for transposed in (False, True):
            check_case(Case(window, transposed=transposed), backend, "cpu", torch.float32)
    check_case(Case(ConvGeometry((2, 2)), "empty"), backend, "cpu", torch.float32)
"""


@pytest.mark.slow
def test_the_kernels_give_the_dense_result_in_tritons_interpreter(run_python, tmp_path, repository):
    # A copy that takes tensors of the CPU for those of a GPU and tunes nothing; else it is theirs.
    pytest.importorskip("triton")
    package = importlib.util.find_spec("spconv_triton")
    if package is None:
        pytest.skip("spconv-triton is not installed")
    copy = tmp_path / "copy" / "spconv_triton"
    shutil.copytree(Path(package.origin).parent, copy)
    for name in ("pytorch/ops.py", "pytorch/_impl/gemm.py"):
        source = (copy / name).read_text()
        (copy / name).write_text(source.replace(".is_cuda", ".is_cpu"))
    folders = [str(copy.parent), str(repository), os.environ.get("PYTHONPATH", "")]
    done = run_python("-c", INTERPRETED, PYTHONPATH=os.pathsep.join(folders), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-2000:]
