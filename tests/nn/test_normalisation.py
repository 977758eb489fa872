import pytest
import torch
from torch import nn

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import BatchNorm


def no_sites(batch_size=2):
    empty = ActiveSet(torch.zeros(0, 3, dtype=torch.int32), (3, 3), batch_size)
    return SparseBatch(empty, torch.zeros(0, 4), torch.ones(4))


def test_over_all_sites_it_is_the_batch_norm_of_torch(make_batch, densify, assert_same):
    ours, theirs = BatchNorm(3, statistics="all").double(), nn.BatchNorm2d(3).double()
    for seed in range(3):
        batch = make_batch("mixed", (6, 5), seed=seed)
        assert_same([ours(batch).to_dense()], [theirs(densify(batch)[0])])
    ours.eval()
    theirs.eval()
    assert_same([ours(batch).to_dense()], [theirs(densify(batch)[0])])
    assert_same([ours.running_mean, ours.running_var], [theirs.running_mean, theirs.running_var])


def test_over_active_sites_it_is_the_batch_norm_of_the_rows(make_batch, assert_same):
    ours, theirs = BatchNorm(3).double(), nn.BatchNorm1d(3).double()
    for seed in range(3):
        batch = make_batch("sparse", (6, 5), seed=seed)
        assert_same([ours(batch).features], [theirs(batch.features)])
    assert_same([ours.running_mean, ours.running_var], [theirs.running_mean, theirs.running_var])


def test_the_ground_state_goes_through_the_same_map(make_batch):
    batch, layer = make_batch("sparse", (6, 5)), BatchNorm(3).double()
    twice = batch.replace(torch.cat([batch.features[:-1], batch.ground_state[None]]))
    out = layer(twice)
    torch.testing.assert_close(out.features[-1], out.ground_state)


def test_without_a_row_the_running_statistics_are_used_and_kept():
    for statistics, batch in (("active", no_sites()), ("all", no_sites(0))):
        layer = BatchNorm(4, statistics=statistics)
        layer.running_mean.fill_(0.5)
        out = layer(batch)
        torch.testing.assert_close(out.ground_state, torch.full((4,), 0.5))
        assert layer.running_mean.tolist() == [0.5] * 4
        assert layer.running_var.tolist() == [1.0] * 4


def test_one_row_has_no_variance_and_keeps_the_running_one():
    sites = ActiveSet(torch.tensor([[0, 1, 1]], dtype=torch.int32), (3, 3), 2)
    layer = BatchNorm(4)
    out = layer(SparseBatch(sites, torch.full((1, 4), 3.0)))
    assert out.features.tolist() == [[0.0] * 4]
    torch.testing.assert_close(layer.running_mean, torch.full((4,), 0.3))
    assert layer.running_var.tolist() == [1.0] * 4


def test_the_converter_to_sync_batch_norm_leaves_it_alone():
    network = nn.Sequential(BatchNorm(4))
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(network)[0]) is BatchNorm


def test_unknown_statistics_are_refused():
    with pytest.raises(ValueError, match="statistics is 'some', expected 'active' or 'all'"):
        BatchNorm(4, statistics="some")


@pytest.mark.parametrize("statistics", ["active", "all"])
def test_sums_of_half_precision_are_taken_in_float32(statistics):
    """70,000 sites that hold 1.0 have a sum beyond the largest half."""
    field = torch.ones(1, 1, 400, 400, dtype=torch.float16)
    field[0, 0, :250, :280] = 3
    batch = SparseBatch.from_dense(field, torch.ones(1, dtype=torch.float16))
    norm = BatchNorm(1, momentum=1.0, statistics=statistics)
    out = norm(batch)
    expected = batch.features.float() if statistics == "active" else field.float()
    assert norm.running_mean.item() == pytest.approx(expected.mean().item(), rel=1e-4)
    assert torch.isfinite(out.features).all()
