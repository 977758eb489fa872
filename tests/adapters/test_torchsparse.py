"""The TorchSparse adapter, on a test double of the library: see torchsparse_double.py.

What needs the library itself is in test_torchsparse_library.py.
"""

import sys

import pytest
import torch

from spcnn_lightning.adapters import torchsparse_engines
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.adapters.torchsparse_backend import TorchSparseBackend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Backend, Capabilities, OpRequest
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.nn import SparseConv
from spcnn_lightning.testing.checks import CHECKS, check_claims, warm_up
from spcnn_lightning.testing.surroundings import unchanged_surroundings

VALID = ConvGeometry((3, 3))
PRETENDED = Capabilities(
    frozenset({"cpu"}), {"cpu": frozenset({torch.float32, torch.float16})}, deterministic=True
)


def as_if_cuda(algorithm, patch):
    """Return a backend that sends CPU tensors to the calls for CUDA, which the double can run."""
    backend = TorchSparseBackend(algorithm)
    backend.capabilities = PRETENDED
    calls = sys.modules["torchsparse"].backend if backend.availability() == [] else None
    engine = torchsparse_engines.ENGINES[algorithm]["cuda"](calls)
    vars(backend)["_engines"] = {"cpu": engine}
    patch.setattr(torchsparse_engines, "_precisions", lambda device: (False, True))
    return backend


def calls_of(backend):
    return [name for name, _ in backend._loaded[0].CALLS]


ENGINES = ["gather_scatter", "gather_scatter-as-on-cuda", "implicit_gemm-as-on-cuda"]
# Nothing in the double runs in parallel, so that many rows would show nothing there.
CONFORMANCE = [c for c in CHECKS if torch.float32 in c.dtypes and "many_rows" not in c.name]


class TestConformsOnTheDouble:
    @pytest.fixture(scope="class", params=ENGINES)
    @classmethod
    def engine(cls, request, torchsparse_double):
        algorithm, _, cuda = request.param.partition("-")
        warm_up("cpu")
        with pytest.MonkeyPatch.context() as patch:
            engine = as_if_cuda(algorithm, patch) if cuda else TorchSparseBackend(algorithm)
            assert engine.availability() == []
            yield engine
        suffix = {"gather_scatter": "cuda" if cuda else "cpu"}.get(algorithm, algorithm)
        assert {f"forward_{suffix}", f"backward_{suffix}"} == set(calls_of(engine))
        assert {threads for _, threads in engine._loaded[0].CALLS} == {1}
        engine._loaded[0].CALLS.clear()

    @pytest.mark.parametrize("check", CONFORMANCE, ids=lambda check: check.name)
    def test_conforms(self, engine, check):
        with unchanged_surroundings():
            check.run(engine, "cpu", torch.float32)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_capabilities_tell_the_truth(self, engine, dtype):
        check_claims(engine, "cpu", dtype)


@pytest.fixture
def backend(torchsparse_double):
    return TorchSparseBackend()


def problem(geometry=VALID, shape=(9, 7), channels=(3, 4), density=0.3):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(2, *shape, generator=generator) < density
    sites = ActiveSet(mask.nonzero().int(), shape, 2)
    x = torch.randn(len(sites), channels[0], generator=generator, requires_grad=True)
    weight = torch.randn(geometry.num_taps, *channels, generator=generator, requires_grad=True)
    return sites, x, weight


def test_is_a_backend_and_needs_nothing_to_be_constructed():
    assert isinstance(TorchSparseBackend(), Backend)
    with pytest.raises(ValueError, match="expected one of gather_scatter, implicit_gemm"):
        TorchSparseBackend("fetch_on_demand")


@pytest.mark.parametrize("transposed", [False, True])
def test_a_valid_window_with_as_many_sites_out_as_in_is_no_submanifold_one(backend, transposed):
    sites = ActiveSet(torch.tensor([[0, 0, 0]], dtype=torch.int32), (3, 3), 1)
    rulebook = backend.build_kernel_map(sites, VALID)
    assert rulebook.sizes == (1, 1)
    weight = torch.arange(1.0, 10).view(9, 1, 1)
    assert backend.convolve(torch.ones(1, 1), weight, rulebook, transposed).item() == 1


def test_the_double_has_the_centre_shortcut_that_the_adapter_avoids(backend):
    backend.availability()
    calls, out = sys.modules["torchsparse"].backend, torch.zeros(1, 1)
    pairs, counts = torch.zeros(1, 2, dtype=torch.int32), torch.tensor([1] + [0] * 8).int()
    weight = torch.arange(1.0, 10).view(9, 1, 1)
    calls.conv_forward_gather_scatter_cpu(torch.ones(1, 1), out, weight, pairs, counts, False)
    assert out.item() == 6  # the right result is 1


def test_odd_channels_in_half_precision_are_padded(torchsparse_double, monkeypatch):
    backend = as_if_cuda("gather_scatter", monkeypatch)
    sites, x, weight = problem(channels=(3, 5))
    rulebook = backend.build_kernel_map(sites, VALID)
    halves = [x.detach().half().requires_grad_(), weight.detach().half().requires_grad_()]
    actual, seed = backend.convolve(*halves, rulebook), torch.randn(rulebook.sizes[1], 5)
    expected = TorchBackend().convolve(x, weight, rulebook.core)
    torch.testing.assert_close(actual.float(), expected, atol=0.05, rtol=0.01)
    grads = torch.autograd.grad(actual, halves, seed.half())
    for one, other in zip(grads, torch.autograd.grad(expected, (x, weight), seed), strict=True):
        torch.testing.assert_close(one.float(), other, atol=0.1, rtol=0.02)


