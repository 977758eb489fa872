"""spconv itself, on the CPU: what computes, what is refused, and that nothing races."""

import os
from importlib.metadata import distributions
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from spcnn_lightning import networks
from spcnn_lightning.adapters import spconv_backend
from spcnn_lightning.adapters.spconv_backend import SpconvBackend
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import OpRequest
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional
from spcnn_lightning.testing.cases import Case
from spcnn_lightning.testing.trial import check_case

RACE_PASSES = int(os.environ.get("SPCNN_RACE_PASSES", "20"))
BOTH_BUILDS = ["wheel_for_cuda", "wheel_for_cpu"]


@pytest.fixture(scope="module")
def spconv():
    """The installed library's backend."""
    backend = SpconvBackend()
    if reasons := backend.availability():
        if "spconv" in os.environ.get("SPCNN_TEST_BACKENDS", "").split(","):
            pytest.fail("; ".join(reasons))
        pytest.skip("; ".join(reasons))
    return backend


@pytest.fixture(params=BOTH_BUILDS)
def build(request, spconv, monkeypatch):
    """The backend, taken for the one build or the other."""
    if request.param == "wheel_for_cuda" and not spconv._has_sound_cpu_kernels:
        pytest.skip(f"{spconv.version()} is not a wheel for CUDA")
    monkeypatch.setattr(spconv._library.ops, "CPU_ONLY_BUILD", request.param == "wheel_for_cpu")
    return spconv


@pytest.fixture
def calls(spconv, monkeypatch):
    """Names of the functions of spconv.pytorch.ops that ran, in order."""
    names, ops = [], spconv._library.ops

    def watch(name, real):
        def spy(*args, **kwargs):
            names.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(ops, name, spy)

    for name in ("get_indice_pairs", "indice_conv", "indice_conv_backward"):
        watch(name, getattr(ops, name))
    return names


