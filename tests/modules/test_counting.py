"""Counts against the figures that the paper's networks must have, and against by-hand sums."""

import math

import pytest
import torch
from torch import nn

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.modules import count_layers, format_counts, total_macs
from spcnn_lightning.networks import DeepCNet, DeepCNiN
from spcnn_lightning.nn import BatchNorm, FeatureDropout, InverseConv, SparseConv, SubmanifoldConv


def circle(diameter: int, field: int, channels: int = 1) -> SparseBatch:
    """A circle line in the middle of a square field."""
    angle = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)[:-1]
    row = (field / 2 + diameter / 2 * angle.cos()).floor().long()
    column = (field / 2 + diameter / 2 * angle.sin()).floor().long()
    picture = torch.zeros(1, channels, field, field)
    picture[:, :, row, column] = 1
    return SparseBatch.from_dense(picture)


def square(width: int, field: int, channels: int) -> SparseBatch:
    """A full square in the middle of a square field."""
    picture = torch.zeros(1, channels, field, field)
    start = (field - width) // 2
    picture[:, :, start : start + width, start : start + width] = 1
    return SparseBatch.from_dense(picture)


@pytest.mark.parametrize(
    ("network", "batch", "dense", "windows"),
    [
        (DeepCNet(5, 100, 1, 3755), circle(32, 96), 357.6, 74.0),
        (DeepCNet(6, 100, 1, 3755), circle(64, 192), 1583, 177.5),
        (DeepCNiN(6, 100, 15, 3755), circle(64, 192, 15), 2292, 210.2),
        (DeepCNiN(5, 100, 3, 10), square(32, 96, 3), 430.8, 96.6),
    ],
    ids=["circle-32", "circle-64", "circle-64-nin", "picture"],
)
def test_counts_are_those_of_the_paper(
    network: DeepCNet, batch: SparseBatch, dense: float, windows: float
):
    counts = count_layers(network, batch)
    assert sum(c.dense_macs for c in counts) / 1e6 == pytest.approx(dense, rel=5e-4)
    assert sum(c.window_macs for c in counts) / 1e6 == pytest.approx(windows, abs=0.05)
    assert sum(c.sparse_macs for c in counts) < sum(c.window_macs for c in counts)
    assert sum(c.parameters for c in counts) == sum(p.numel() for p in network.parameters())


def test_active_sites_of_a_circle():
    counts = count_layers(DeepCNet(5, 1, 1, 2), circle(32, 96))
    sites = [c.sites for c in counts if not c.elementwise and c.spatial_shape]
    assert sites == [378, 124, 186, 60, 90, 28, 42, 13, 16, 4, 1]


@pytest.mark.parametrize("layer_type", [SparseConv, SubmanifoldConv])
def test_multiply_adds_are_those_of_the_pairs(layer_type: type[SparseConv]):
    # Two samples: sites 0 and 1 of a line of 5 are active in the first, none in the second.
    field = torch.zeros(2, 3, 5)
    field[0, :, :2] = 1
    layer = layer_type(3, 4, (3,))
    (count,) = count_layers(layer, SparseBatch.from_dense(field))
    if layer_type is SparseConv:
        # Output 0 sees both sites, output 1 one of them; the third output sees none.
        assert (count.sites, count.sparse_macs) == (2, (3 + 1) * 12)
        assert (count.volume, count.dense_macs) == (2 * 3, 2 * 3 * 3 * 12)
        assert count.window_macs == 3 * (2 + 1) * 12
    else:
        assert (count.sites, count.sparse_macs) == (2, (4 + 1) * 12)
        assert (count.volume, count.dense_macs) == (2 * 5, 2 * 5 * 3 * 12)
    assert count.active_share == pytest.approx(count.sites / count.volume)


def test_counting_leaves_the_network_as_it_was():
    network = torch.nn.Sequential(SparseConv(1, 4, (2, 2)), BatchNorm(4), FeatureDropout(0.5))
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_layers(network, square(3, 6, 1))
    torch.testing.assert_close(network.state_dict(), before)
    assert [layer.training for layer in network] == [True, False, True]
    assert network[2].step == 0
    assert not any(layer._forward_hooks for layer in network)


def test_the_table_has_means_per_sample_and_the_sum():
    batch = SparseBatch.concatenate_samples([circle(32, 96)] * 2)
    network = DeepCNet(5, 100, 1, 3755, dropout=0.5)
    counts = count_layers(network, batch)
    lines = format_counts(counts, 2).splitlines()
    assert " ".join(lines[2].split()).startswith("layers.0 SparseConv 100 x 94 x 94 378.0 4.3%")
    assert lines[-1].split()[:2] == ["total", "5,059,755"]
    assert "FeatureDropout" not in "\n".join(lines)
    sparse, dense = total_macs(counts)
    assert lines[-1].split()[2:] == [f"{sparse / 2e6:.4g}", "357.6", f"{dense / sparse:.1f}"]


def test_an_inverse_convolution_counts_the_pairs_of_the_finer_sites():
    class UpAndDown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = SparseConv(3, 4, (2,), stride=2), InverseConv(4, 5, (2,), stride=2)

        def forward(self, batch: SparseBatch) -> SparseBatch:
            return self.up(self.down(batch), batch.active_set)

    field = torch.zeros(2, 3, 6)
    field[0, :, :3] = 1  # sites 0, 1 and 2: two windows, one of them half empty
    down, up = count_layers(UpAndDown(), SparseBatch.from_dense(field))
    assert (down.sites, down.sparse_macs) == (2, (3 + 1) * 12)
    assert (up.sites, up.sparse_macs) == (3, 3 * 20)
    assert up.dense_macs == 2 * 3 * 2 * 20