def test_threads_come_back_after_an_error_in_forward_and_backward(backend, monkeypatch):
    changes = []
    monkeypatch.setattr(torch, "set_num_threads", changes.append)
    sites, x, weight = problem()
    out = backend.convolve(x, weight, backend.build_kernel_map(sites, VALID))
    before = torch.get_num_threads()

    def fail(*arguments):
        raise RuntimeError("engine failed")

    calls = sys.modules["torchsparse"].backend
    monkeypatch.setattr(calls, "conv_backward_gather_scatter_cpu", fail)
    monkeypatch.setattr(calls, "conv_forward_gather_scatter_cpu", fail)
    with pytest.raises(RuntimeError, match="engine failed"):
        out.sum().backward()
    with pytest.raises(RuntimeError, match="engine failed"):
        backend.convolve(x, weight, backend.build_kernel_map(sites, VALID))
    assert changes == [1, before] * 3


def test_a_named_layer_really_runs_the_library(torchsparse_double, monkeypatch):
    from spcnn_lightning.core.sparse_batch import SparseBatch

    backend = TorchSparseBackend()
    sites, x, _ = problem()
    layer = SparseConv(3, 4, (3, 3), backend=backend)
    layer(SparseBatch(sites, x)).features.sum().backward()
    assert calls_of(backend) == ["forward_cpu", "backward_cpu"]


def test_float64_is_refused_and_not_rounded(backend):
    sites, x, weight = problem()
    rulebook = backend.build_kernel_map(sites, VALID)
    with pytest.raises(BackendUnsupportedError, match="takes float32 on cpu, not float64"):
        backend.convolve(x.double(), weight.double(), rulebook)
    with pytest.raises(BackendUnsupportedError, match="one dtype"):
        backend.convolve(x, weight.double(), rulebook)


def test_more_entries_than_int32_numbers_are_refused(backend, monkeypatch):
    monkeypatch.setattr("spcnn_lightning.adapters.torchsparse_backend.MAX_ENTRIES", 100)
    sites, x, weight = problem()
    with pytest.raises(BackendUnsupportedError, match="at most 100 entries.*smaller batch"):
        backend.convolve(x, weight, backend.build_kernel_map(sites, VALID))


def test_a_build_without_cuda_says_so(backend, monkeypatch):
    backend.availability()
    calls = sys.modules["torchsparse"].backend
    monkeypatch.delattr(calls, "conv_forward_gather_scatter_cuda")
    (reason,) = backend.unsupported_reasons(OpRequest(VALID, "cuda", torch.float32))
    assert reason.startswith("was built without CUDA: build it with FORCE_CUDA=1")


def test_implicit_gemm_is_refused_on_cpu(torchsparse_double):
    backend = TorchSparseBackend("implicit_gemm")
    assert backend.unsupported_reasons(OpRequest(VALID, "cpu", torch.float32)) == [
        "runs on cuda, not on cpu"
    ]


def test_old_versions_are_refused_with_the_reason(torchsparse_double):
    init = torchsparse_double / "__init__.py"
    text = init.read_text()
    init.write_text(text.replace("2.1.0", "2.0.0b"))
    try:
        sys.modules.pop("torchsparse", None)
        (reason,) = TorchSparseBackend().availability()
    finally:
        init.write_text(text)
        sys.modules.pop("torchsparse", None)
    assert reason.startswith("version 2.0.0b is older than 2.1")


def test_an_old_distribution_is_not_even_imported(torchsparse_double, monkeypatch):
    sys.modules.pop("torchsparse", None)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.4.0")
    assert TorchSparseBackend().version() == "torchsparse 1.4.0"
    (reason,) = TorchSparseBackend().availability()
    assert reason.startswith("version 1.4.0 is older than 2.1")
    assert "torchsparse" not in sys.modules


def test_a_missing_library_is_a_reason(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "torchsparse"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchsparse", None)
    backend = TorchSparseBackend()
    (reason,) = backend.availability()
    assert reason.startswith("not installed (")
    assert "torch-sparse on PyPI is another library" in reason
    assert backend.unsupported_reasons(OpRequest(VALID, "cpu", torch.float32)) == [reason]
    sites, x, weight = problem()
    with pytest.raises(BackendUnsupportedError, match="not installed"):
        backend.convolve(x, weight, backend.build_kernel_map(sites, VALID))


def test_importing_the_adapter_imports_no_library(run_python, repository):
    code = (
        "import sys\n"
        "from spcnn_lightning.adapters.torchsparse_backend import TorchSparseBackend\n"
        "TorchSparseBackend().version()\n"
        "assert not [name for name in sys.modules if name.startswith('torchsparse')]\n"
    )
    done = run_python("-c", code, PYTHONPATH=str(repository))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("import rootpathx", "lacks a package that it needs (No module named 'rootpathx'): pip"),
        ("raise OSError('no symbol')", "cannot be imported (OSError: no symbol)"),
    ],
)
def test_a_broken_installation_is_a_reason(torchsparse_double, statement, reason):
    init = torchsparse_double / "__init__.py"
    text = init.read_text()
    init.write_text(f"{text}\n{statement}\n")
    try:
        sys.modules.pop("torchsparse", None)
        (found,) = TorchSparseBackend().availability()
    finally:
        init.write_text(text)
        sys.modules.pop("torchsparse", None)
    assert found.startswith(reason)