def random_sites(samples, shape, density, seed=0):
    """An active set with random sites."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(samples, *shape, generator=generator) < density
    return ActiveSet(mask.nonzero().int(), shape, samples)


def test_spconv_computes_where_it_is_right_and_only_maps_where_it_is_not(build, calls, request):
    for window in (ConvGeometry((3, 2), 2, 1), ConvGeometry.submanifold((3, 3))):
        for transposed in (False, True):
            calls.clear()
            check_case(Case(window, transposed=transposed), build, "cpu", torch.float64)
            assert calls[0] == "get_indice_pairs"
            arithmetic = ["indice_conv", "indice_conv_backward"]
            assert calls[1:] == (arithmetic if "cuda" in request.node.name else [])


def test_kernels_of_an_unknown_build_are_not_trusted(spconv, monkeypatch):
    backend = SpconvBackend()
    monkeypatch.setattr(backend, "_distributions", ["spconv 2.3.8"])
    assert backend._algorithm_on("cpu", ConvGeometry((2, 2))) == "torch"


@pytest.mark.parametrize(
    "window",
    [ConvGeometry((3, 3)), ConvGeometry.submanifold((3, 3))],
    ids=lambda window: window.activity.value,
)
def test_repeated_passes_on_two_threads_are_all_right(window, spconv):
    # A race shows in thousands of rows and many passes: SPCNN_RACE_PASSES=200 for a release.
    sites = random_sites(8, (94, 94), 0.05 if window.activity is Activity.DILATING else 0.3)
    x, weight = torch.randn(len(sites), 6), torch.randn(9, 6, 8)
    seed = torch.randn(len(spconv.build_kernel_map(sites, window).output), 8)
    assert len(seed) > 20_000
    right = pass_through(TorchBackend(), sites, window, *(t.double() for t in (x, weight, seed)))
    limits = [1e-5 * t.abs().max() for t in right]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        # After the line above: sums are rounded otherwise on another number of threads.
        first = pass_through(spconv, sites, window, x, weight, seed)
        for number in range(RACE_PASSES):
            if number % 10 == 0:
                sites = ActiveSet(sites.coords, sites.spatial_shape, sites.batch_size)
            found = pass_through(spconv, sites, window, x, weight, seed)
            for one, other, limit in zip(found, right, limits, strict=True):
                assert (one - other).abs().max() < limit
            assert all(torch.equal(one, other) for one, other in zip(found, first, strict=True))
    finally:
        torch.set_num_threads(threads)


def pass_through(backend, sites, window, x, weight, seed):
    """Values and both gradients."""
    leaves = [t.clone().requires_grad_() for t in (x, weight)]
    out = backend.convolve(*leaves, backend.build_kernel_map(sites, window))
    return [out.detach(), *torch.autograd.grad(out, leaves, seed)]


def test_rows_have_the_order_of_core(build):
    sites = random_sites(3, (9, 7), 0.3)
    for window in (ConvGeometry((2, 2)), ConvGeometry((3, 2), 2, ((2, 0), (0, 1)))):
        mine, core = build.build_kernel_map(sites, window), kernel_map(sites, window)
        assert torch.equal(mine.output.coords, core.output.coords)
        assert mine.output.coords.dtype == torch.int32
        assert (mine.output.offset, mine.output.tensor_stride) == (
            core.output.offset,
            core.output.tensor_stride,
        )
        assert build.build_kernel_map(sites, window) is mine


def test_inverse_convolution_goes_back_through_a_pooling(build):
    window, sites = ConvGeometry((2, 2), 2), random_sites(2, (8, 6), 0.3)
    batch = SparseBatch(sites, torch.randn(len(sites), 3), torch.randn(3))
    weight, results = torch.randn(4, 3, 2), []
    for engine in (build, TorchBackend()):
        pooled = functional.max_pool(batch, window)
        results.append(functional.inverse_conv(pooled, weight, None, window, sites, engine))
    torch.testing.assert_close(results[0].features, results[1].features)


def small_network(backend, dtype):
    torch.manual_seed(0)
    network = networks.DeepCNiN(2, 8, in_channels=3, num_classes=5, backend=backend)
    return network.to(dtype)


def strokes(dtype, seed=0):
    """Samples of random sites in the middle of a field, one of them empty, with labels."""
    field = networks.DeepCNiN(2, 8, in_channels=3, num_classes=5).spatial_shape
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(4, *field, generator=generator) < 0.2
    mask[1] = False
    coords = mask.nonzero().int()
    rows = torch.randn(len(coords), 3, generator=generator, dtype=torch.float64).to(dtype)
    return SparseBatch(ActiveSet(coords, field, 4), rows, torch.zeros(3, dtype=dtype))


def test_a_network_gives_what_the_torch_backend_gives(build, calls):
    results = []
    for name in ("torch", "spconv"):
        network = small_network(name, torch.float64)
        batch = strokes(torch.float64)
        x = batch.features.requires_grad_()
        logits = network(batch.replace(features=x))
        loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 3]))
        gradients = torch.autograd.grad(loss, [x, *network.parameters()])
        results.append([logits.detach(), *gradients])
    for one, other in zip(*results, strict=True):
        assert float((one - other).abs().max()) <= 1e-10 * max(1.0, float(other.abs().max()))
    assert "get_indice_pairs" in calls


def test_training_follows_the_torch_backend(spconv, calls):
    losses = []
    for name in ("torch", "spconv"):
        network = small_network(name, torch.float32)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        losses.append([])
        for step in range(10):
            loss = F.cross_entropy(
                network(strokes(torch.float32, step)), torch.tensor([0, 1, 2, 3])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert losses[0][-1] != losses[0][0]
    assert "get_indice_pairs" in calls


REFUSED = {
    "even size": (ConvGeometry.submanifold((2, 2)), "cpu", torch.float32),
    "full windows": (ConvGeometry((2, 2), offsets=[(0, 0), (1, 1)]), "cpu", torch.float32),
    "1 to 4 dimensions": (ConvGeometry((2,) * 5), "cpu", torch.float32),
    "16-mixed": (ConvGeometry((2, 2)), "cuda", torch.bfloat16),
    "takes float32, float64 on cpu": (ConvGeometry((2, 2)), "cpu", torch.float16),
    "runs on cpu, cuda": (ConvGeometry((2, 2)), "mps", torch.float32),
    "centre": (
        ConvGeometry((3, 1), 1, ((2, 0), (0, 0)), 1, Activity.SUBMANIFOLD),
        "cpu",
        torch.float32,
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_it_cannot_do_is_refused_with_the_reason(reason, spconv):
    assert reason in "; ".join(spconv.unsupported_reasons(OpRequest(*REFUSED[reason])))


def test_a_build_for_the_cpu_refuses_cuda(spconv, monkeypatch):
    monkeypatch.setattr(spconv._library.ops, "CPU_ONLY_BUILD", True)
    request = OpRequest(ConvGeometry((2, 2)), "cuda", torch.float32)
    assert any("for the CPU alone" in reason for reason in spconv.unsupported_reasons(request))


def test_fields_beyond_int32_are_refused_before_they_are_numbered(spconv, calls):
    coords = torch.tensor([[1, 5, 5]], dtype=torch.int32)
    sites = ActiveSet(coords, (65536, 65536), 2)
    with pytest.raises(BackendUnsupportedError, match="at most 2147483647 sites, not 8589934592"):
        spconv.build_kernel_map(sites, ConvGeometry((2, 2)))
    limit = ActiveSet(coords * 0, (65536, 32768), 1)
    with pytest.raises(BackendUnsupportedError, match="at most 2147483647 sites, not 2147483648"):
        spconv.build_kernel_map(limit, ConvGeometry((2, 2)))
    assert not calls


def rows_without_memory(rows, channels):
    """A matrix that takes the memory of one number."""
    return torch.zeros(1).expand(rows, channels)


def test_maps_and_matrices_beyond_int32_are_refused_before_they_are_made(spconv, calls):
    sites, window = random_sites(2, (9, 7), 0.3), ConvGeometry((2, 2))
    book = spconv.build_kernel_map(sites, window)
    calls.clear()
    many = SimpleNamespace(
        num_sites=2**28, device=torch.device("cpu"), batch_size=1, spatial_shape=(2**14, 2**14)
    )
    with pytest.raises(BackendUnsupportedError, match="entries of a rulebook, not 2 x 4 taps x 2"):
        spconv._check_window(many, window)
    spconv._check_window(SimpleNamespace(**{**vars(many), "num_sites": 2**28 - 1}), window)
    channels = 2**31 // (4 * max(book.num_inputs, book.num_outputs))
    for c_in, c_out in [(channels, 1), (1, channels)]:
        x, weight = rows_without_memory(len(sites), c_in), torch.zeros(1).expand(4, c_in, c_out)
        with pytest.raises(BackendUnsupportedError, match="2147483647 bytes of a matrix, not"):
            spconv.convolve(x, weight, book)
    assert not calls


def test_coordinates_that_nobody_checked_are_checked(spconv, calls):
    for bad in ([0, -1, 2], [0, 9, 2], [2, 1, 1]):
        sites = ActiveSet(torch.tensor([bad], dtype=torch.int32), (9, 7), 2, validate=False)
        with pytest.raises(ValueError, match="outside batch_size 2"):
            spconv.build_kernel_map(sites, ConvGeometry.submanifold((3, 3)))
    assert not calls


def test_operands_that_do_not_fit_raise_and_do_not_crash(spconv):
    sites = random_sites(2, (9, 7), 0.3)
    book = spconv.build_kernel_map(sites, ConvGeometry((2, 2)))
    x, weight = torch.randn(len(sites), 3), torch.randn(4, 3, 2)
    for wrong in [(x[1:], weight), (x, weight[1:]), (x[:, 1:], weight), (x[0], weight)]:
        with pytest.raises(ValueError, match="expected"):
            spconv.convolve(*wrong, book)
    with pytest.raises(ValueError, match="bring them together"):
        spconv.convolve(x.double(), weight, book)
    with pytest.raises(ValueError, match="does not fit"):
        spconv.build_kernel_map(sites, ConvGeometry((10, 2), 2))


def test_autocast_around_a_call_changes_nothing(build):
    sites = random_sites(2, (9, 7), 0.3)
    x, weight = torch.randn(len(sites), 3), torch.randn(9, 3, 2, requires_grad=True)
    book = build.build_kernel_map(sites, ConvGeometry.submanifold((3, 3)))
    plain = build.convolve(x, weight, book)
    with torch.autocast("cpu", torch.bfloat16):
        if build._is_cpu_build:
            pytest.skip("torch computes, and follows autocast")
        cast = build.convolve(x, weight, book)
        cast.sum().backward()
    assert torch.equal(cast, plain)
    assert weight.grad.dtype == torch.float32


def test_a_wrong_algorithm_is_refused():
    with pytest.raises(ValueError, match="implicit_gemm, implicit_gemm_split, native"):
        SpconvBackend("gather")


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(spconv_backend.importlib.metadata, "distributions", lambda: iter(()))
    backend = SpconvBackend()
    assert backend.version() is None
    (reason,) = backend.availability()
    assert reason.startswith("not installed (No module named 'spconv'): pip install")
    with pytest.raises(BackendUnsupportedError, match="not installed"):
        backend.build_kernel_map(random_sites(1, (4, 4), 0.5), ConvGeometry((2, 2)))


def test_a_broken_installation_is_said(monkeypatch, spconv):
    def fail(name):
        raise ImportError("could not convert default argument into a Python object")

    monkeypatch.setattr(spconv_backend.importlib, "import_module", fail)
    (reason,) = SpconvBackend().availability()
    assert "could not convert" in reason
    assert "uninstall every spconv and cumm" in reason


def test_the_import_leaves_no_trace(run_python, spconv):
    script = """
import os, warnings, torch
from spcnn_lightning.adapters.spconv_backend import SpconvBackend
before = list(warnings.filters), dict(os.environ), torch.get_num_threads(), os.getcwd()
backend = SpconvBackend()
import sys
assert backend.version() and "spconv" not in sys.modules and not backend.availability()
assert "spconv.pytorch.ops" in sys.modules
assert before == (list(warnings.filters), dict(os.environ), torch.get_num_threads(), os.getcwd())
"""
    done = run_python("-W", "error", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_version_names_the_distribution(spconv):
    known = {f"{d.name} {d.version}" for d in distributions()}
    assert set(spconv.version().split(" + ")) <= known
