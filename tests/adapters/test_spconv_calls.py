"""The CUDA way of the spconv family, against a double of the libraries' calls, on the CPU.

Nothing here says what a GPU computes: it says that the adapters hand over what the libraries'
source asks for, and read their results rightly.
"""

import importlib.util
import inspect
from pathlib import Path

import pytest
import torch

from spcnn_lightning.adapters.spconv_backend import SpconvBackend
from spcnn_lightning.adapters.spconv_engine import filled_up
from spcnn_lightning.adapters.spconv_rulebook import Library
from spcnn_lightning.adapters.spconv_triton_backend import SpconvTritonBackend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Capabilities
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.testing.cases import CASES, Case
from spcnn_lightning.testing.trial import check_case

_spec = importlib.util.spec_from_file_location(
    "spconv_double", Path(__file__).with_name("spconv_double.py")
)
double = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(double)

ALGORITHMS = ["implicit_gemm", "implicit_gemm_split", "native"]
WINDOWS = [case for case in CASES if case.sites in ("mixed", "empty") and case.channels == (3, 4)]


def on_a_double(backend_class, algorithm="implicit_gemm", no_kernel=None):
    """The backend as on CUDA, its library replaced and the device renamed."""

    class Doubled(backend_class):
        capabilities = Capabilities(
            devices=frozenset({"cpu"}),
            dtypes=None,
            dimensions=range(1, 5),
            even_submanifold=False,
            partial_windows=False,
        )

        def _load(self):
            return Library(double.Ops(backend_class.name, no_kernel), double.ConvAlgo)

        def _algorithm_on(self, device, window):
            return super()._algorithm_on("cuda", window)

    return Doubled(algorithm)


def calls_of(backend):
    """The functions of the library that ran, each once."""
    return set(backend._library.ops.calls)


@pytest.mark.parametrize(
    ("algorithm", "case"),
    [
        (algorithm, case)
        for algorithm in ALGORITHMS
        for case in WINDOWS
        if algorithm == "implicit_gemm" or case.geometry.dimensions == 2
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_algorithm_gives_the_dense_result(algorithm, case):
    backend = on_a_double(SpconvBackend, algorithm)
    if reasons := backend.unsupported_reasons(case.request("cpu", torch.float64)):
        pytest.skip("; ".join(reasons))
    check_case(case, backend, "cpu", torch.float64)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_spconv_triton_gives_the_dense_result(algorithm):
    backend = on_a_double(SpconvTritonBackend, algorithm)
    for window in [ConvGeometry((3, 2), 2, ((1, 0), (0, 2))), ConvGeometry.submanifold((3, 3))]:
        for transposed in (False, True):
            check_case(Case(window, transposed=transposed), backend, "cpu", torch.float64)
    assert ("implicit_gemm" in calls_of(backend)) == (algorithm != "native")


def test_each_algorithm_is_the_one_that_computes():
    case = Case(ConvGeometry((2, 2)))
    for algorithm in ALGORITHMS:
        backend = on_a_double(SpconvBackend, algorithm)
        check_case(case, backend, "cpu", torch.float64)
        native = {"get_indice_pairs", "indice_conv", "indice_conv_backward"}
        implicit = {
            "get_indice_pairs_implicit_gemm",
            "implicit_gemm",
            "implicit_gemm_backward",
        }
        assert calls_of(backend) == (native if algorithm == "native" else implicit)


def test_large_kernels_take_native():
    backend = on_a_double(SpconvBackend)
    check_case(Case(ConvGeometry((6, 6)), field=(8, 7)), backend, "cpu", torch.float64)
    assert "get_indice_pairs_implicit_gemm" not in calls_of(backend)


@pytest.mark.parametrize("algorithm", ALGORITHMS[:2])
def test_one_word_holds_the_taps_of_implicit_gemm(algorithm):
    backend = SpconvBackend(algorithm)
    chosen = [backend._algorithm_on("cuda", ConvGeometry((taps,))) for taps in (32, 33)]
    assert chosen == [algorithm, "native"]


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_native_takes_over_where_implicit_gemm_has_no_kernel(direction):
    backend = on_a_double(
        SpconvBackend, no_kernel=lambda way, x, filters: way == direction and x.shape[1] == 3
    )
    check_case(Case(ConvGeometry((3, 2), 2)), backend, "cpu", torch.float64)
    assert "indice_conv_backward" in calls_of(backend)
    assert ("indice_conv" in calls_of(backend)) == (direction == "forward")
    # Asked once: the next call goes to Native at once.
    backend._library.ops.calls.clear()
    check_case(Case(ConvGeometry.submanifold((3, 3))), backend, "cpu", torch.float64)
    check_case(Case(ConvGeometry((3, 2), 2), transposed=True), backend, "cpu", torch.float64)
    native = {"get_indice_pairs", "indice_conv", "indice_conv_backward"}
    assert calls_of(backend) == native | {"get_indice_pairs_implicit_gemm"}


def test_other_errors_of_the_library_are_not_hidden():
    backend = on_a_double(SpconvBackend)
    backend._library.ops.implicit_gemm = None
    with pytest.raises(TypeError):
        check_case(Case(ConvGeometry((2, 2))), backend, "cpu", torch.float64)


def test_sites_that_no_window_sees_give_an_empty_output():
    backend = on_a_double(SpconvBackend)
    sites = ActiveSet(torch.tensor([[0, 2, 2]], dtype=torch.int32), (5, 5), 1)
    assert len(backend.build_kernel_map(sites, ConvGeometry((2, 2), 3)).output) == 0
    assert not calls_of(backend)


def test_channels_are_filled_up_with_zeros():
    x, weight = torch.randn(4, 3), torch.randn(9, 3, 10)
    wide, filled = filled_up(x, weight, 8)
    assert (wide.shape, filled.shape) == ((4, 8), (9, 8, 16))
    torch.testing.assert_close((wide @ filled)[..., :10], x @ weight)
    assert filled_up(x, weight, 1) == (x, weight)


WINDOW = "algo ksize stride padding dilation out_padding subm"
SIGNATURES = {
    "get_indice_pairs": f"indices batch_size spatial_shape {WINDOW}",
    "get_indice_pairs_implicit_gemm": f"indices batch_size spatial_shape {WINDOW}",
    "indice_conv": "features filters indice_pairs indice_pair_num num_activate_out inverse subm",
    "indice_conv_backward": "features filters out_bp indice_pairs indice_pair_num inverse subm",
    "implicit_gemm": "features filters pair_fwd pair_mask_fwd_splits mask_argsort_fwd_splits "
    "num_activate_out masks is_train is_subm",
    "implicit_gemm_backward": "features filters out_bp pair_fwd pair_bwd pair_mask_fwd_splits "
    "pair_mask_bwd_splits mask_argsort_fwd_splits mask_argsort_bwd_splits mask_output_fwd masks "
    "mask_width is_subm",
}


@pytest.mark.parametrize("backend", [SpconvBackend(), SpconvTritonBackend()], ids=lambda b: b.name)
def test_the_library_takes_what_the_double_takes(backend):
    if reasons := backend.availability():
        pytest.skip("; ".join(reasons))
    for name, words in SIGNATURES.items():
        expected = words.split()
        found = list(inspect.signature(getattr(backend._library.ops, name)).parameters)
        found = ["out_bp" if word == "grad_output" else word for word in found]
        assert found[: len(expected)] == expected, name
        taken = inspect.signature(getattr(double.Ops, name)).parameters
        if not any(parameter.kind.name == "VAR_POSITIONAL" for parameter in taken.values()):
            assert len(taken) - 1 == len(expected), name
