import copy
import dataclasses
import pickle
import warnings
from collections.abc import Iterable, Sequence

import pytest
import torch
from lightning.pytorch.utilities.data import extract_batch_size

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.core.sparse_batch import SparseBatch


def sites(*rows):
    return torch.tensor(rows, dtype=torch.int32)


@pytest.fixture
def batch():
    active = ActiveSet(sites([0, 1, 2], [2, 0, 0], [2, 1, 1]), (2, 3), 4)
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    return SparseBatch(active, features, torch.tensor([-1.0, -2.0]))


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (2, 1, 3, 2)])
def test_dense_and_back(shape):
    mask = torch.rand(3, *shape) < 0.5
    ground = torch.randn(2)
    x = torch.where(mask[:, None], torch.randn(3, 2, *shape), ground.view(-1, *[1] * len(shape)))
    for batch in (SparseBatch.from_dense(x, ground), SparseBatch.from_dense(x, ground, mask)):
        assert batch.num_sites == int(mask.sum())
        assert torch.equal(batch.to_dense(), x)
    full = SparseBatch.from_dense(x, ground, torch.ones_like(mask))
    assert full.num_sites == mask.numel()
    assert torch.equal(full.to_dense(), x)


def test_dense_puts_each_row_on_its_site(batch):
    dense = batch.to_dense()
    assert dense.shape == (4, 2, 2, 3)
    assert dense[0, :, 1, 2].tolist() == [1, 2]
    assert dense[2, :, 1, 1].tolist() == [5, 6]
    assert (dense[1] == torch.tensor([-1.0, -2.0]).view(2, 1, 1)).all()


def test_dense_and_back_are_differentiable():
    mask = torch.rand(2, 4, 3) < 0.5
    values = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    ground = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def there_and_back(values, ground):
        x = torch.where(mask[:, None], values, ground.view(3, 1, 1))
        return SparseBatch.from_dense(x, ground, mask).to_dense().sin()

    assert torch.autograd.gradcheck(there_and_back, (values, ground))


def test_the_default_ground_state_is_zero():
    batch = SparseBatch.from_dense(torch.eye(3)[None, None])
    assert (batch.num_sites, batch.ground_state.tolist()) == (3, [0.0])
    assert SparseBatch(batch.active_set, torch.ones(3, 2)).ground_state.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 3),), r"x has shape \(2, 3\), expected \(B, C"),
        ((torch.ones(1, 2, 3), torch.zeros(3)), r"ground_state has shape \(3,\), expected \(2,\)"),
        ((torch.ones(1, 2, 3), None, torch.ones(1, 3)), "mask is torch.float32"),
        ((torch.ones(1, 2, 3), None, torch.ones(1, 2, 3) > 0), r"of shape \(1, 3\)"),
        (
            (torch.ones(1, 2, 3), None, torch.tensor([[True, False, False]])),
            "2 sites outside the mask differ from the ground state and would be lost",
        ),
        ((torch.tensor([[[1.0, torch.nan]]]),), "not finite"),
    ],
)
def test_bad_dense_fields_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseBatch.from_dense(*arguments)


