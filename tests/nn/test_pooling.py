"""Ties and bad windows; the values are compared with dense pooling in test_functional.py."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from spcnn_lightning import compiled
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import MaxPool, functional, pooling_kernels

GROUND, ABSENT = 1.0, None


@pytest.fixture(autouse=True, params=["torch", "numba", "few calls"])
def loops(request, monkeypatch):
    """Tap by tap in torch, in compiled loops, and as on a GPU."""
    if request.param == "numba":
        pytest.importorskip("numba")
    worth = 0 if request.param == "numba" else 10**18
    monkeypatch.setattr(compiled, "WORTH_COMPILING", worth)
    few = request.param == "few calls"
    monkeypatch.setattr(pooling_kernels, "_takes_few_calls", lambda *asked: few)


@pytest.mark.parametrize(
    "slots", list(itertools.product([ABSENT, GROUND, 0.0, 2.0], repeat=4)), ids=str
)
def test_of_equal_slots_the_first_takes_the_gradient(slots):
    present = [place for place, value in enumerate(slots) if value is not ABSENT]
    coords = torch.tensor([[0, place // 2, place % 2] for place in present], dtype=torch.int32)
    rows = torch.tensor([[slots[place]] for place in present]).view(-1, 1).requires_grad_()
    ground = torch.tensor([GROUND], requires_grad=True)
    batch = SparseBatch(ActiveSet(coords.view(-1, 3), (2, 2), 1), rows, ground)
    pooled = MaxPool((2, 2))(batch).to_dense()
    of_rows, of_ground = torch.autograd.grad(pooled.sum(), (rows, ground))

    x = torch.tensor([GROUND if value is ABSENT else value for value in slots])
    x = x.view(1, 1, 2, 2).requires_grad_()
    (expected,) = torch.autograd.grad(F.max_pool2d(x, 2).sum(), x)
    assert of_rows.flatten().tolist() == expected.flatten()[present].tolist()
    assert of_ground.item() == expected.sum() - of_rows.sum()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (3, 1, 1), (2, 1, 0), (2, 2, 1), (3, 3, 0)]
)
def test_ties_in_windows_that_overlap(kernel, stride, padding, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, (3, 2, 8, 7), generator=generator).double()
    mask = torch.rand(3, 8, 7, generator=generator) < 0.4
    ground = torch.tensor([1.0, 0.0], dtype=torch.float64)
    x = torch.where(mask[:, None], x, ground.view(-1, 1, 1)).requires_grad_()
    expected = F.max_pool2d(x, kernel, stride, padding)
    seeds = torch.rand(expected.shape, generator=generator, dtype=torch.float64)
    (of_field,) = torch.autograd.grad(expected, x, seeds)

    ground.requires_grad_()
    sites = ActiveSet(mask.nonzero().int(), (8, 7), 3)
    rows = x.detach().movedim(1, -1)[mask].requires_grad_()
    batch = SparseBatch(sites, rows, ground)
    pooled = functional.max_pool(batch, ConvGeometry((kernel, kernel), stride, padding)).to_dense()
    of_rows, of_ground = torch.autograd.grad(pooled, (rows, ground), seeds)
    assert torch.equal(pooled, expected)
    torch.testing.assert_close(of_rows, of_field.movedim(1, -1)[mask], rtol=0, atol=1e-14)
    torch.testing.assert_close(of_ground, of_field.movedim(1, -1)[~mask].sum(0))


@pytest.mark.parametrize("taps", [255, 256, 257])
def test_windows_with_many_slots(taps):
    x = torch.rand(3, 3, taps, dtype=torch.float64)
    x[1] -= 2  # the ground state wins
    x[:, :, ::2] = 0
    x[2, :, 0] = 5  # the first slot wins
    x.requires_grad_()
    expected = F.max_pool1d(x, taps)
    (of_field,) = torch.autograd.grad(expected.sum(), x)
    mask = (x != 0).any(1)
    ground = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rows = x.detach().movedim(1, -1)[mask].requires_grad_()
    batch = SparseBatch(ActiveSet(mask.nonzero().int(), (taps,), 3), rows, ground)
    pooled = MaxPool((taps,))(batch).to_dense()
    of_rows, of_ground = torch.autograd.grad(pooled.sum(), (rows, ground))
    assert torch.equal(pooled, expected)
    assert torch.equal(of_rows, of_field.movedim(1, -1)[mask])
    assert torch.equal(of_ground, of_field.movedim(1, -1)[~mask].sum(0))


def test_a_maximum_below_zero_is_not_clamped():
    batch = SparseBatch.from_dense(torch.full((1, 1, 2, 2), -3.0), torch.tensor([-5.0]))
    assert MaxPool((2, 2))(batch).features.tolist() == [[-3.0]]


def test_nan_is_handed_on():
    batch = SparseBatch.from_dense(torch.ones(1, 1, 2, 2))
    batch = batch.replace(batch.features * torch.tensor([[1.0], [torch.nan], [1.0], [1.0]]))
    assert MaxPool((2, 2))(batch).features.isnan().all()


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_windows_without_a_slot_in_the_field_are_refused(name):
    batch = SparseBatch.from_dense(torch.ones(1, 1, 4, 4))
    pool = getattr(functional, name)
    with pytest.raises(ValueError, match=r"a window could lie outside the field.*pad less"):
        pool(batch, ConvGeometry((2, 2), 2, 2))
    with pytest.raises(ValueError, match="no submanifold form"):
        pool(batch, ConvGeometry.submanifold((3, 3)))
    with pytest.raises(ValueError, match=r"kernel_size \(5, 5\).*does not fit into a field"):
        pool(batch, ConvGeometry((5, 5)))


@pytest.mark.parametrize("stride", [2, 4, 5])
def test_dilated_windows_overlap_at_strides_wider_than_the_kernel(stride):
    """Windows of taps 0, 2 and 4 share sites at stride 4, although the kernel is 3 wide."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 14, generator=generator, dtype=torch.float64).requires_grad_()
    expected = F.max_pool1d(x, 3, stride, 0, 2)
    seeds = torch.rand(expected.shape, generator=generator, dtype=torch.float64)
    (of_field,) = torch.autograd.grad(expected, x, seeds)
    leaf = x.detach().requires_grad_()
    batch = SparseBatch.from_dense(leaf, torch.zeros(3, dtype=torch.float64))
    pooled = functional.max_pool(batch, ConvGeometry((3,), stride, 0, 2)).to_dense()
    assert torch.equal(pooled, expected)
    (found,) = torch.autograd.grad(pooled, leaf, seeds)
    torch.testing.assert_close(found, of_field, rtol=0, atol=1e-14)


