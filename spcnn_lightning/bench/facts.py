"""What the layers do with a batch: sites and multiply-adds, whichever engine runs them."""

from __future__ import annotations

import copy

import torch
from torch import nn

from spcnn_lightning.bench.contender import stages_of
from spcnn_lightning.bench.results import LayerFacts
from spcnn_lightning.bench.values import Value
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import SparseConv


def layer_facts(network: nn.Module, batch: SparseBatch) -> tuple[LayerFacts, ...]:
    """Return the facts of each stage of a network, from one run of the torch backend."""
    # Its package imports Lightning, which a process that measures memory does without.
    from spcnn_lightning.modules.counting import count_layers

    own = copy.deepcopy(network).eval()
    for layer in own.modules():
        if isinstance(layer, SparseConv):
            layer.backend = "torch"
    counts = count_layers(own, batch)
    facts = []
    value: Value = batch
    with torch.no_grad():
        for path, stage in stages_of(own):
            value = stage(value)
            inside = [c for c in counts if f"{c.name}.".startswith(f"{path}.")]
            if path == "network":
                inside = counts
            sites, volume, channels, shape = _size(value)
            facts.append(
                LayerFacts(
                    path,
                    _kind(stage),
                    channels,
                    shape,
                    sites,
                    volume,
                    sum(count.sparse_macs for count in inside),
                    sum(count.dense_macs for count in inside),
                )
            )
    return tuple(facts)


def train_macs(facts: tuple[LayerFacts, ...]) -> int:
    """Return the multiply-adds of a training step: the first layer needs no input gradient."""
    with_work = [layer.macs for layer in facts if layer.macs]
    return 3 * sum(with_work) - (with_work[0] if with_work else 0)


def _size(value: Value) -> tuple[int, int, int, tuple[int, ...]]:
    """Return sites, all sites, channels and field of a layer's result."""
    if isinstance(value, SparseBatch):
        volume = value.batch_size * value.active_set.volume
        return value.num_sites, volume, value.num_channels, value.spatial_shape
    assert isinstance(value, torch.Tensor)  # the torch backend makes no dense fields
    return len(value), len(value), value.shape[1], ()


def _kind(stage: object) -> str:
    geometry = getattr(stage, "geometry", None)
    window = "" if geometry is None else " " + "x".join(map(str, geometry.kernel_size))
    return f"{type(stage).__name__}{window}"
