"""Whole networks equal their dense twins: outputs, every gradient, every layer's ground state."""

import copy
import dataclasses

import pytest
import torch

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import DeepCNet, DeepCNiN, network_from_notation
from spcnn_lightning.nn import Activation, MaxPool, NetworkInNetwork, SparseConv, set_dropout_step
from spcnn_lightning.reference.dense_field import DenseField
from spcnn_lightning.reference.twin import dense_twin

KINDS = ["mixed", "one site", "no site", "full", "batch of one"]
LEVELS = {1: 3, 2: 3, 3: 1}


def results(network, data, *, dense):
    """Logits, and gradients of a random function of them: each parameter, then the input."""
    if dense:
        logits = dense_twin(network)(data.field, data.ground, data.mask)
    else:
        logits = network(data.sparse())
    generator = torch.Generator().manual_seed(11)
    seed = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits.dtype)
    leaves = [*network.parameters(), data.values, data.ground]
    grads = torch.autograd.grad(logits, leaves, seed, allow_unused=True, materialize_grads=True)
    return logits, grads


def compare(network, data, assert_same, tolerance=1e-10, together=False):
    twin_source = copy.deepcopy(network)
    logits, grads = results(network, data, dense=False)
    dense_logits, dense_grads = results(twin_source, data, dense=True)
    assert_same([logits], [dense_logits], tolerance)
    names = [name for name, _ in network.named_parameters()]
    groups = [(name, slice(number, number + 1)) for number, name in enumerate(names)]
    # As one tensor: in a full field the ground state has no gradient, and rounding no scale.
    groups.append(("input", slice(-2, None)))
    for name, part in [("everything", slice(None))] if together else groups:
        assert_same(grads[part], dense_grads[part], tolerance, f"gradient of {name} in {network}")
    for ours, theirs in zip(network.buffers(), twin_source.buffers(), strict=True):
        assert_same([ours], [theirs], tolerance)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(25))
def test_random_networks_in_evaluation(seed, dimensions, random_network, make_input, assert_same):
    network = random_network(seed, dimensions, dropout=True, statistics="active").eval()
    data = make_input(KINDS[seed % len(KINDS)], network.spatial_shape, 3, seed=seed)
    compare(network, data, assert_same)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(100, 112))
def test_random_networks_with_dropout_in_training(
    seed, dimensions, random_network, make_input, assert_same
):
    network = random_network(seed, dimensions, dropout=True)
    for layer in network.layers:
        layer.train(not hasattr(layer, "running_var"))
    data = make_input(KINDS[seed % len(KINDS)], network.spatial_shape, 3, seed=seed)
    compare(network, data, assert_same)


@pytest.mark.parametrize("statistics", ["active", "all"])
@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(300, 312))
def test_random_networks_with_batch_norm_in_training(
    seed, dimensions, statistics, random_network, make_input, assert_same
):
    network = random_network(seed, dimensions, dropout=True, statistics=statistics)
    data = make_input(KINDS[seed % len(KINDS)], network.spatial_shape, 3, seed=seed)
    # A bias in front of the layer has no gradient at all: rounding has no scale of its own there.
    compare(network, data, assert_same, together=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("family", [DeepCNet, DeepCNiN])
def test_the_families_of_the_paper(family, dimensions, kind, make_input, assert_same):
    network = family(LEVELS[dimensions], 3, 2, 4, dimensions=dimensions, dropout=0.5).double()
    randomise_biases(network)
    data = make_input(kind, network.spatial_shape, 2)
    for mode in (True, False):
        compare(network.train(mode), data, assert_same)


def test_deepcnet_in_four_dimensions(make_input, assert_same):
    network = DeepCNet(1, 2, 1, 3, dimensions=4, slope=1 / 3).double()
    randomise_biases(network)
    compare(network, make_input("batch of one", (6, 6, 6, 6), 1), assert_same)


def test_dropout_masks_follow_the_step(make_input, assert_same):
    network = DeepCNet(2, 6, 2, 4, dropout=0.5).double()
    data = make_input("mixed", (12, 12), 2)
    set_dropout_step(network, 0)
    twin = dense_twin(network)
    first, second = (network(data.sparse()) for _ in range(2))
    twice = [twin(data.field, data.ground) for _ in range(2)]
    assert_same([first, second], twice)
    assert not torch.equal(first, second)
    set_dropout_step(twin, 0)
    assert_same([twin(data.field, data.ground)], [first])


@pytest.mark.parametrize("seed", range(8))
def test_float32_to_rounding(seed, random_network, make_input, assert_same):
    network = random_network(seed, 2).float().eval()
    data = make_input("mixed", network.spatial_shape, 3, torch.float32, seed)
    # The same numbers in float64: make_input would draw others.
    leaves = [leaf.detach().double().requires_grad_() for leaf in (data.values, data.ground)]
    exact = dataclasses.replace(data, values=leaves[0], ground=leaves[1])
    logits, grads = results(network, data, dense=False)
    expected, expected_grads = results(copy.deepcopy(network).double(), exact, dense=True)
    assert_same([logits.double()], [expected], 1e-5)
    for one, other in zip(grads, expected_grads, strict=True):
        assert_same([one.double()], [other], 1e-5)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(200, 210))
