"""Random networks and random dense inputs."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import SparseNetwork
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


@dataclass
class DenseInput:
    """Leaves of a random input: values of the active sites, the ground state, and the mask."""

    values: torch.Tensor
    ground: torch.Tensor
    mask: torch.Tensor

    @property
    def field(self) -> torch.Tensor:
        shape = (-1, *[1] * (self.values.ndim - 2))
        return torch.where(self.mask[:, None], self.values, self.ground.view(shape))

    def sparse(self) -> SparseBatch:
        return SparseBatch.from_dense(self.field, self.ground, self.mask)


@pytest.fixture
def make_input() -> Callable[..., DenseInput]:
    def make(kind, shape, channels, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        samples = 1 if kind == "batch of one" else 5
        mask = torch.rand(samples, *shape, generator=generator) < 0.2
        if kind == "mixed":
            mask[0] = False
            mask[1] = False
            mask[1].view(-1)[-1] = True
            mask[2] = True
            for axis in range(len(shape)):  # the border of sample 4
                mask[4].select(axis, 0).fill_(True)
                mask[4].select(axis, shape[axis] - 1).fill_(True)
        elif kind == "one site":
            mask[:] = False
            mask[2].view(-1)[mask[2].numel() // 2] = True
        elif kind in ("no site", "full"):
            mask[:] = kind == "full"
        values = torch.randn(samples, channels, *shape, generator=generator, dtype=torch.float64)
        ground = torch.randn(channels, generator=generator, dtype=torch.float64)
        return DenseInput(
            values.to(dtype).requires_grad_(), ground.to(dtype).requires_grad_(), mask
        )

    return make


@pytest.fixture
def random_network() -> Callable[..., SparseNetwork]:
    """A network of two to seven random layers on a field with uneven sides, in float64."""

    def build(seed: int, dimensions: int, dropout: bool = False, statistics: str = "all"):
        choose = random.Random(seed)
        shape = tuple(
            choose.randint(*{1: (9, 17), 2: (7, 12), 3: (4, 7), 4: (3, 4)}[dimensions])
            for _ in range(dimensions)
        )
        field, layers, channels = shape, [], 3
        torch.manual_seed(seed)
        for number in range(choose.randint(2, 7)):
            layer, width = random_layer(choose, dimensions, channels, number, dropout, statistics)
            try:
                field = layer.geometry.output_shape(field) if hasattr(layer, "geometry") else field
            except ValueError:
                continue
            channels = width
            layers.append(layer)
        network = SparseNetwork(layers, channels, 4, 3, shape, choose.choice(["mean", "max"]))
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if name.endswith(("bias", "running_mean")):
                    tensor.normal_()
                elif name.endswith("running_var"):
                    tensor.uniform_(0.5, 2)
        return network.double()

    return build


def random_layer(choose, dimensions, channels, number, dropout, statistics):
    """A layer and the number of channels behind it."""

    def sizes(low, high):
        return tuple(choose.randint(low, high) for _ in range(dimensions))

    width = choose.randint(2, 5)
    largest = 2 if dimensions == 4 else 3
    pads = [(choose.randint(0, 1), choose.randint(0, 1)) for _ in range(dimensions)]
    kind = choose.choice(["conv", "conv", "conv", "sub", "nin", "pool", "pool", "norm", "act"])
    if kind == "conv":
        dilation = choose.choice([1, 1, 2])
        layer = SparseConv(
            channels, width, sizes(1, largest), sizes(1, 2), pads, dilation, choose.random() < 0.8
        )
    elif kind == "sub":
        layer = SubmanifoldConv(channels, width, sizes(1, largest))
    elif kind == "nin":
        layer = NetworkInNetwork(channels, width, choose.random() < 0.8)
    elif kind == "pool":
        pads = pads if choose.random() < 0.3 else 0
        pool = choose.choice([MaxPool, MaxPool, AvgPool])
        layer, width = pool(sizes(2, largest), sizes(1, 3), pads), channels
    elif kind == "norm":
        # A field may be constant, and a small eps would blow its rounding up.
        layer, width = BatchNorm(channels, eps=0.1, statistics=statistics), channels
    elif dropout and choose.random() < 0.5:
        layer, width = FeatureDropout(0.4, layer=number, seed=5), channels
    else:
        functions = [nn.ReLU(), nn.LeakyReLU(1 / 3), nn.LeakyReLU(0.01), nn.Tanh(), nn.Softplus()]
        layer, width = Activation(choose.choice(functions)), channels
    return layer, width


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Largest error over the largest entry, for a list of tensors taken together."""

    def check(actual, expected, tolerance=1e-10, what="values"):
        both = [(a.detach(), b.detach()) for a, b in zip(actual, expected, strict=True)]
        assert all(a.shape == b.shape for a, b in both)
        both = [(a, b) for a, b in both if b.numel()]
        error = max((float((a - b).abs().amax()) for a, b in both), default=0.0)
        scale = max((float(b.abs().amax()) for _, b in both), default=0.0)
        assert error <= tolerance * max(scale, 1e-30), f"{what}: {error:.2e} at scale {scale:.2e}"

    return check