def test_a_dilated_window_may_be_padded_by_more_than_its_taps():
    batch = SparseBatch.from_dense(torch.rand(1, 2, 6))
    pooled = functional.max_pool(batch, ConvGeometry((2,), 1, 2, 3))  # extent 4, two taps
    assert pooled.spatial_shape == (7,)
    with pytest.raises(ValueError, match="as wide as the window"):
        functional.max_pool(batch, ConvGeometry((2,), 1, 4, 3))


def test_padded_windows_survive_inference_mode_and_moving():
    generator = torch.Generator().manual_seed(0)
    field = -torch.rand(2, 2, 6, 5, generator=generator) - 1  # zeros of the padding would win
    batch = SparseBatch.from_dense(field, torch.full((2,), -1.0))
    window = ConvGeometry((3, 3), 2, 1)
    expected = F.max_pool2d(field, 3, 2, 1)
    with torch.inference_mode():
        functional.max_pool(batch, window)
    rows = batch.features.clone().requires_grad_()
    pooled = functional.max_pool(batch.replace(rows), window)
    pooled.features.sum().backward()
    moved = batch.active_set.relocated(torch.clone, {})
    for sites in (batch.active_set, moved):
        again = functional.max_pool(SparseBatch(sites, batch.features, batch.ground_state), window)
        assert torch.equal(again.to_dense(), expected)
