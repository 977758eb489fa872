"""The conformance suite notices what is known to go wrong in sparse libraries.

Each class is the torch backend with one fault; the check named beside it has to fail.
"""

import os
import time

import pytest
import torch

from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Capabilities
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap, build_kernel_map
from spcnn_lightning.testing import ConformanceError, self_test
from spcnn_lightning.testing.checks import CHECKS, check_claims, check_refused


class Flipped(TorchBackend):
    """Convolution in the sense of mathematics, not of torch."""

    def convolve(self, features, weight, kernel_map, transposed=False):
        return super().convolve(features, weight.flip(0), kernel_map, transposed)


class CentreShortcut(TorchBackend):
    """Takes equal numbers of rows for a submanifold window, as TorchSparse does."""

    def convolve(self, features, weight, kernel_map, transposed=False):
        k = len(weight)
        if k % 2 == 0 or kernel_map.num_inputs != kernel_map.num_outputs:
            return super().convolve(features, weight, kernel_map, transposed)
        outer = weight.clone()
        outer[k // 2] = 0
        rest = super().convolve(features, outer, kernel_map, transposed)
        return rest + features @ weight[k // 2]


class NoFeatureGradient(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        out = super().convolve(features.detach(), weight, kernel_map, transposed)
        return out + 0 * features.sum()


class LastTapHasNoGradient(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        weight = torch.cat([weight[:-1], weight[-1:].detach()])
        return super().convolve(features, weight, kernel_map, transposed)


class PaddingMirrored(TorchBackend):
    """Puts the low padding on the high side: off by one where they differ."""

    def build_kernel_map(self, active_set, geometry):
        g = geometry
        pads = [pair[::-1] for pair in g.padding]
        other = ConvGeometry(g.kernel_size, g.stride, pads, g.dilation, g.activity, g.offsets)
        return super().build_kernel_map(active_set, other)


class IgnoresDilation(TorchBackend):
    def build_kernel_map(self, active_set, geometry):
        g = geometry
        if max(g.dilation) == 1:
            return super().build_kernel_map(active_set, geometry)
        shrink = [d * (k - 1) - (k - 1) for d, k in zip(g.dilation, g.kernel_size, strict=True)]
        pads = [(low, high - s) for (low, high), s in zip(g.padding, shrink, strict=True)]
        pads = [(max(low, 0), max(high, 0)) for low, high in pads]
        other = ConvGeometry(g.kernel_size, g.stride, pads, 1, Activity.DILATING, g.offsets)
        return super().build_kernel_map(active_set, other)


class MapsByKernelSize(TorchBackend):
    """Forgets padding, stride and dilation in the key of its maps."""

    def build_kernel_map(self, active_set, geometry):
        key = ConvGeometry(geometry.kernel_size)
        return active_set.kernel_map("bad", key, lambda: build_kernel_map(active_set, geometry))


class MapsByNumberOfSites(TorchBackend):
    """Keeps maps in one place and looks at the number of sites alone, as spconv's keys do."""

    def __init__(self):
        self.maps = {}

    def build_kernel_map(self, active_set, geometry):
        key = (len(active_set), active_set.spatial_shape, geometry)
        return self.maps.setdefault(key, build_kernel_map(active_set, geometry))


class NewMapEachTime(TorchBackend):
    def build_kernel_map(self, active_set, geometry):
        return build_kernel_map(active_set, geometry)


class WeightsKept(TorchBackend):
    """Converts the weights once for each map."""

    def __init__(self):
        self.kept = {}

    def convolve(self, features, weight, kernel_map, transposed=False):
        first = self.kept.setdefault(kernel_map, weight.detach().clone())
        return super().convolve(features, first + 0 * weight, kernel_map, transposed)


class RacesOverManyRows(TorchBackend):
    """One row is wrong, in one of three passes, if there are many: the CPU wheels of spconv."""

    calls = 0

    def convolve(self, features, weight, kernel_map, transposed=False):
        out = super().convolve(features, weight, kernel_map, transposed)
        self.calls += 1
        if len(out) > 20_000 and self.calls % 3 == 0:
            out = out + 0
            out[self.calls * 997 % len(out)] += 1
        return out


class CrashesWithoutSites(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        assert len(features)
        return super().convolve(features, weight, kernel_map, transposed)


class LowPrecision(TorchBackend):
    """Something like TF32: ten bits of mantissa."""

    def convolve(self, features, weight, kernel_map, transposed=False):
        features = features + (features.half().to(features.dtype) - features).detach()
        return super().convolve(features, weight, kernel_map, transposed)


class RawMemory(TorchBackend):
    """Reads gradients as if they were contiguous."""

    def convolve(self, features, weight, kernel_map, transposed=False):
        out = super().convolve(features, weight, kernel_map, transposed)
        out.register_hook(
            lambda grad: grad if grad.is_contiguous() else torch.full_like(grad, grad.mean() * 2)
        )
        return out


class SwallowsNan(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        return super().convolve(features.nan_to_num(), weight, kernel_map, transposed)


class SpreadsNan(TorchBackend):
    """Multiplies absent sites by zero weights."""

    def convolve(self, features, weight, kernel_map, transposed=False):
        out = super().convolve(features, weight, kernel_map, transposed)
        return out + 0 * features.sum()


class WritesToItsInput(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        weight.data.clamp_(min=-0.1)
        return super().convolve(features, weight, kernel_map, transposed)


class ChangesThreads(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        torch.set_num_threads(torch.get_num_threads() + 1)
        return super().convolve(features, weight, kernel_map, transposed)


class DrawsNumbers(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        torch.rand(1)
        return super().convolve(features, weight, kernel_map, transposed)


class PrintsFromC(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        os.write(1, b"SPCONV_DEBUG_SAVE_PATH not found")
        return super().convolve(features, weight, kernel_map, transposed)


class Undetermined(TorchBackend):
    """Adds in another order each time."""

    def convolve(self, features, weight, kernel_map, transposed=False):
        out = super().convolve(features, weight, kernel_map, transposed)
        return out * (1 + 1e-14 * (time.perf_counter_ns() % 1009))


class CountsIn32Bits(TorchBackend):
    """Site numbers wrap around, as in spconv's hash table."""

    def build_kernel_map(self, active_set, geometry):
        found = super().build_kernel_map(active_set, geometry)
        keys = found.output.keys()
        if not len(keys) or int(keys.max()) < 2**32:
            return found
        coords = found.output.coords % 2**15
        sets = ActiveSet(coords, found.output.spatial_shape, active_set.batch_size, validate=False)
        return KernelMap(geometry, sets, found.in_to_out)


class AlwaysFloat32(TorchBackend):
    def convolve(self, features, weight, kernel_map, transposed=False):
        return super().convolve(features.float(), weight.float(), kernel_map, transposed)


class MapsOfInference(TorchBackend):
    """Builds its maps in the mode that it is called in, so that training cannot use them."""

    def build_kernel_map(self, active_set, geometry):
        kept = active_set._kernel_maps
        if ("core", geometry) not in kept:
            kept["core", geometry] = build_kernel_map(active_set, geometry)
        return kept["core", geometry]

    def convolve(self, features, weight, kernel_map, transposed=False):
        mark = torch.ones((), dtype=features.dtype)
        scale = kernel_map.__dict__.setdefault("scale", mark)
        return super().convolve(features, weight, kernel_map, transposed) * scale


FAULTS = [
    (Flipped, "dilating_3x2-mixed"),
    (Flipped, "transposed_2x2-stride2-mixed"),
    (CentreShortcut, "transposed_3x3-corners"),
    (CentreShortcut, "dilating_3x3-corners"),
    (NoFeatureGradient, "dilating_2x2-mixed"),
    (LastTapHasNoGradient, "submanifold_3x3-mixed"),
    (PaddingMirrored, "submanifold_2x2-mixed"),
    (PaddingMirrored, "dilating_3x2-stride1_3-pad1_2_0_1-mixed"),
    (IgnoresDilation, "dilating_3x3-dilation2-mixed"),
    (MapsByKernelSize, "keeps_maps_apart-dilating_3x3-mixed"),
    (MapsByNumberOfSites, "gives_the_same_for_any_row_order-dilating_3x3-mixed"),
    (NewMapEachTime, "keeps_its_map-dilating_3x3-mixed"),
    (WeightsKept, "keeps_its_map-submanifold_3x3-mixed"),
    (RacesOverManyRows, "many_rows-dilating_3x3-8to12-0.05"),
    (CrashesWithoutSites, "dilating_2x2-empty"),
    (LowPrecision, "dilating_3x3-mixed"),
    (RawMemory, "takes_any_memory_layout-dilating_3x3-mixed"),
    (SwallowsNan, "passes_nan_on-dilating_3x3-mixed"),
    (SpreadsNan, "passes_nan_on-submanifold_3x3-mixed"),
    (WritesToItsInput, "keeps_its_inputs-dilating_3x3-mixed"),
    (ChangesThreads, "leaves_no_trace-dilating_3x3-mixed"),
    (DrawsNumbers, "leaves_no_trace-dilating_3x3-mixed"),
    (PrintsFromC, "leaves_no_trace-dilating_3x3-mixed"),
    (Undetermined, "repeats_bit_by_bit-dilating_3x3-mixed"),
    (CountsIn32Bits, "numbers_huge_fields-dilating_3x3-mixed"),
    (AlwaysFloat32, "runs_under_autocast-dilating_3x3-mixed"),
    (MapsOfInference, "takes_sites_seen_in_inference-dilating_3x3-mixed"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS, ids=lambda v: getattr(v, "__name__", v))
def test_a_known_fault_is_found(fault, name):
    (check,) = (check for check in CHECKS if check.name == name)
    dtype = torch.float64 if fault is Undetermined else torch.float32
    threads = torch.get_num_threads()
    try:
        check.run(TorchBackend(), "cpu", dtype)
        with pytest.raises((ConformanceError, AssertionError, RuntimeError)):
            check.run(fault(), "cpu", dtype)
    finally:
        torch.set_num_threads(threads)


class Denies(TorchBackend):
    """Says that it has no float64 and no submanifold windows."""

    capabilities = Capabilities(
        devices=frozenset({"cpu"}),
        dtypes={"cpu": frozenset({torch.float32})},
        activities=frozenset({Activity.DILATING}),
    )


class DeniesAndRuns(Denies):
    def unsupported_reasons(self, request):
        return []


class RefusesAll(TorchBackend):
    def unsupported_reasons(self, request):
        return ["is out of order"]


def test_what_the_capabilities_deny_has_to_be_refused():
    check_claims(Denies(), "cpu", torch.float64)
    for check in CHECKS[:40]:
        if Denies().unsupported_reasons(check.request("cpu", torch.float64)):
            check_refused(check, Denies(), "cpu", torch.float64)
    with pytest.raises(ConformanceError, match="takes float32 on cpu, not float64"):
        check_claims(DeniesAndRuns(), "cpu", torch.float64)


def test_refusing_everything_that_is_claimed_is_a_fault():
    with pytest.raises(ConformanceError, match=r"declares \[1, 2, 3, 4.* but refuses every window"):
        check_claims(RefusesAll(), "cpu", torch.float32)
    assert not self_test(RefusesAll(), dtypes=[torch.float32]).ok


def test_a_report_names_the_check_that_failed():
    fault = self_test(Flipped(), dtypes=[torch.float64], time_limit=60)
    (part,) = fault.dtypes
    assert not fault.ok
    assert not part.finished
    assert "values: the largest error is" in part.failures[0]


def test_time_that_runs_out_is_not_a_pass():
    report = self_test(TorchBackend(), dtypes=[torch.float32], time_limit=0.0)
    assert not report.ok
    assert not report.dtypes[0].finished


def test_an_unusable_backend_is_not_tested():
    class Missing(TorchBackend):
        def availability(self):
            return ["not installed"]

    report = self_test(Missing())
    assert report.reasons == ["not installed"]
    assert not report.ok
    assert not report.dtypes
