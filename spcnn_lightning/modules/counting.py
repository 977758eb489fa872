"""What a network costs on a real batch: active sites and multiply-adds of each layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks.sparse_network import without_filling
from spcnn_lightning.nn import InverseConv, NetworkInNetwork, SparseConv


@dataclass(frozen=True)
class LayerCount:
    """What one layer did with a batch of B samples; counts are sums over the batch.

    Attributes:
        name: Path of the layer in the network.
        kind: Name of its class.
        channels: Features of an output site.
        spatial_shape: Sizes of the output field, in sites; empty after the readout.
        sites: Active output sites.
        volume: All output sites, active or not.
        parameters: Trainable numbers.
        sparse_macs: Multiply-adds between active sites, and those of one ground state.
        window_macs: Multiply-adds of whole windows around active output sites, in which absent
            sites stand as the ground state: the work of the paper's program.
        dense_macs: Multiply-adds of the dense network.
        elementwise: Whether it is a map from each site to itself without parameters.
    """

    name: str
    kind: str
    channels: int
    spatial_shape: tuple[int, ...]
    sites: int
    volume: int
    parameters: int
    sparse_macs: int
    window_macs: int
    dense_macs: int
    elementwise: bool

    @property
    def active_share(self) -> float:
        """Share of the output sites that are active."""
        return self.sites / self.volume


def count_layers(network: nn.Module, batch: SparseBatch) -> list[LayerCount]:
    """Run ``network`` once on ``batch`` and count the work of each layer, in order of execution.

    The network is left as it was: it runs in evaluation mode and without gradients. Counted is the
    work for active sites, also where an engine would compute a field that is nearly full whole.

    Args:
        network: Any module built from the layers of ``spcnn_lightning.nn``.
        batch: B samples, on the device of the network.

    Returns:
        One entry per layer call.
    """
    counts: list[LayerCount] = []
    names = {module: name for name, module in network.named_modules()}

    def record(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and (isinstance(args[0], SparseBatch) or isinstance(layer, nn.Linear)):
            counts.append(_count(names[layer], layer, args[0], output))

    leaves = [module for module in network.modules() if not any(module.children())]
    handles = [leaf.register_forward_hook(record) for leaf in leaves]
    training = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), without_filling(network):
            network.eval()(batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return counts


def format_counts(counts: Sequence[LayerCount], batch_size: int) -> str:
    """Return a table with one line per layer that has parameters or moves sites, and the sum.

    Sites and multiply-adds are means per sample; MMAC are millions of multiply-adds.
    """
    head = ("layer", "type", "output", "sites", "active", "params", "sparse MMAC", "dense", "ratio")
    lines = [
        (
            count.name,
            count.kind,
            " x ".join(map(str, (count.channels, *count.spatial_shape))),
            f"{count.sites / batch_size:.1f}",
            f"{count.active_share:.1%}",
            f"{count.parameters:,}",
            *_macs(count.sparse_macs / batch_size, count.dense_macs / batch_size),
        )
        for count in counts
        if not count.elementwise
    ]
    sparse, dense = total_macs(counts)
    parameters = f"{sum(count.parameters for count in counts):,}"
    total = ("total", "", "", "", "", parameters, *_macs(sparse / batch_size, dense / batch_size))
    rows = [head, *lines, total]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    texts = ["  ".join(map(_aligned, row, widths, range(len(head)))).rstrip() for row in rows]
    rule = "-" * max(map(len, texts))
    return "\n".join([texts[0], rule, *texts[1:-1], rule, texts[-1]])


def total_macs(counts: Sequence[LayerCount]) -> tuple[int, int]:
    """Return the sparse and the dense multiply-adds of all layers."""
    sparse = sum(count.sparse_macs for count in counts)
    return sparse, sum(count.dense_macs for count in counts)


def _count(
    name: str, layer: nn.Module, given: SparseBatch | Tensor, output: SparseBatch | Tensor
) -> LayerCount:
    """Count a layer; what comes after the readout has one site per sample."""
    if isinstance(output, SparseBatch):
        shape, sites = output.spatial_shape, output.num_sites
        volume, channels = output.batch_size * output.active_set.volume, output.num_channels
    else:
        shape, sites, volume, channels = (), len(output), len(output), output.shape[1]
    sparse, windows, dense = _layer_macs(layer, given, output)
    parameters = sum(p.numel() for p in layer.parameters(recurse=False) if p.requires_grad)
    keeps_sites = (
        isinstance(given, SparseBatch)
        and isinstance(output, SparseBatch)
        and given.active_set is output.active_set
    )
    return LayerCount(
        name=name,
        kind=type(layer).__name__,
        channels=channels,
        spatial_shape=shape,
        sites=sites,
        volume=volume,
        parameters=parameters,
        sparse_macs=sparse,
        window_macs=windows,
        dense_macs=dense,
        elementwise=keeps_sites and parameters == 0,
    )


def _layer_macs(
    layer: nn.Module, given: SparseBatch | Tensor, output: SparseBatch | Tensor
) -> tuple[int, int, int]:
    """Return multiply-adds: sparse, by whole windows, dense. Only weight matrices have any."""
    if isinstance(layer, nn.Linear) and isinstance(output, Tensor):
        macs = len(output) * layer.in_features * layer.out_features
        return macs, macs, macs
    if not (isinstance(given, SparseBatch) and isinstance(output, SparseBatch)):
        return 0, 0, 0
    if isinstance(layer, NetworkInNetwork):
        taps, pairs = 1, given.num_sites
    elif isinstance(layer, InverseConv):
        # Each site of the coarse field is spread over its window in the fine one.
        taps = layer.geometry.num_taps
        pairs = kernel_map(output.active_set, layer.geometry).num_pairs
        macs = given.num_channels * output.num_channels
        field = given.batch_size * given.active_set.volume
        return pairs * macs, taps * given.num_sites * macs, taps * field * macs
    elif isinstance(layer, SparseConv):
        taps = layer.geometry.num_taps
        pairs = kernel_map(given.active_set, layer.geometry).num_pairs
    else:
        return 0, 0, 0
    per_pair = given.num_channels * output.num_channels
    sites, field = output.num_sites, output.batch_size * output.active_set.volume
    # The ground state is multiplied once with the sum of the taps; that program computed it
    # like a site, and only where some site held it.
    windows = taps * (sites + (sites < field))
    return (pairs + 1) * per_pair, windows * per_pair, taps * field * per_pair


def _macs(sparse: float, dense: float) -> tuple[str, str, str]:
    if dense == 0:
        return "", "", ""
    return f"{sparse / 1e6:.4g}", f"{dense / 1e6:.4g}", f"{dense / sparse:.1f}"


def _aligned(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column < 3 else text.rjust(width)
