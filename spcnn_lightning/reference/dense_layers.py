"""Dense forms of the layers: the forward of each on a DenseField, with the layer's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spcnn_lightning.core.geometry import Activity
from spcnn_lightning.nn import (
    Activation,
    AvgPool,
    BatchNorm,
    FeatureDropout,
    InverseConv,
    MaxPool,
    NetworkInNetwork,
    PinGround,
    Readout,
    SparseConv,
)
from spcnn_lightning.reference import dense
from spcnn_lightning.reference.dense_field import DenseField, DenseSites

DenseForm = Callable[..., Any]
"""The forward of a layer on a `DenseField`; the first argument is the layer.

What else the layer's forward takes follows; active sets are `DenseSites` there."""


def needs_mask(layer: nn.Module) -> bool:
    """Return whether a layer's result depends on which sites are active, in its present mode."""
    if isinstance(layer, InverseConv):
        return True
    if isinstance(layer, SparseConv):
        return layer.geometry.activity is Activity.SUBMANIFOLD
    if isinstance(layer, BatchNorm):
        return layer.training and layer.statistics == "active"
    return isinstance(layer, PinGround)


def _conv(layer: SparseConv, field: DenseField) -> DenseField:
    x, ground, mask, geometry = field.values, field.ground_state, field.mask, layer.geometry
    new_ground = dense.ground_after_conv(ground, layer.weight, layer.bias, geometry)
    if geometry.activity is Activity.SUBMANIFOLD:
        assert mask is not None  # DenseTwin.run has asked for it
        out = dense.dense_submanifold_conv(
            x, layer.weight, layer.bias, geometry, ground_state=ground, mask=mask
        )
        return DenseField(out, new_ground, mask)
    out = dense.dense_conv(x, layer.weight, layer.bias, geometry, ground)
    return DenseField(out, new_ground, None if mask is None else dense.dilate_mask(mask, geometry))


def _inverse_conv(layer: InverseConv, field: DenseField, fine: DenseSites) -> DenseField:
    expected = layer.geometry.output_shape(fine.spatial_shape)
    if expected != field.spatial_shape:
        raise ValueError(
            f"{layer} leads from {fine.spatial_shape} to {expected}, but the field is "
            f"{field.spatial_shape}: pass the sites and the geometry of the convolution or pooling "
            "that made it"
        )
    assert fine.mask is not None  # DenseTwin.run has asked for it
    ground = field.ground_state
    out = dense.dense_inverse_conv(
        field.values, layer.weight, layer.bias, layer.geometry, ground_state=ground, mask=fine.mask
    )
    new_ground = ground.new_zeros(layer.out_channels) if layer.bias is None else layer.bias
    return DenseField(out, new_ground, fine.mask)


def _network_in_network(layer: NetworkInNetwork, field: DenseField) -> DenseField:
    def apply(rows: Tensor) -> Tensor:
        return nn.functional.linear(rows, layer.weight.T, layer.bias)

    values = apply(field.values.movedim(1, -1)).movedim(-1, 1)
    return DenseField(values, apply(field.ground_state), field.mask)


def _activation(layer: Activation, field: DenseField) -> DenseField:
    return DenseField(layer.function(field.values), layer.function(field.ground_state), field.mask)


def _dropout(layer: FeatureDropout, field: DenseField) -> DenseField:
    if not layer.training or layer.p == 0:
        return field
    factors = layer.mask(field.num_channels).to(field.values)
    layer.step += 1
    values = (field.values.movedim(1, -1) * factors).movedim(-1, 1)
    return DenseField(values, field.ground_state * factors, field.mask)


def _max_pool(layer: MaxPool, field: DenseField) -> DenseField:
    mask = None if field.mask is None else dense.dilate_mask(field.mask, layer.geometry)
    return DenseField(dense.dense_max_pool(field.values, layer.geometry), field.ground_state, mask)


def _avg_pool(layer: AvgPool, field: DenseField) -> DenseField:
    mask = None if field.mask is None else dense.dilate_mask(field.mask, layer.geometry)
    return DenseField(dense.dense_avg_pool(field.values, layer.geometry), field.ground_state, mask)


def _batch_norm(layer: BatchNorm, field: DenseField) -> DenseField:
    mean, var = layer.running_mean, layer.running_var
    if layer.training:
        mask = field.mask if layer.statistics == "active" else None
        batch_mean, batch_var, count = dense.site_statistics(field.values, mask)
        if count > 0:
            mean, var = batch_mean, batch_var
            with torch.no_grad():
                layer.running_mean.lerp_(mean, layer.momentum)
                if count > 1:
                    layer.running_var.lerp_(var * count / (count - 1), layer.momentum)

    def normalise(x: Tensor) -> Tensor:
        return dense.dense_batch_norm(
            x, layer.weight, layer.bias, mean=mean, var=var, eps=layer.eps
        )

    ground = normalise(field.ground_state[None])[0]
    return DenseField(normalise(field.values), ground, field.mask)


def _pin_ground(layer: PinGround, field: DenseField) -> DenseField:
    assert field.mask is not None  # DenseTwin.run has asked for it
    values = torch.where(field.mask[:, None], field.values, 0)
    return DenseField(values, torch.zeros_like(field.ground_state), field.mask)


def _readout(layer: Readout, field: DenseField) -> Tensor:
    sites = field.values.flatten(2)
    if layer.mode == "mean":
        return sites.mean(2)
    if layer.mode == "max":
        return sites.amax(2)
    if sites.shape[2] != 1:
        raise ValueError(
            f"the field still has shape {field.spatial_shape}, and one site per sample is to be "
            "read: add levels, take a smaller field, or readout='mean' or 'max'"
        )
    return sites[:, :, 0]


DENSE_FORMS: dict[type[nn.Module], DenseForm] = {
    SparseConv: _conv,
    InverseConv: _inverse_conv,
    NetworkInNetwork: _network_in_network,
    Activation: _activation,
    FeatureDropout: _dropout,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    BatchNorm: _batch_norm,
    PinGround: _pin_ground,
    Readout: _readout,
}