def test_dense_fields_of_integers_are_refused():
    with pytest.raises(TypeError, match=r"features are torch.int64.*floating point"):
        SparseBatch.from_dense(torch.ones(1, 1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("features", "ground", "error", "message"),
    [
        (torch.ones(2, 2), None, ValueError, r"shape \(2, 2\), expected \(3, C\): one row per"),
        (torch.ones(3), None, ValueError, r"features have shape \(3,\)"),
        (torch.ones(3, 2), torch.ones(3), ValueError, r"ground_state has shape \(3,\)"),
        (torch.ones(3, 2).int(), None, TypeError, "features are torch.int32"),
        (torch.ones(3, 2), torch.ones(2).double(), TypeError, "ground_state is torch.float64"),
        (torch.ones(3, 2, device="meta"), None, ValueError, "move them to one device"),
        (
            torch.tensor([[1.0, 2.0], [3.0, torch.nan], [torch.inf, 0.0]]),
            None,
            ValueError,
            r"features\[1, 1\] at \(sample, \*site\) \[2, 0, 0\] is not finite \(2 of 6",
        ),
        (torch.ones(3, 2), torch.tensor([0, torch.nan]), ValueError, "the ground state is not fin"),
    ],
)
def test_bad_features_are_refused(batch, features, ground, error, message):
    with pytest.raises(error, match=message):
        SparseBatch(batch.active_set, features, ground)


def test_it_cannot_be_changed(batch):
    with pytest.raises(AttributeError, match=r"immutable: use replace\(features=\.\.\.\)"):
        batch.features = torch.zeros(3, 2)
    other = batch.replace(features=torch.zeros(3, 5), ground_state=torch.zeros(5))
    assert (other.num_channels, batch.num_channels) == (5, 2)
    assert other.active_set is batch.active_set


def test_lightning_counts_samples_and_not_sites(batch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract_batch_size((batch, torch.zeros(4))) == 4
        assert extract_batch_size({"x": batch, "y": torch.zeros(4, 7)}) == 4
    assert not isinstance(batch, (Iterable, Sequence, tuple))
    assert not dataclasses.is_dataclass(batch)
    assert not hasattr(batch, "__len__")
    assert "3 sites x 2 channels, spatial_shape=(2, 3), batch_size=4" in repr(batch)


def test_moving_takes_dtype_and_device_and_keeps_maps(batch):
    built = kernel_map(batch.active_set, ConvGeometry((2, 2)))
    double = batch.to(torch.float64)
    assert (double.dtype, double.ground_state.dtype) == (torch.float64, torch.float64)
    assert double.coords.dtype == torch.int32
    assert kernel_map(double.active_set, ConvGeometry((2, 2))) is built
    moved = batch.to("meta", torch.float16, non_blocking=True)
    assert (moved.device.type, moved.coords.device.type) == ("meta", "meta")
    assert moved.dtype == torch.float16
    assert batch.to(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_copies_are_equal(batch):
    kernel_map(batch.active_set, ConvGeometry((2, 2)))
    for other in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch), copy.copy(batch)):
        assert torch.equal(other.to_dense(), batch.to_dense())
        assert other.batch_size == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_pinned_batches_are_equal(batch):
    pinned = batch.pin_memory()
    assert pinned.features.is_pinned()
    assert pinned.coords.is_pinned()
    assert torch.equal(pinned.to_dense(), batch.to_dense())


@pytest.mark.parametrize(
    ("reduce", "merged"), [("sum", [4.0, 2.0]), ("mean", [2.0, 2.0]), ("max", [3.0, 2.0])]
)
def test_points_on_one_site_are_merged(reduce, merged):
    coords = sites([1, 1, 1], [0, 0, 2], [1, 1, 1])
    features = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    batch, rows = SparseBatch.from_points(coords, features, (2, 3), 2, reduce)
    assert batch.coords.tolist() == [[0, 0, 2], [1, 1, 1]]
    assert rows.tolist() == [1, 0, 1]
    assert batch.features.flatten().tolist() == merged[::-1]
    batch.features.sum().backward()
    expected = {"sum": [1.0, 1.0, 1.0], "mean": [0.5, 1.0, 0.5], "max": [0.0, 1.0, 1.0]}
    assert features.grad.flatten().tolist() == expected[reduce]


def test_no_points_are_an_empty_batch():
    batch, rows = SparseBatch.from_points(sites([0, 0]).view(-1, 2)[:0], torch.zeros(0, 3), (4,), 2)
    assert (batch.num_sites, batch.batch_size, len(rows)) == (0, 2, 0)


@pytest.mark.parametrize(
    ("coords", "features", "reduce", "error", "message"),
    [
        (sites([0, 0, 3]), torch.ones(1, 1), "sum", ValueError, r"\[0, 0, 3\].*out of range"),
        (sites([0, 0, 3], [0, 1, 0]), torch.ones(2, 1), "sum", ValueError, r"\[0, 0, 3\].*out of"),
        (sites([0, -1, 0]), torch.ones(1, 1), "sum", ValueError, "out of range"),
        (sites([2, 0, 0]), torch.ones(1, 1), "sum", ValueError, "out of range for batch_size 2"),
        (sites([-1, 0, 0]), torch.ones(1, 1), "sum", ValueError, "out of range"),
        (sites([0, 0, 0]).long(), torch.ones(1, 1), "sum", TypeError, "expected torch.int32"),
        (sites([0, 0]), torch.ones(1, 1), "sum", ValueError, r"coords have shape \(1, 2\)"),
        (sites([0, 0, 0, 0]), torch.ones(1, 1), "sum", ValueError, r"coords have shape \(1, 4\)"),
        (sites([0, 0, 0]), torch.ones(2, 1), "sum", ValueError, "one row per point"),
        (sites([0, 0, 0]), torch.ones(1, 1), "min", ValueError, "reduce is 'min', expected 'sum'"),
        (sites([0, 0, 0]), torch.full((1, 1), torch.nan), "sum", ValueError, "not finite"),
    ],
)
def test_bad_points_are_refused(coords, features, reduce, error, message):
    with pytest.raises(error, match=message):
        SparseBatch.from_points(coords, features, (2, 3), 2, reduce)


def test_samples_are_joined(batch):
    joined = SparseBatch.concatenate_samples([batch, batch, batch])
    assert (joined.batch_size, joined.num_sites) == (12, 9)
    assert torch.equal(joined.to_dense(), torch.cat([batch.to_dense()] * 3))
    assert SparseBatch.concatenate_samples([batch]) is batch


def test_samples_that_do_not_fit_are_refused(batch):
    wider = SparseBatch.from_dense(torch.ones(1, 2, 2, 4), batch.ground_state)
    other_ground = batch.replace(ground_state=torch.zeros(2))
    other_channels = SparseBatch.from_dense(torch.ones(1, 3, 2, 3))
    for other in (wider, other_ground, other_channels):
        with pytest.raises(ValueError, match="cannot be joined: bring them to one field and one"):
            SparseBatch.concatenate_samples([batch, other])
    with pytest.raises(ValueError, match="no batch to concatenate"):
        SparseBatch.concatenate_samples([])


@pytest.mark.parametrize(
    ("features", "ground", "error"),
    [
        (torch.ones(5, 2), None, "one row per active site"),
        (torch.ones(4, 3), None, "one number per feature"),
        (None, torch.ones(2, dtype=torch.float64), "one floating point dtype"),
        (torch.ones(4, 2, dtype=torch.int64), None, "floating point"),
    ],
)
def test_what_replaces_has_to_fit(features, ground, error):
    batch = SparseBatch.from_dense(torch.ones(1, 2, 2, 2))
    with pytest.raises((TypeError, ValueError), match=error):
        batch.replace(features, ground)


def test_what_cannot_be_joined_is_refused():
    batch = SparseBatch.from_dense(torch.ones(1, 2, 2, 2))
    with pytest.raises(TypeError, match=r"float32 and torch\.float64"):
        SparseBatch.concatenate_samples([batch, batch.to(torch.float64)])
    leaves = [batch.replace(ground_state=torch.zeros(2, requires_grad=True)) for _ in range(2)]
    with pytest.raises(ValueError, match="need a gradient"):
        SparseBatch.concatenate_samples(leaves)
    sites = batch.active_set
    elsewhere = ActiveSet(sites.coords, (2, 2), 1, tensor_stride=[2, 2])
    other = SparseBatch(elsewhere, batch.features, batch.ground_state)
    with pytest.raises(ValueError, match="different places of the input grid"):
        SparseBatch.concatenate_samples([batch, other])
