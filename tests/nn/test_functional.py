"""Convolution and pooling equal their dense definitions, in values and in every gradient."""

import pytest
import torch

from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional
from spcnn_lightning.reference import dense

FIELDS = {1: (11,), 2: (9, 7), 3: (5, 4, 6), 4: (4, 3, 5, 3)}
KINDS = ["empty", "one", "full", "mixed"]  # "mixed" holds sparse samples and borders
POOLS = [
    ConvGeometry((2,), 2),
    ConvGeometry((3,), 2, 1),
    ConvGeometry((2, 2), 2),
    ConvGeometry((3, 3), 2),  # windows overlap
    ConvGeometry((3, 2), (1, 3), ((1, 2), (0, 1))),
    ConvGeometry((2, 2), 3),  # sites that no window sees
    ConvGeometry((2, 3), 1, 0, (3, 2)),
    ConvGeometry((3, 3), 3, 2),  # windows with one slot in the field
    ConvGeometry((2, 2), 1, offsets=[(0, 0), (0, 1), (1, 1)]),
    ConvGeometry((2, 2, 2), 2),
    ConvGeometry((3, 1, 2), (2, 1, 1), ((1, 0), (0, 0), (1, 1))),
    ConvGeometry((2, 1, 2, 2), (2, 1, 1, 2)),
    ConvGeometry((2, 2, 2, 2), 1, ((0, 1), (0, 0), (1, 0), (1, 1))),
]
CONVOLUTIONS = [
    *POOLS,
    ConvGeometry((3, 3)),
    ConvGeometry((2, 2)),
    ConvGeometry((1, 1)),
    ConvGeometry((9, 7)),  # one output site
    ConvGeometry((2, 3), 2, ((3, 0), (0, 5))),  # padding wider than the window
    ConvGeometry((3, 3), 2, 2, 2),
    ConvGeometry((2, 3, 2), 1, 1),
    *(ConvGeometry.submanifold(k, d) for k, d in [((3,), 2), ((3, 3), 1), ((2, 2), 1)]),
    ConvGeometry.submanifold((3, 2), (2, 3)),
    ConvGeometry.submanifold((3, 1, 2)),
    ConvGeometry.submanifold((2, 1, 3, 2)),
]


def short(geometry):
    g = geometry
    pads = "_".join(f"{low}{high}" for low, high in g.padding)
    words = [g.activity.value[:3], *map(str, (g.kernel_size, g.stride, pads, g.dilation))]
    return "-".join([*words, f"{g.num_taps}taps"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("geometry", CONVOLUTIONS, ids=short)
def test_convolution_equals_the_dense_one(geometry, kind, make_batch, densify, assert_same):
    batch = make_batch(kind, FIELDS[geometry.dimensions])
    x, mask = densify(batch)
    weight = torch.randn(geometry.num_taps, 3, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    leaves = (weight, bias, batch.features, batch.ground_state)

    out = functional.sparse_conv(batch, weight, bias, geometry)
    ground = dense.ground_after_conv(batch.ground_state, weight, bias, geometry)
    if geometry.activity.value == "submanifold":
        expected = dense.dense_submanifold_conv(
            x, weight, bias, geometry, ground_state=batch.ground_state, mask=mask
        )
    else:
        expected = dense.dense_conv(x, weight, bias, geometry, batch.ground_state)
        mask = dense.dilate_mask(mask, geometry)

    field, active = densify(out)
    assert torch.equal(active, mask)
    assert_same([field], [expected])
    assert_same([out.ground_state], [ground])
    compare_gradients((field, out.ground_state), (expected, ground), leaves, assert_same)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("geometry", POOLS, ids=short)
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_pooling_equals_the_dense_one(name, geometry, kind, make_batch, densify, assert_same):
    batch = make_batch(kind, FIELDS[geometry.dimensions])
    x, mask = densify(batch)
    out = getattr(functional, name)(batch, geometry)
    field, active = densify(out)
    expected = getattr(dense, f"dense_{name}")(x, geometry)
    assert torch.equal(active, dense.dilate_mask(mask, geometry))
    assert torch.equal(out.ground_state, batch.ground_state)
    assert_same([field], [expected])
    compare_gradients((field,), (expected,), (batch.features, batch.ground_state), assert_same)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["field_mean", "field_max"])
def test_readout_of_a_field_equals_the_dense_one(name, kind, make_batch, densify, assert_same):
    batch = make_batch(kind, (4, 5))
    sites = densify(batch)[0].flatten(2)
    expected = sites.mean(2) if name == "field_mean" else sites.amax(2)
    out = getattr(functional, name)(batch)
    assert_same([out], [expected])
    compare_gradients((out,), (expected,), (batch.features, batch.ground_state), assert_same)


def test_readout_of_one_site_puts_the_ground_state_where_a_sample_is_empty(make_batch, densify):
    batch = make_batch("sparse", (1, 1, 1), seed=3)
    assert 0 < batch.num_sites < 5
    assert torch.equal(functional.site_values(batch), densify(batch)[0].flatten(1))


def test_a_batch_of_no_samples_passes_through_every_operation(densify):
    batch = SparseBatch.from_dense(torch.zeros(0, 3, 6, 4))
    out = functional.sparse_conv(batch, torch.ones(4, 3, 2), None, ConvGeometry((2, 2)))
    out = functional.avg_pool(
        functional.max_pool(out, ConvGeometry((3, 2), 2)), ConvGeometry((2, 1))
    )
    assert out.to_dense().shape == (0, 2, 1, 1)
    assert functional.site_values(out).shape == (0, 2)


def test_the_order_of_rows_has_no_meaning(make_batch, assert_same):
    batch = make_batch("mixed", (9, 7))
    order = torch.randperm(batch.num_sites)
    shuffled = SparseBatch(
        type(batch.active_set)(batch.coords[order], (9, 7), 5),
        batch.features[order],
        batch.ground_state,
    )
    weight, geometry = torch.randn(6, 3, 4, dtype=torch.float64), ConvGeometry((3, 2), 1, 1)
    fields = []
    for same_field in (batch, shuffled):
        out = functional.sparse_conv(same_field, weight, None, geometry)
        fields.append(functional.max_pool(out, ConvGeometry((2, 2), 2)).to_dense())
    assert_same(fields[:1], fields[1:])


def compare_gradients(actual, expected, leaves, assert_same):
    """Compare gradients of a random function of all results, features and ground state as one.

    Where every site is active the exact gradient of the ground state is zero, and rounding has
    no scale of its own.
    """
    generator = torch.Generator().manual_seed(7)
    seeds = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in expected]
    grads = [
        torch.autograd.grad(results, leaves, seeds, allow_unused=True, materialize_grads=True)
        for results in (actual, expected)
    ]
    for number in range(len(leaves) - 2):
        assert_same([grads[0][number]], [grads[1][number]])
    assert_same(grads[0][-2:], grads[1][-2:])
