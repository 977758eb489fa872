"""Dropped features are not computed, with the results of masking."""

import copy

import pytest
import torch
from torch import nn

from spcnn_lightning.nn import (
    Activation,
    AvgPool,
    BatchNorm,
    FeatureDropout,
    MaxPool,
    NetworkInNetwork,
    SparseConv,
    SubmanifoldConv,
)
from spcnn_lightning.nn.thinning import without_dropped


class Doubling(nn.Module):
    """Somebody's layer, which may mix features."""

    def forward(self, batch):
        return batch.replace(2 * batch.features.cumsum(1), batch.ground_state.cumsum(0))


class Reversing(MaxPool):
    def forward(self, batch):
        batch = super().forward(batch)
        return batch.replace(batch.features.flip(1), batch.ground_state.flip(0))


class OwnDropout(FeatureDropout):
    def forward(self, batch):
        return super().forward(batch)


class OwnConv(SparseConv):
    def forward(self, batch):
        return super().forward(batch)


def dropout(layer, p=0.4):
    return FeatureDropout(p, layer, seed=7)


RELU = Activation(nn.LeakyReLU(0.3))
ROWS = {
    "convolutions": [SparseConv(3, 8, (2, 2)), RELU, dropout(0), SparseConv(8, 5, (2, 1))],
    "first": [dropout(0), SparseConv(3, 8, (2, 2))],
    "last": [SubmanifoldConv(3, 8, (3, 2)), RELU, dropout(0)],
    "pooling": [
        *[SparseConv(3, 8, (2, 2)), MaxPool((2, 2)), RELU, dropout(0), AvgPool((1, 2))],
        *[NetworkInNetwork(8, 7, bias=False), dropout(1, 0.9), RELU, SparseConv(7, 4, (2, 1))],
    ],
    "every layer": [
        *[NetworkInNetwork(3, 9), dropout(0), SparseConv(9, 6, (2, 2), bias=False), RELU],
        *[dropout(1), SubmanifoldConv(6, 8, (3, 3)), dropout(2), NetworkInNetwork(8, 2)],
    ],
    "not zero at zero": [
        *[SparseConv(3, 8, (2, 2)), dropout(0), MaxPool((1, 2)), Activation(nn.Sigmoid())],
        *[SparseConv(8, 5, (2, 1)), Activation(nn.Softplus()), dropout(1), NetworkInNetwork(5, 2)],
    ],
    "twice": [SparseConv(3, 8, (2, 2)), dropout(0), dropout(1), SparseConv(8, 5, (2, 1))],
    "norm before": [SparseConv(3, 8, (2, 2)), BatchNorm(8), dropout(0), SparseConv(8, 5, (2, 1))],
    "norm behind": [SparseConv(3, 8, (2, 2)), dropout(0), BatchNorm(8), SparseConv(8, 5, (2, 1))],
    "parameters": [SparseConv(3, 8, (2, 2)), dropout(0), Activation(nn.PReLU(8)), dropout(1)],
    "strangers": [OwnConv(3, 8, (2, 2)), dropout(0), Doubling(), dropout(1), OwnConv(8, 5, (2, 1))],
    "own pooling": [
        *[SparseConv(3, 8, (2, 2)), Reversing((2, 2)), dropout(0), Reversing((1, 2))],
        *[NetworkInNetwork(8, 5), OwnDropout(0.4, 1, seed=7)],
    ],
    "none": [SparseConv(3, 8, (2, 2)), dropout(0, 0.0), SparseConv(8, 5, (2, 1))],
}


@pytest.mark.parametrize("kind", ["empty", "one", "mixed", "full"])
@pytest.mark.parametrize("name", ROWS)
def test_values_and_gradients_are_those_of_masking(name, kind, make_batch, assert_same):
    row = nn.ModuleList(copy.deepcopy(ROWS[name])).double()
    for number, parameter in enumerate(row.parameters()):
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))
    batch = make_batch(kind, (6, 5))
    found = {}
    for thin in (False, True):
        layers, out = copy.deepcopy(row), batch
        for _ in range(2):  # two steps, two masks
            out = batch
            for step in without_dropped(layers) if thin else layers:
                out = step(out)
        seeds = [torch.linspace(-1, 2, t.numel()).double().view_as(t) for t in out_tensors(out)]
        sources = [batch.features, batch.ground_state, *layers.parameters()]
        gradients = torch.autograd.grad(out_tensors(out), sources, seeds, materialize_grads=True)
        found[thin] = [*out_tensors(out), *gradients, *layers.buffers()]
        assert {layer.step for layer in layers if isinstance(layer, FeatureDropout)} <= {0, 2}
    for one, other in zip(found[True], found[False], strict=True):
        assert_same([one], [other])


def out_tensors(batch):
    return batch.features, batch.ground_state


def test_dropped_features_are_not_computed(make_batch):
    layers = nn.ModuleList(copy.deepcopy(ROWS["pooling"])).double()
    seen = []
    for layer in set(layers):  # one stands there twice
        layer.register_forward_hook(lambda layer, args, out: seen.append(out.num_channels))
    batch = make_batch("sparse", (6, 5))
    for step in without_dropped(layers):
        batch = step(batch)
    assert seen == [4, 4, 4, 4, 4, 1, 1, 1, 4]


def test_weights_of_dropped_features_get_gradients_of_zero(make_batch):
    layers = nn.ModuleList(copy.deepcopy(ROWS["convolutions"])).double()
    kept = layers[2].kept(8)
    batch = make_batch("sparse", (6, 5))
    for step in without_dropped(layers):
        batch = step(batch)
    batch.features.square().sum().backward()
    dropped = [c for c in range(8) if c not in kept]
    assert len(dropped) == 4
    for gradient in (
        layers[0].weight.grad.movedim(2, 0),
        layers[0].bias.grad,
        layers[3].weight.grad.movedim(1, 0),
    ):
        assert not gradient[dropped].any()
        assert gradient[kept].any()


def test_in_evaluation_the_layers_are_left_as_they_are():
    layers = nn.ModuleList(copy.deepcopy(ROWS["convolutions"])).eval()
    assert without_dropped(layers) == list(layers)
