"""A network of plain spconv layers, rebuilt of ours."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.interop.libraries import import_spconv
from spcnn_lightning.interop.weights import weight_from_spconv
from spcnn_lightning.nn import (
    Activation,
    BatchNorm,
    InverseConv,
    MaxPool,
    NetworkInNetwork,
    PinGround,
    SparseConv,
    SubmanifoldConv,
)

ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
    nn.Dropout,
)
"""Modules of torch that act on each number alone, without parameters of their own."""


def from_spconv(module: nn.Module, backend: str = "auto", clamp_pools: bool = False) -> nn.Module:
    """Return our form of a spconv network: same numbers, from a `SparseBatch` to a `SparseBatch`.

    Known are ``SparseSequential`` and ``nn.Sequential``, nested at will, of ``SparseConv*d``,
    ``SubMConv*d``, ``SparseInverseConv*d``, ``ToDense``, and on the features ``nn.BatchNorm1d``,
    ``nn.Linear``, ``nn.Identity`` and elementwise activations; after ``ToDense`` any module, as a
    copy. A single layer works too: convert the parts of a module with a forward of its own one by
    one. spconv holds inactive sites at zero, so `PinGround` follows every layer that would move
    them. Weights are copied; training mode and ``requires_grad`` are kept.

    Args:
        module: Needs spconv 2.2 or later. It is not changed.
        backend: Engine of the convolutions.
        clamp_pools: Accept ``SparseMaxPool*d``. It takes the maximum with zero as well; `MaxPool`
            and a ReLU give its values. Gradients differ where sites tie: spconv gives each the
            whole gradient.

    Returns:
        An ``nn.Sequential``, for batches whose ground state is zero; names of nested layers are
        joined by "_".

    Raises:
        TypeError: If a module is not known; the message names it and its place.
        ValueError: If a layer has a property that ours lack, a layer with weights occurs twice, or
            two joined names are the same.
        BackendUnsupportedError: If spconv cannot be imported.
    """
    walk = _Walk(import_spconv(), backend, clamp_pools)
    _refuse_shared_weights(module)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in walk.layers(module):
        if name in layers:
            raise ValueError(f"two layers would both be called {name!r} here: rename one of them")
        layers[name] = layer
    network = ReturningSequential(layers, walk.origins) if walk.origins else nn.Sequential(layers)
    network.training = module.training
    return network


class ReturningSequential(nn.Sequential):
    """Layers in a row, some of which return to the sites that an earlier one started from.

    Args:
        layers: By name, in order.
        origins: For the name of each `InverseConv`, the name of the layer whose input sites it
            returns to.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], origins: dict[str, str]) -> None:
        super().__init__(layers)
        self.origins = dict(origins)

    def forward(self, batch: Any) -> Any:
        """Return the result of the last layer."""
        wanted = set(self.origins.values())
        starts: dict[str, ActiveSet] = {}
        for name, layer in self._modules.items():
            assert layer is not None
            if name in wanted:
                starts[name] = batch.active_set
            if name in self.origins:
                batch = layer(batch, starts[self.origins[name]])
            else:
                batch = layer(batch)
        return batch


class Densify(nn.Module):
    """The field of a batch as a dense tensor, shape (B, C, *spatial_shape)."""

    def forward(self, batch: SparseBatch) -> Tensor:
        """Return `SparseBatch.to_dense`."""
        return batch.to_dense()


