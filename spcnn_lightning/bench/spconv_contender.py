"""spconv's own layers as a contender: what a user of spconv would write in place of a network."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from spcnn_lightning.bench.contender import Contender, Setting, UnavailableError, stages_of
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.interop import from_spconv_tensor, to_spconv_tensor, weight_to_spconv
from spcnn_lightning.interop.libraries import import_spconv
from spcnn_lightning.nn import (
    Activation,
    FeatureDropout,
    InverseConv,
    MaxPool,
    NetworkInNetwork,
    SparseConv,
    SubmanifoldConv,
)

SPCONV_NAME = "spconv_layers"
"""spconv without this project's adapter and without a ground state: another function."""


def make_spconv_contender(network: nn.Module, batch: SparseBatch, setting: Setting) -> Contender:
    """Return spconv's form of ``network``, with the same weights; dropout is left out.

    It holds inactive sites at zero, whatever a bias says, and its pooling takes the maximum with
    zero, so its results are not the network's.

    Raises:
        UnavailableError: If spconv cannot be imported, or a layer has no form in it.
    """
    try:
        plain = SpconvLayers(network, setting.device)
    except (BackendUnsupportedError, TypeError) as error:
        raise UnavailableError(SPCONV_NAME, [str(error)]) from error
    plain.to(setting.device, setting.dtype).train(setting.training)
    ready = batch.to(setting.device, setting.dtype)
    path = stages_of(network)[-1][0]
    version = getattr(import_spconv(), "__version__", "")
    return Contender(
        SPCONV_NAME,
        f"spconv {version} layers, no ground state".replace("  ", " "),
        plain,
        [(path, plain)],
        plain,
        lambda: to_spconv_tensor(ready),
        setting,
        [],
    )


class SpconvLayers(nn.Module):
    """The layers of a network in spconv's form.

    Biases are added outside of the layers, which refuse them on CPUs in evaluation mode.

    Args:
        network: Convolutions without padding, maximum pooling, networks in networks, activations
            and dropout, a readout of one site and a classifier; or one layer.
        device: On CPUs only the algorithm Native runs.

    Raises:
        TypeError: If a layer is none of these.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        library = import_spconv()
        self.options = {"algo": library.ConvAlgo.Native} if device.type == "cpu" else {}
        rows = [stage for _, stage in stages_of(network)]
        self.classifier = copy.deepcopy(getattr(network, "classifier", None))
        layers = rows[:-2] if self.classifier is not None else rows
        self.layers = nn.ModuleList(self._form(library, cast(nn.Module, layer)) for layer in layers)

    def forward(self, tensor: Any) -> SparseBatch | Tensor:
        """Take a SparseConvTensor, return scores (B, num_classes), or the batch of a layer."""
        for layer in self.layers:
            if type(layer).__module__.startswith("torch."):
                tensor = tensor.replace_feature(layer(tensor.features))
            else:
                tensor = layer(tensor)
                if (bias := getattr(layer, "outer_bias", None)) is not None:
                    tensor = tensor.replace_feature(tensor.features + bias)
        if self.classifier is None:
            return from_spconv_tensor(tensor)
        rows = tensor.features
        values = rows.new_zeros(tensor.batch_size, rows.shape[1])  # the one site of each sample
        scores: Tensor = self.classifier(values.index_copy(0, tensor.indices[:, 0].long(), rows))
        return scores

    def _form(self, library: Any, layer: nn.Module) -> nn.Module:
        if isinstance(layer, SparseConv) and not isinstance(layer, InverseConv):
            return self._convolution(library, layer)
        if isinstance(layer, MaxPool) and not any(map(any, layer.geometry.padding)):
            size, stride = list(layer.geometry.kernel_size), list(layer.geometry.stride)
            pool = getattr(library, f"SparseMaxPool{len(size)}d")
            return cast(nn.Module, pool(size, stride, **self.options))
        if isinstance(layer, NetworkInNetwork):
            linear = nn.Linear(layer.in_channels, layer.out_channels, layer.bias is not None)
            linear.weight.data.copy_(layer.weight.detach().T)
            if layer.bias is not None:
                linear.bias.data.copy_(layer.bias.detach())
            return linear
        if isinstance(layer, Activation):
            return copy.deepcopy(layer.function)
        if isinstance(layer, FeatureDropout):
            return nn.Identity()
        raise TypeError(f"{type(layer).__name__} has no form in spconv's layers here")

    def _convolution(self, library: Any, layer: SparseConv) -> nn.Module:
        geometry, submanifold = layer.geometry, isinstance(layer, SubmanifoldConv)
        if any(map(any, geometry.padding)) and not submanifold:
            raise TypeError("a padded SparseConv has no form in spconv's layers here")
        size = list(geometry.kernel_size)
        kind = getattr(library, f"{'SubMConv' if submanifold else 'SparseConv'}{len(size)}d")
        stride = 1 if submanifold else list(geometry.stride)
        conv = kind(
            layer.in_channels,
            layer.out_channels,
            size,
            stride,
            dilation=list(geometry.dilation),
            bias=False,
            **self.options,
        )
        weight = weight_to_spconv(layer.weight.detach(), geometry.kernel_size, geometry.stride)
        conv.weight.data.copy_(weight)
        if layer.bias is not None:
            conv.outer_bias = nn.Parameter(layer.bias.detach().clone())
        return cast(nn.Module, conv)
