"""When the compiled loops are taken, and how work is cut into pieces."""

import sys

import pytest
import torch

from spcnn_lightning import compiled
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional


def test_compiling_waits_until_it_pays(monkeypatch):
    monkeypatch.setattr(compiled, "_moved", 0)
    monkeypatch.setattr(compiled, "has_numba", lambda: True)
    assert not compiled.compiled_for(compiled.WORTH_COMPILING - 1, torch.ones(1))
    assert compiled.compiled_for(1, torch.ones(1))
    assert not compiled.compiled_for(1, torch.ones(1, dtype=torch.bfloat16))
    assert not compiled.compiled_for(1, torch.ones(1, device="meta"))
    monkeypatch.setattr(compiled, "has_numba", lambda: False)
    assert not compiled.compiled_for(1, torch.ones(1))


def test_a_numba_that_does_not_work_is_a_warning(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setitem(sys.modules, "numba", None)  # as an import that fails
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: object())
    compiled.has_numba.cache_clear()
    with pytest.warns(UserWarning, match="numba is installed but cannot be used"):
        assert not compiled.has_numba()
    compiled.has_numba.cache_clear()


@pytest.mark.parametrize(("rows", "numbers"), [(0, 0), (1, 10**9), (2, 10**9), (7, 10**9), (7, 9)])
def test_pieces_cover_every_row_once(monkeypatch, rows, numbers):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    seen = torch.zeros(rows, dtype=torch.int64)

    def kernel(array, first, end):
        array[first:end] += 1

    compiled.in_pieces(kernel, rows, numbers, seen)
    assert seen.tolist() == [1] * rows


def test_a_failing_piece_is_told(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def kernel(first, end):
        if first:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        compiled.in_pieces(kernel, 2, 10**9)


def test_the_gradient_of_the_ground_does_not_depend_on_threads(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "WORTH_COMPILING", 0)
    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(40, 3, 20, 20, generator=generator)
    field *= torch.rand(40, 1, 20, 20, generator=generator) < 0.3
    gradients = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        batch = SparseBatch.from_dense(field)
        ground = batch.ground_state.clone().requires_grad_()
        batch = batch.replace(batch.features, ground)
        pooled = functional.max_pool(batch, ConvGeometry((2, 2), 2))
        (pooled.features**2 + pooled.features).sum().backward()
        gradients.append(ground.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])
    assert gradients[0].abs().min() > 1