def test_every_layer_has_the_ground_state_and_the_sites_of_the_dense_network(
    seed, dimensions, random_network, make_input, assert_same
):
    network = random_network(seed, dimensions).eval()
    data = make_input("mixed", network.spatial_shape, 3, seed=seed)
    nothing = torch.zeros_like(data.mask)
    empty = DenseField(
        data.ground.view(1, -1, *[1] * dimensions).expand_as(data.values), data.ground, nothing
    )
    batch, dense = data.sparse(), DenseField(data.field, data.ground, data.mask)
    for layer, dense_layer in zip(network.layers, dense_twin(network).layers, strict=True):
        batch, dense, empty = layer(batch), dense_layer(dense), dense_layer(empty)
        everywhere = empty.values.movedim(1, -1).reshape(-1, empty.num_channels)
        assert_same([batch.ground_state.expand_as(everywhere)], [everywhere])
        assert_same([batch.to_dense()], [dense.values])
        sites = torch.zeros_like(dense.mask)
        sites[tuple(batch.coords.long().T)] = True
        assert torch.equal(sites, dense.mask)
        assert batch.num_sites == int(dense.mask.sum())
        assert batch.active_set.sites_per_sample().tolist() == dense.mask.flatten(1).sum(1).tolist()


def test_a_batch_of_no_samples():
    network = DeepCNiN(1, 2, 2, 3)
    data = torch.zeros(0, 2, 6, 6)
    assert network(SparseBatch.from_dense(data)).shape == (0, 3)


def test_a_network_of_the_shorthand_with_a_larger_field(make_input, assert_same):
    network = network_from_notation(
        "4C3-5C2-MP2-6C2-3C1-output", 2, 3, spatial_shape=(14, 11), readout="mean", slope=1 / 3
    ).double()
    randomise_biases(network)
    compare(network, make_input("mixed", (14, 11), 2), assert_same)


def randomise_biases(network):
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)


@pytest.mark.parametrize("slope", [0.0, 1 / 3])
def test_pooling_before_the_activation_is_the_network_of_the_paper(slope, make_input, assert_same):
    network = DeepCNiN(2, 3, 2, 4, dropout=0.5, slope=slope).double().train()
    randomise_biases(network)
    kinds = [type(layer) for layer in network.layers]
    assert kinds[:4] == [SparseConv, MaxPool, Activation, NetworkInNetwork]
    papers = copy.deepcopy(network)
    layers = list(papers.layers)
    for place, layer in enumerate(network.layers):  # back behind the activation and the dropout
        if isinstance(layer, MaxPool):
            end = next(p for p in range(place + 1, len(layers)) if hasattr(layers[p], "weight"))
            layers[place:end] = [*layers[place + 1 : end], layers[place]]
    papers.layers = torch.nn.ModuleList(layers)
    assert [type(layer) for layer in layers[:4]] == [SparseConv, Activation, MaxPool, kinds[3]]
    data = make_input("mixed", network.spatial_shape, 2)
    ours, gradients = results(network, data, dense=False)
    theirs, expected = results(papers, data, dense=False)
    assert_same([ours], [theirs])
    assert_same(gradients, expected)


def test_an_activation_that_turns_values_round_stays_before_the_pooling():
    kinds = [type(layer) for layer in DeepCNet(1, 2, 1, 2, slope=-0.5).layers]
    assert kinds[:3] == [SparseConv, Activation, MaxPool]


@pytest.mark.parametrize("family", [DeepCNet, DeepCNiN])
def test_networks_do_not_compute_what_dropout_drops(family, make_input, assert_same):
    network = family(3, 4, 2, 4, dropout=0.5).double()
    randomise_biases(network)
    masking = copy.deepcopy(network)
    masking.compute_dropped = True
    widths = []
    for layer in network.layers:
        layer.register_forward_hook(lambda layer, args, out: widths.append(out.num_channels))
    data = make_input("mixed", network.spatial_shape, 2)
    ours, gradients = results(network, data, dense=False)
    theirs, expected = results(masking, data, dense=False)
    assert_same([ours], [theirs])
    for one, other in zip(gradients, expected, strict=True):
        assert_same([one], [other])
    assert set(widths) == {4, 6, 8}  # of 4, 8, 12, 16: all, 5/6, 2/3 and half of them
    widths.clear()
    network.eval()(data.sparse())
    assert set(widths) == {4, 8, 12, 16}
