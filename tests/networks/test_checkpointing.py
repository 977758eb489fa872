"""Levels that are computed again in the backward pass: the same results from less memory."""

import copy

import pytest
import torch
from torch import nn

from spcnn_lightning import DeepCNet, DeepCNiN, SparseBatch
from spcnn_lightning.core import kernel_map as kernel_maps
from spcnn_lightning.networks.sparse_network import SparseNetwork
from spcnn_lightning.nn import Activation, BatchNorm, MaxPool, NetworkInNetwork, SparseConv
from spcnn_lightning.reference.twin import dense_twin


class Noisy(nn.Module):
    """Draws numbers in its forward."""

    def forward(self, rows):
        return rows * torch.rand_like(rows)


def others():
    """Several convolutions a level, a stride in place of a pooling, statistics, random numbers."""
    layers = [
        *[SparseConv(2, 4, (2, 2)), BatchNorm(4), SparseConv(4, 5, (2, 2), 2), BatchNorm(5)],
        *[Activation(nn.ReLU()), NetworkInNetwork(5, 6), MaxPool((2, 2)), Activation(Noisy())],
        *[SparseConv(6, 3, (2, 2)), BatchNorm(3, statistics="all")],
    ]
    return SparseNetwork(layers, 3, 4, 2, (12, 12), "mean")


NETWORKS = {
    "DeepCNet": lambda: DeepCNet(2, 6, 2, 4, dropout=0.5),
    "DeepCNiN": lambda: DeepCNiN(2, 6, 2, 4),
    "others": others,
}


def train(network, make_input, together):
    """Return what two passes leave behind; with ``together`` both forwards come first."""
    torch.manual_seed(5)
    data = [make_input(kind, (12, 12), 2, seed=3) for kind in ("mixed", "batch of one")]
    losses = []
    for one in data:
        losses.append(network(one.sparse()).square().sum())
        if not together:
            losses[-1].backward()
    if together:
        sum(losses).backward()
    gradients = [t.grad for one in data for t in (one.values, one.ground)]
    gradients += [parameter.grad for parameter in network.parameters()]
    steps = [float(getattr(layer, "step", 0)) for layer in network.layers]
    return [*losses, *gradients, *network.buffers(), torch.tensor(steps)]


@pytest.mark.parametrize("together", [False, True], ids=["in turns", "together"])
@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_the_same_to_the_bit(name, together, make_input):
    network = NETWORKS[name]().double()
    found = []
    for network.checkpoint_levels in (False, True):
        found.append(train(copy.deepcopy(network), make_input, together))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_masks_are_repeated_where_dropped_features_are_computed(make_input):
    network = DeepCNet(2, 6, 2, 4, dropout=0.5).double()
    network.compute_dropped = True
    found = []
    for network.checkpoint_levels in (False, True):
        found.append(train(copy.deepcopy(network), make_input, together=False))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_levels_begin_with_the_first_weights_behind_a_stride():
    runs = {}
    for name in ("DeepCNiN", "others"):
        network = NETWORKS[name]().double()
        runs[name] = count_forwards(network)
    # conv pool act | nin act conv pool act | nin act conv act nin act, the last but once
    assert runs["DeepCNiN"] == [2] * 8 + [1] * 6
    # conv norm conv | norm act nin pool noise | conv norm
    assert runs["others"] == [2] * 3 + [2] * 5 + [1] * 2


def count_forwards(network):
    network.checkpoint_levels = True
    counts = [0] * len(network.layers)

    def count(number):
        counts[number] += 1

    for number, layer in enumerate(network.layers):
        layer.register_forward_pre_hook(lambda *_, number=number: count(number))
    network(input_of(network)).sum().backward()
    return counts


def input_of(network):
    field = torch.randn(2, network.in_channels, *network.spatial_shape).double()
    return SparseBatch.from_dense(field)


def test_less_is_kept():
    kept = []
    for checkpointed in (False, True):
        network = DeepCNiN(3, 8, 2, 4, checkpoint_levels=checkpointed).double()
        batch, own = input_of(network), {p.data_ptr() for p in network.parameters()}
        numbers = []

        def count(tensor, numbers=numbers, own=own):
            numbers.append(tensor.numel() * (tensor.data_ptr() not in own))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(batch)
        kept.append(sum(numbers))
    assert 2 * kept[1] < kept[0]


def test_kernel_maps_are_built_once(monkeypatch):
    built = []
    build = kernel_maps.build_kernel_map
    monkeypatch.setattr(
        kernel_maps, "build_kernel_map", lambda *args: built.append(args[1]) or build(*args)
    )
    network = DeepCNet(2, 3, 2, 4, checkpoint_levels=True).double()
    network(input_of(network)).sum().backward()
    assert len(built) == 5  # three convolutions and two poolings


def test_evaluation_and_the_dense_twin_compute_nothing_twice():
    network = DeepCNet(2, 3, 2, 4, dropout=0.5, checkpoint_levels=True).double()
    calls = []
    network.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        network(input_of(network))
    assert len(calls) == 1
    twin = dense_twin(network)
    twin(input_of(network).to_dense()).sum().backward()
    assert [m.step for m in twin.layers if hasattr(m, "step")] == [2, 2]