class _Walk:
    """Translates one network; remembers what inverse convolutions return to."""

    def __init__(self, spconv: Any, backend: str, clamp_pools: bool) -> None:
        self.spconv, self.backend, self.clamp_pools = spconv, backend, clamp_pools
        self.origins: dict[str, str] = {}
        self.keyed: dict[str, tuple[str, ConvGeometry]] = {}
        self.dense = False
        self.rules: tuple[tuple[Any, Callable[[Any, str], list[nn.Module]]], ...] = (
            (spconv.conv.SparseConvolution, self._convolution),
            (spconv.pool.SparseMaxPool, self._max_pool),
            (spconv.ToDense, self._to_dense),
            (nn.BatchNorm1d, _batch_norm),
            (nn.Linear, _linear),
            ((nn.Identity, spconv.Identity), lambda module, name: [nn.Identity()]),
            (ELEMENTWISE, _activation),
        )

    def layers(self, module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
        """Yield our layers and their names, in order."""
        if type(module) in (self.spconv.SparseSequential, nn.Sequential) and not self.dense:
            # Not named_children, which leaves out what occurs a second time.
            for child_name, child in module._modules.items():
                assert child is not None
                yield from self.layers(child, f"{name}_{child_name}" if name else child_name)
            return
        for number, layer in enumerate(self._translate(module, name or "0")):
            layer.train(module.training)
            suffix = f"_{type(layer).__name__.lower()}" if number else ""
            yield (name or "0") + suffix, layer

    def _translate(self, module: nn.Module, name: str) -> list[nn.Module]:
        """Return what stands for one module: a layer, and what keeps the ground state at zero."""
        if self.dense:
            return [copy.deepcopy(module)]
        for kind, rule in self.rules:
            if isinstance(module, kind) and _has_forward_of_library(module):
                return rule(module, name)
        raise TypeError(
            f"{name} is a {type(module).__name__}, which from_spconv does not know: it takes "
            "sequences of convolutions, BatchNorm1d, Linear and elementwise activations; convert "
            "the parts of a module with a forward of its own one by one"
        )

    def _convolution(self, conv: Any, name: str) -> list[nn.Module]:
        _check_convolution(conv, name)
        window = (tuple(conv.kernel_size), tuple(conv.stride), tuple(conv.padding))
        channels = (conv.in_channels, conv.out_channels)
        options: dict[str, Any] = {"bias": conv.bias is not None, "backend": self.backend}
        layer: SparseConv
        if conv.inverse:
            if conv.indice_key not in self.keyed:
                raise ValueError(
                    f"{name} ({type(conv).__name__}) returns along the key {conv.indice_key!r}, "
                    f"and no earlier layer has it; known: {', '.join(self.keyed) or 'none'}"
                )
            self.origins[name], geometry = self.keyed[conv.indice_key]
            layer = InverseConv(*channels, geometry=geometry, **options)
        elif conv.subm:
            layer = SubmanifoldConv(*channels, window[0], tuple(conv.dilation), **options)
        else:
            layer = SparseConv(*channels, *window, tuple(conv.dilation), **options)
            self._remember(conv, name, layer.geometry)
        weight = weight_from_spconv(conv.weight, layer.geometry.stride)
        _take(layer.weight, weight, conv.weight.requires_grad)
        if conv.bias is not None:
            _take(layer.bias, conv.bias, conv.bias.requires_grad)
        return _pinned(layer, conv.bias is not None)

    def _to_dense(self, module: nn.Module, name: str) -> list[nn.Module]:
        self.dense = True
        return [Densify()]

    def _max_pool(self, pool: Any, name: str) -> list[nn.Module]:
        if not self.clamp_pools:
            raise ValueError(
                f"{name} ({type(pool).__name__}) takes the maximum with zero as well, which is no "
                "max pooling where values are negative: set clamp_pools=True to build that"
            )
        if pool.subm or any(d != 1 for d in pool.dilation):
            raise ValueError(f"{name} ({type(pool).__name__}) is submanifold or dilated")
        layer = MaxPool(tuple(pool.kernel_size), tuple(pool.stride), tuple(pool.padding))
        self._remember(pool, name, layer.geometry)
        return [layer, Activation(nn.ReLU())]

    def _remember(self, module: Any, name: str, geometry: ConvGeometry) -> None:
        if module.indice_key is not None:
            self.keyed[module.indice_key] = (name, geometry)


def _has_forward_of_library(module: nn.Module) -> bool:
    """Whether the forward is that of torch or spconv, and not of somebody's subclass."""
    home = next(base for base in type(module).__mro__ if "forward" in vars(base))
    return home.__module__.partition(".")[0] in ("torch", "spconv")


def _refuse_shared_weights(network: nn.Module) -> None:
    seen: dict[nn.Module, str] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if module in seen and any(True for _ in module.parameters()):
            raise ValueError(
                f"{name} is {seen[module]} again ({type(module).__name__}), and the copies here "
                "would not share their weights: convert the parts one by one"
            )
        seen.setdefault(module, name)


def _pinned(layer: nn.Module, moves_ground: bool = True) -> list[nn.Module]:
    return [layer, PinGround()] if moves_ground else [layer]


def _check_convolution(conv: Any, name: str) -> None:
    reasons = []
    if conv.transposed:
        reasons.append("is a transposed convolution to new sites; ours return to known ones")
    if conv.inverse and conv.conv1x1:
        reasons.append("is an inverse of one tap, which spconv runs without going back")
    if conv.subm and any(k % 2 == 0 for k in conv.kernel_size):
        reasons.append("is submanifold with an even kernel, which spconv itself does not run")
    if conv.act_type != type(conv.act_type).None_:
        reasons.append("has a fused activation: make it a layer of its own")
    krsc = (conv.out_channels, *conv.kernel_size, conv.in_channels)
    if tuple(conv.weight.shape) != krsc:
        reasons.append(f"has a weight of shape {tuple(conv.weight.shape)}, expected KRSC {krsc}")
    if reasons:
        raise ValueError(f"{name} ({type(conv).__name__}) {'; '.join(reasons)}")


def _batch_norm(norm: nn.BatchNorm1d, name: str) -> list[nn.Module]:
    if norm.momentum is None or norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            f"{name} ({type(norm).__name__}) has momentum {norm.momentum} and running statistics "
            f"{norm.running_mean is not None}: ours need a momentum and running statistics"
        )
    layer = BatchNorm(norm.num_features, norm.eps, norm.momentum).to(norm.running_mean)
    layer.running_mean.copy_(norm.running_mean)
    layer.running_var.copy_(norm.running_var)
    for ours, theirs in ((layer.weight, norm.weight), (layer.bias, norm.bias)):
        if norm.affine:
            _take(ours, theirs, theirs.requires_grad)
        else:
            ours.requires_grad_(False)
    return _pinned(layer)


def _linear(linear: nn.Linear, name: str) -> list[nn.Module]:
    layer = NetworkInNetwork(linear.in_features, linear.out_features, linear.bias is not None)
    _take(layer.weight, linear.weight.T, linear.weight.requires_grad)
    if layer.bias is not None:
        _take(layer.bias, linear.bias, linear.bias.requires_grad)
    return _pinned(layer, layer.bias is not None)


def _activation(module: nn.Module, name: str) -> list[nn.Module]:
    function = copy.deepcopy(module)
    if "inplace" in vars(function):
        vars(function)["inplace"] = False
    return _pinned(Activation(function), bool(function(torch.zeros(1)).any()))


def _take(parameter: nn.Parameter | None, values: Tensor, requires_grad: bool) -> None:
    """Give a parameter the numbers, dtype and device of ``values``."""
    assert parameter is not None
    parameter.data = values.detach().clone(memory_format=torch.contiguous_format)
    parameter.requires_grad_(requires_grad)
