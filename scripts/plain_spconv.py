"""A network of spconv's own layers with the shape of one of ours, for comparisons of speed."""

from __future__ import annotations

import copy
from typing import Any

import spconv.pytorch as spconv
import torch
from spconv.core import ConvAlgo
from torch import Tensor, nn

from spcnn_lightning import SparseBatch, SubmanifoldConv
from spcnn_lightning.interop import weight_to_spconv
from spcnn_lightning.nn import Activation, FeatureDropout, MaxPool, NetworkInNetwork, SparseConv


class PlainSpconv(nn.Module):
    """Layer by layer what a user of spconv would write: it has no ground state.

    On the CPU only the algorithm Native runs, and biases are added outside of the layers, since
    these refuse them in evaluation mode.

    Args:
        layers: Of our network: convolutions with stride 1 and without padding, maximum pooling,
            networks in networks and activations.
        classifier: For the one site that is left of each sample; None returns the rows.
    """

    def __init__(self, layers: nn.ModuleList, classifier: nn.Linear | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_plain(layer) for layer in layers)
        self.classifier = classifier

    def forward(self, tensor: Any) -> Tensor:
        """Take a SparseConvTensor, return scores (B, num_classes), or rows (N, C)."""
        for layer in self.layers:
            if type(layer).__module__.startswith("torch."):
                tensor = tensor.replace_feature(layer(tensor.features))
            else:
                tensor = layer(tensor)
                if (bias := getattr(layer, "outer_bias", None)) is not None:
                    tensor = tensor.replace_feature(tensor.features + bias)
        rows: Tensor = tensor.features
        if self.classifier is None:
            return rows
        scores: Tensor = self.classifier(tensor.dense().flatten(1))
        return scores


def spconv_tensor(batch: SparseBatch) -> Any:
    """Return the sites and features of a batch for spconv, with nothing built yet."""
    shape = list(batch.spatial_shape)
    return spconv.SparseConvTensor(batch.features, batch.coords, shape, batch.batch_size)


def _plain(layer: nn.Module) -> nn.Module:
    if isinstance(layer, SparseConv):
        return _convolution(layer)
    if isinstance(layer, MaxPool):
        axes, size = len(layer.geometry.kernel_size), layer.geometry.kernel_size
        kind = getattr(spconv, f"SparseMaxPool{axes}d")
        pool: nn.Module = kind(list(size), list(layer.geometry.stride), algo=ConvAlgo.Native)
        return pool
    if isinstance(layer, NetworkInNetwork):
        linear = nn.Linear(layer.in_channels, layer.out_channels)
        linear.weight.data.copy_(layer.weight.detach().T)
        return linear
    if isinstance(layer, Activation):
        return copy.deepcopy(layer.function)
    if isinstance(layer, FeatureDropout):
        return nn.Identity()
    raise TypeError(f"{type(layer).__name__} has no form in spconv here")


def _convolution(layer: SparseConv) -> nn.Module:
    geometry = layer.geometry
    axes, size = len(geometry.kernel_size), list(geometry.kernel_size)
    name = "SubMConv" if isinstance(layer, SubmanifoldConv) else "SparseConv"
    kind = getattr(spconv, f"{name}{axes}d")
    conv: nn.Module = kind(
        layer.in_channels, layer.out_channels, size, bias=False, algo=ConvAlgo.Native
    )
    with torch.no_grad():
        conv.weight.copy_(weight_to_spconv(layer.weight.detach(), geometry.kernel_size))
    if layer.bias is not None:
        conv.outer_bias = nn.Parameter(layer.bias.detach().clone())
    return conv
