"""A network as plain torch.nn modules, for ONNX and other runtimes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.networks import SparseNetwork
from spcnn_lightning.nn import (
    Activation,
    AvgPool,
    BatchNorm,
    FeatureDropout,
    MaxPool,
    NetworkInNetwork,
    Readout,
    SparseConv,
)
from spcnn_lightning.reference import dense

NamedModule = tuple[str, nn.Module]

_TORCH: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "pad": (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    "max": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "avg": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    "norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    "mean": (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    "maximum": (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
}


class ExportError(SpcnnError):
    """A layer that plain torch.nn modules cannot express; the message names it."""


def export_dense(network: SparseNetwork) -> nn.Sequential:
    """Return the network in evaluation mode as plain torch.nn modules with copied weights.

    The result takes the dense field (B, C, *spatial_shape) whose inactive sites are zero and
    returns logits (B, num_classes). It knows nothing of this package: trace it, export it to ONNX,
    pickle it. Dropout is left out. A convolution with padding is preceded by a 1x1 convolution
    that subtracts the ground state, because plain modules pad with zeros.

    Raises:
        ExportError: For a layer without plain form: more than three dimensions, submanifold
            convolution, average pooling with uneven padding, modules that are not ours.
    """
    if type(network).forward is not SparseNetwork.forward or (
        type(network).forward_features is not SparseNetwork.forward_features
    ):
        raise ExportError(
            f"{type(network).__name__} is not a SparseNetwork with its own layers in a row: "
            "export_dense reads only these; use dense_twin for other modules"
        )
    dimensions = len(network.spatial_shape)
    if dimensions > dense.TORCH_DIMENSIONS:
        raise ExportError(
            f"the network has {dimensions} dimensions and torch.nn has convolutions of up to "
            f"{dense.TORCH_DIMENSIONS}: use dense_twin(network)"
        )
    reference = network.classifier.weight
    export = _Export(dimensions, reference.new_zeros(network.in_channels))
    with torch.no_grad():
        for number, layer in enumerate(network.layers):
            export.add(f"layer{number}", layer)
        export.add("readout", network.readout)
        export.modules["classifier"] = copy.deepcopy(network.classifier)
    result = nn.Sequential()
    for name, module in export.modules.items():
        result.add_module(name, module)
    return result.eval()


class _Export:
    """The plain modules so far, and the ground state behind them."""

    def __init__(self, dimensions: int, ground: Tensor) -> None:
        self.dimensions, self.ground = dimensions, ground
        self.modules: dict[str, nn.Module] = {}

    def add(self, name: str, layer: nn.Module) -> None:
        """Append the plain form of a layer and carry the ground state through it."""
        for kind, plain in self._plain_modules(name, layer):
            self.modules[f"{name}_{kind}"] = plain

    def _plain_modules(self, name: str, layer: nn.Module) -> Iterator[NamedModule]:
        for cls, plain in _PLAIN.items():
            if isinstance(layer, cls) and type(layer).forward is cls.forward:
                return plain(self, name, layer)
        raise ExportError(f"{name} is a {type(layer).__name__}, which has no plain torch.nn form")

    def _new(self, kind: str, *args: Any, **kwargs: Any) -> Any:
        return _TORCH[kind][self.dimensions - 1](*args, **kwargs)

    def _filled_conv(
        self, kernel: Tensor, bias: Tensor | None, groups: int = 1, **kwargs: Any
    ) -> Any:
        c_out, c_in, *size = kernel.shape
        conv = self._new(
            "conv", c_in * groups, c_out, size, groups=groups, bias=bias is not None, **kwargs
        ).to(kernel)
        conv.weight.copy_(kernel)
        if bias is not None:
            conv.bias.copy_(bias)
        return conv

    def _conv(self, name: str, layer: SparseConv) -> Iterator[NamedModule]:
        geometry = layer.geometry
        bias: Tensor | None = layer.bias
        if geometry.activity is Activity.SUBMANIFOLD:
            raise ExportError(
                f"{name} is a submanifold convolution: its result depends on which sites are "
                "active, and plain modules do not know; use dense_twin(network) with a mask"
            )
        new_ground = dense.ground_after_conv(self.ground, layer.weight, bias, geometry)
        if any(low or high for low, high in geometry.padding):
            channels = len(self.ground)
            if bool(self.ground.any()):
                identity = self.ground.new_ones(channels, 1, *[1] * self.dimensions)
                yield "minus_ground", self._filled_conv(identity, -self.ground, channels)
                bias = new_ground
            yield "padding", self._new("pad", _pads(geometry), 0.0)
        kernel = dense.full_kernel(layer.weight, geometry)
        yield (
            "conv",
            self._filled_conv(kernel, bias, stride=geometry.stride, dilation=geometry.dilation),
        )
        self.ground = new_ground

    def _network_in_network(self, name: str, layer: NetworkInNetwork) -> Iterator[NamedModule]:
        kernel = layer.weight.T.reshape(*layer.weight.T.shape, *[1] * self.dimensions)
        yield "conv", self._filled_conv(kernel, layer.bias)
        self.ground = nn.functional.linear(self.ground, layer.weight.T, layer.bias)

    def _activation(self, name: str, layer: Activation) -> Iterator[NamedModule]:
        yield "activation", copy.deepcopy(layer.function)
        self.ground = layer.function(self.ground[None].clone())[0]

    def _max_pool(self, name: str, layer: MaxPool) -> Iterator[NamedModule]:
        geometry = layer.geometry
        if any(low or high for low, high in geometry.padding):
            yield "padding", self._new("pad", _pads(geometry), -torch.inf)
        yield "pool", self._new("max", geometry.kernel_size, geometry.stride)

    def _avg_pool(self, name: str, layer: AvgPool) -> Iterator[NamedModule]:
        geometry = layer.geometry
        uneven = any(
            low != high or 2 * low > k
            for (low, high), k in zip(geometry.padding, geometry.kernel_size, strict=True)
        )
        if uneven:
            raise ExportError(
                f"{name} is average pooling with padding {geometry.padding}; torch.nn pads both "
                "sides alike, by half a window at most: change it or use dense_twin(network)"
            )
        low = tuple(pair[0] for pair in geometry.padding)
        yield (
            "pool",
            self._new("avg", geometry.kernel_size, geometry.stride, low, count_include_pad=False),
        )

    def _batch_norm(self, name: str, layer: BatchNorm) -> Iterator[NamedModule]:
        norm = self._new("norm", layer.num_features, layer.eps, layer.momentum).to(layer.weight)
        norm.load_state_dict(layer.state_dict(), strict=False)
        yield "norm", norm.eval()
        self.ground = norm(self.ground.view(1, -1, *[1] * self.dimensions)).flatten()

    def _dropout(self, name: str, layer: FeatureDropout) -> Iterator[NamedModule]:
        yield from ()  # the identity in evaluation

    def _readout(self, name: str, layer: Readout) -> Iterator[NamedModule]:
        if layer.mode != "site":
            yield layer.mode, self._new("mean" if layer.mode == "mean" else "maximum", 1)
        yield "flatten", nn.Flatten()


def _pads(geometry: ConvGeometry) -> tuple[int, ...]:
    """Return the padding as torch wants it: the last axis first."""
    return tuple(pad for pair in reversed(geometry.padding) for pad in pair)


_PLAIN: dict[type[nn.Module], Callable[[_Export, str, Any], Iterator[NamedModule]]] = {
    SparseConv: _Export._conv,
    NetworkInNetwork: _Export._network_in_network,
    Activation: _Export._activation,
    FeatureDropout: _Export._dropout,
    MaxPool: _Export._max_pool,
    AvgPool: _Export._avg_pool,
    BatchNorm: _Export._batch_norm,
    Readout: _Export._readout,
}
