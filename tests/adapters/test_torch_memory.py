"""The stated bound on what a convolution of the torch backend builds besides its result."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spcnn_lightning import compiled
from spcnn_lightning.adapters import get_backend, torch_rows
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map


class LargestTensor(TorchDispatchMode):
    """Remembers the most numbers that an operation returned; index tables are not counted."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize("geometry", [ConvGeometry((3, 3)), ConvGeometry((3, 3), 2)], ids=str)
@pytest.mark.parametrize("density", [0.1, 0.5, 1.1])
@pytest.mark.parametrize(("c_in", "c_out"), [(2, 32), (32, 2), (24, 24)])
@pytest.mark.parametrize("bounded", [True, False])
def test_no_temporary_is_larger_than_stated(bounded, c_in, c_out, density, geometry, monkeypatch):
    monkeypatch.setattr(compiled, "WORTH_COMPILING", 10**18)  # those loops are no operations
    limit = 10_000
    if bounded:
        monkeypatch.setattr(torch_rows, "MAX_BUFFER", limit)
        monkeypatch.setattr(torch_rows, "CACHE_BLOCK", limit)
        monkeypatch.setattr(torch_rows, "LEAST_ROWS", 1)
    mask = torch.rand(4, 30, 30, generator=torch.Generator().manual_seed(0)) < density
    rulebook = kernel_map(ActiveSet(mask.nonzero().int(), (30, 30), 4), geometry)
    rows = torch.randn(rulebook.num_inputs, c_in, requires_grad=True)
    weight = torch.randn(9, c_in, c_out, requires_grad=True)
    with LargestTensor() as largest:
        out = get_backend("torch").convolve(rows, weight, rulebook)
        out.sum().backward()
    row = max(c_in, c_out)  # one of zeros may stand behind
    stated = max(limit, rows.numel(), out.numel(), weight.numel()) + row
    if bounded:
        assert largest.numbers <= stated
    elif density == 0.5 and c_in == c_out and geometry.stride == (1, 1):
        assert largest.numbers > stated  # so the limit is what holds it
