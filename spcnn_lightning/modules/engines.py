"""Which engine does the arithmetic of a network, in words for printed results."""

from collections import Counter

import torch
from torch import nn

from spcnn_lightning.adapters import resolve_backend
from spcnn_lightning.core.backend import OpRequest
from spcnn_lightning.nn import InverseConv, SparseConv


def describe_engines(network: nn.Module) -> str:
    """Return the engines of the convolutions and what was asked for: "torch (auto)", say.

    Call it where the network runs: autocast may decide between engines.

    Raises:
        BackendUnsupportedError: If a layer asks for an engine that cannot run it.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, SparseConv)]
    counts = Counter(_engine(layer) for layer in layers)
    if len(counts) < 2:
        return next(iter(counts), "none, there are no sparse convolutions")
    return ", ".join(f"{engine} in {count} layers" for engine, count in counts.items())


def _engine(layer: SparseConv) -> str:
    device, dtype = layer.weight.device.type, layer.weight.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    transposed = isinstance(layer, InverseConv)
    request = OpRequest(layer.geometry, device, dtype, transposed=transposed)
    name = resolve_backend(layer.backend, request).name
    return f"{name} (auto)" if layer.backend == "auto" else name
