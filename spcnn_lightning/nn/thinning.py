"""Batchwise dropout by smaller matrices: what is dropped is not computed, to the same results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn.convolution import NetworkInNetwork, SparseConv
from spcnn_lightning.nn.pointwise import Activation, FeatureDropout
from spcnn_lightning.nn.pooling import AvgPool, MaxPool

ZERO_AT_ZERO = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Tanh, nn.Softsign, nn.Hardswish, nn.Identity),
)
"""Functions that leave a dropped feature dropped."""

Step = Callable[[SparseBatch], SparseBatch]
"""A layer, or a layer that is told which channels there are."""


def without_dropped(layers: Sequence[nn.Module]) -> list[Step]:
    """Return a step for each of the layers in a row; together they do what the layers do.

    All masks of this training pass are drawn here. The matrix layer (`SparseConv`,
    `SubmanifoldConv`, `NetworkInNetwork`) before a dropout computes the kept features alone, and
    the one behind it multiplies with their rows of its weights alone. Between them may lie what
    acts on each feature by itself: pooling and activations without parameters, behind the dropout
    only those that are zero at zero (`ZERO_AT_ZERO`). Values and gradients are those of masking;
    the weights of dropped features get gradients of zero.

    Where another layer follows a dropout the dropped features are put back as zeros; where
    another one precedes it, it masks.
    """
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    steps: list[Step] = list(layers)
    for place, layer in enumerate(layers):
        if not isinstance(layer, FeatureDropout) or not layer.drops:
            continue
        if type(layer).forward is not FeatureDropout.forward:
            continue
        before = _matrix_layer(layers, range(place - 1, -1, -1))
        if before is None:
            continue
        producer: Any = layers[before]
        kept = layer.draw(producer.out_channels).to(producer.weight.device, non_blocking=True)
        outputs[before] = kept
        steps[place] = partial(layer, num_features=producer.out_channels)
        behind = _matrix_layer(layers, range(place + 1, len(layers)), keeping_zero=True)
        if behind is None:
            steps[place] = partial(_put_back, steps[place], kept, producer.out_channels)
        else:
            inputs[behind] = kept
    for place in {*inputs, *outputs}:
        steps[place] = partial(layers[place], inputs=inputs.get(place), outputs=outputs.get(place))
    return steps


def _matrix_layer(
    layers: Sequence[nn.Module], places: Iterable[int], keeping_zero: bool = False
) -> int | None:
    """Return the first place with a matrix, unless a layer in between mixes or counts features.

    With ``keeping_zero``, unless one of them could make something of zeros either.
    """
    for place in places:
        layer = layers[place]
        # A subclass with a forward of its own is another layer.
        forward = type(layer).forward
        if forward in (SparseConv.forward, NetworkInNetwork.forward):
            return place
        own = any(True for _ in (*layer.parameters(), *layer.buffers()))
        if own or forward not in (MaxPool.forward, AvgPool.forward, Activation.forward):
            return None
        moves_zero = isinstance(layer, Activation) and type(layer.function) not in ZERO_AT_ZERO
        if keeping_zero and moves_zero:
            return None
    return None


def _put_back(step: Step, kept: Tensor, num_features: int, batch: SparseBatch) -> SparseBatch:
    batch = step(batch)
    rows, ground = (
        t.new_zeros(*t.shape[:-1], num_features).index_copy(-1, kept, t)
        for t in (batch.features, batch.ground_state)
    )
    return batch.replace(rows, ground)
