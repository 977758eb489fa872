"""TorchSparse itself, where it is installed: it is what its test double says it is.

The conformance of the adapter on the library is in test_conformance.py.
"""

import importlib.util
from pathlib import Path

import pytest
import torch

from spcnn_lightning.adapters import torchsparse_library
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map

VALID, SUBMANIFOLD = ConvGeometry((3, 3)), ConvGeometry.submanifold((3, 3))


@pytest.fixture(scope="module")
def real():
    library, reasons = torchsparse_library.load()
    if library is None:
        pytest.skip(f"torchsparse: {'; '.join(reasons)}")
    return library.backend


@pytest.fixture(scope="module")
def double():
    path = Path(__file__).with_name("torchsparse_double.py")
    spec = importlib.util.spec_from_file_location("torchsparse_double", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problem(geometry, density, shape=(9, 7), channels=(3, 4)):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(2, *shape, generator=generator) < density
    core = kernel_map(ActiveSet(mask.nonzero().int(), shape, 2), geometry)
    rows_in, rows_out, counts = core.pairs
    pairs = torch.stack([rows_in, rows_out], 1).int()
    x = torch.randn(core.num_inputs, channels[0], generator=generator)
    weight = torch.randn(geometry.num_taps, *channels, generator=generator)
    grad = torch.randn(core.num_outputs, channels[1], generator=generator)
    return core, x, weight, grad, pairs, torch.tensor(counts).int()


@pytest.mark.parametrize("density", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize(
    "geometry",
    [VALID, SUBMANIFOLD, ConvGeometry((2, 3), 2), ConvGeometry((1, 1))],
    ids=["valid", "submanifold", "strided", "one tap"],
)
def test_the_double_computes_what_the_extension_computes(real, double, geometry, density):
    core, x, weight, grad, pairs, counts = problem(geometry, density)
    outcomes = []
    for calls in (real, double):
        # With a single tap the extension reads past its counts where the rows are as many.
        out = torch.full((core.num_outputs + (geometry.num_taps == 1), 4), 7.0)
        calls.conv_forward_gather_scatter_cpu(x, out, weight, pairs, counts, False)
        grads = torch.full_like(x, 7.0), torch.full_like(weight, 7.0)
        calls.conv_backward_gather_scatter_cpu(
            x, grads[0], grad, weight, grads[1], pairs, counts, False
        )
        back = torch.full((core.num_inputs + (geometry.num_taps == 1), 3), 7.0)
        flipped = weight.transpose(1, 2).contiguous()
        calls.conv_forward_gather_scatter_cpu(grad, back, flipped, pairs, counts, True)
        outcomes.append((out, *grads, back))
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other)


def test_both_have_the_centre_shortcut(real, double):
    pairs, counts = torch.zeros(1, 2, dtype=torch.int32), torch.tensor([1] + [0] * 8).int()
    weight = torch.arange(1.0, 10).view(9, 1, 1)
    for calls in (real, double):
        out = torch.zeros(1, 1)
        calls.conv_forward_gather_scatter_cpu(torch.ones(1, 1), out, weight, pairs, counts, False)
        assert out.item() == 6  # the right result is 1


def test_both_refuse_float64(real, double):
    core, x, weight, _, pairs, counts = problem(VALID, 0.4)
    for calls in (real, double):
        out = torch.zeros(core.num_outputs, 4, dtype=torch.float64)
        with pytest.raises(RuntimeError, match="expected scalar type Float"):
            calls.conv_forward_gather_scatter_cpu(
                x.double(), out, weight.double(), pairs, counts, False
            )


def test_the_extension_for_cpu_has_what_the_double_has(real, double):
    names = [name for name in dir(double) if name.endswith("_cpu") and name.startswith("conv_")]
    assert len(names) == 2
    for name in names:
        assert hasattr(real, name)
