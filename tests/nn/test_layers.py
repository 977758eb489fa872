"""What the layers say to bad input, and what they do with other dtypes."""

import pytest
import torch
from torch import nn

from spcnn_lightning.core.errors import BackendNotFoundError
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import (
    Activation,
    AvgPool,
    BatchNorm,
    MaxPool,
    NetworkInNetwork,
    Readout,
    SparseConv,
    SubmanifoldConv,
)


@pytest.fixture
def batch():
    return SparseBatch.from_dense(torch.ones(2, 3, 6, 5))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        SparseConv(3, 8, (3, 2), padding=1),
        Activation(nn.LeakyReLU(1 / 3)),
        MaxPool((2, 2)),
        NetworkInNetwork(8, 8),
        BatchNorm(8),
        SubmanifoldConv(8, 8, (3, 3)),
        AvgPool((2, 2)),
        Readout("mean"),
        nn.Linear(8, 4),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_come_near_to_float32(dtype, make_batch):
    batch = make_batch("mixed", (9, 8), dtype=torch.float32)
    layers = network().eval()
    expected = layers(batch)
    out = layers.to(dtype)(batch.to(dtype))
    assert out.dtype == dtype
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.03 * scale)
    out.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layers.parameters())


def test_autocast_comes_near_to_float32_and_trains(make_batch):
    batch = make_batch("mixed", (9, 8), dtype=torch.float32)
    layers = network().eval()
    expected = layers(batch)
    expected.square().sum().backward()
    grads = [p.grad.clone() for p in layers.parameters()]
    layers.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = layers(batch)
    assert layers[0](batch).dtype == torch.float32
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.03 * scale)
    out.float().square().sum().backward()
    for parameter, expected_grad in zip(layers.parameters(), grads, strict=True):
        assert parameter.grad.dtype == torch.float32
        scale = float(expected_grad.abs().max())
        # Loose: rounding moves a few winners of the pooling.
        torch.testing.assert_close(parameter.grad, expected_grad, rtol=0, atol=0.2 * scale)


def test_a_batch_seen_in_inference_mode_can_be_trained_on(make_batch):
    batch, layers = make_batch("mixed", (9, 8), dtype=torch.float32), network().eval()
    with torch.inference_mode():
        seen = layers(batch)
    out = layers(batch)
    assert torch.equal(out, seen)
    out.square().sum().backward()
    assert all(p.grad is not None for p in layers.parameters())
    assert batch.features.grad is not None


def test_rounding_keeps_inactive_looking_sites_on_the_ground_state():
    """Features equal to the ground state stay so, in any dtype: both are rounded alike."""
    ground = torch.tensor([0.1, -1 / 3, 7.7])
    field = ground.view(1, 3, 1, 1).expand(1, 3, 6, 5)
    mask = torch.ones(1, 6, 5, dtype=torch.bool)
    mask[0, 0, 0] = False  # full fields have no use for a ground state
    batch = SparseBatch.from_dense(field, ground, mask)
    conv = SparseConv(3, 4, (2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(batch)
    assert torch.equal(out.features, out.ground_state.expand_as(out.features))


def test_mixed_dtypes_are_refused(batch):
    for layer in (SparseConv(3, 4, (2, 2)), NetworkInNetwork(3, 4)):
        with pytest.raises(TypeError, match=r"batch is torch.float64 and the weights.*batch\.to\("):
            layer(batch.to(torch.float64))


def test_a_wrong_number_of_channels_is_refused(batch):
    with pytest.raises(ValueError, match=r"weight has shape \(4, 2, 7\), expected \(4, 3, C_out\)"):
        SparseConv(2, 7, (2, 2))(batch)
    with pytest.raises(ValueError, match="the batch has 3 channels"):
        NetworkInNetwork(2, 7)(batch)


def test_a_kernel_larger_than_the_field_is_refused(batch):
    with pytest.raises(ValueError, match=r"kernel_size \(7, 2\).*does not fit.*\(6, 5\).*smaller"):
        SparseConv(3, 4, (7, 2))(batch)


def test_a_kernel_of_another_dimension_is_refused(batch):
    with pytest.raises(
        ValueError, match=r"3 dimensions.*cannot move over a field of shape \(6, 5\)"
    ):
        SparseConv(3, 4, (2, 2, 2))(batch)


def test_an_unknown_backend_is_refused_with_the_known_names(batch):
    with pytest.raises(BackendNotFoundError, match=r"no backend 'nonesuch'; known: auto, torch"):
        SparseConv(3, 4, (2, 2), backend="nonesuch")(batch)


def test_the_readout_of_one_site_refuses_a_larger_field(batch):
    with pytest.raises(ValueError, match=r"still has shape \(6, 5\).*readout='mean' or 'max'"):
        Readout()(batch)
    with pytest.raises(ValueError, match="readout is 'sum', expected one of site, mean, max"):
        Readout("sum")


def test_a_window_given_as_data_takes_the_place_of_the_arguments(batch):
    geometry = ConvGeometry((2, 2), offsets=[(0, 0), (1, 1)])
    conv = SparseConv(3, 4, geometry=geometry)
    assert conv.weight.shape == (2, 3, 4)
    assert conv(batch).spatial_shape == (5, 4)


def test_the_parameters_are_all_that_is_saved():
    assert set(SparseConv(3, 4, (2, 2), backend="torch").state_dict()) == {"weight", "bias"}
    assert set(SparseConv(3, 4, (2, 2), bias=False).state_dict()) == {"weight"}


def test_the_layers_say_what_they_are():
    text = repr(network())
    for part in ("3, 8, kernel_size=(3, 2)", "activity=submanifold", "8, 8, bias=True", "'mean'"):
        assert part in text
