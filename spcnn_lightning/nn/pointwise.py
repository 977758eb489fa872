"""Layers that act on each site alone: activation and batchwise feature dropout."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional


class Activation(nn.Module):
    """Any elementwise function, applied to every site and to the ground state.

    Args:
        function: An elementwise module, ``nn.ReLU()`` or ``nn.LeakyReLU(1 / 3)`` say, or one with a
            parameter per feature, as ``nn.PReLU(C)``. It takes rows of shape (N, C). One that
            works in place is given a copy: batches share their ground state.
    """

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function

    def forward(self, batch: SparseBatch) -> SparseBatch:
        """Return the batch with the function applied."""
        if any(getattr(module, "inplace", False) for module in self.function.modules()):
            return functional.elementwise(batch, lambda rows: self.function(rows.clone()))
        return functional.elementwise(batch, self.function)


class FeatureDropout(nn.Module):
    """Batchwise dropout: one mask of features for all samples, sites and the ground state.

    In training exactly ``kept_features(C, p)`` of the C features are kept, and scaled by C / kept;
    in evaluation the layer does nothing. Alone the layer masks; in a `SparseNetwork` the features
    that it drops are not computed (`spcnn_lightning.nn.thinning`), to the same results.

    The mask is a function of (``seed``, ``step``, ``layer``) alone, drawn on the CPU: the same on
    all devices, ranks and backends, and after a resume.

    Args:
        p: Share of the features to drop, 0 <= p < 1.
        layer: Number of the layer in its network, so that layers draw different masks.
        seed: Taken from torch's seed at construction if not given.

    Attributes:
        seed: First part of the key; `set_dropout_seed` sets it for a network.
        step: Second part; counts training passes, `set_dropout_step` sets it for a network.

    Source:
        The programs of B. Graham ("batchwise dropout").
    """

    def __init__(self, p: float, layer: int = 0, seed: int | None = None) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability is {p}, expected 0 <= p < 1")
        self.p, self.layer = float(p), layer
        self.seed = torch.initial_seed() if seed is None else seed
        self.step = 0

    @property
    def drops(self) -> bool:
        """Whether the layer does anything in its present mode."""
        return self.training and self.p > 0

    def kept(self, num_features: int) -> Tensor:
        """Return the features that this step keeps, int64 on the CPU, ascending."""
        key = ((self.seed * 1_000_003 + self.step) * 1_000_003 + self.layer) % 2**63
        generator = torch.Generator().manual_seed(key)
        order = torch.randperm(num_features, generator=generator)
        return order[: kept_features(num_features, self.p)].sort().values

    def draw(self, num_features: int) -> Tensor:
        """Return the features that this step keeps, and go on to the next step."""
        kept = self.kept(num_features)
        self.step += 1
        return kept

    def mask(self, num_features: int) -> Tensor:
        """Return the factors of this step, float32 on the CPU, shape (C,): 0 or C / kept."""
        kept = self.kept(num_features)
        return torch.zeros(num_features).index_fill_(0, kept, num_features / len(kept))

    def forward(self, batch: SparseBatch, num_features: int | None = None) -> SparseBatch:
        """Return the batch with dropped features in training, the batch itself in evaluation.

        With ``num_features`` the batch has the kept ones of so many alone, and they are scaled.
        """
        if not self.drops:
            return batch
        if num_features is not None:
            factor = float(torch.tensor(num_features / batch.num_channels))  # rounded as in masks
            return functional.elementwise(batch, lambda rows: rows * factor)
        # A recomputation in the backward pass (torch.utils.checkpoint) repeats the last mask.
        self.step -= functional.is_recomputing()
        mask = self.mask(batch.num_channels).to(batch.features, non_blocking=True)
        self.step += 1
        return functional.elementwise(batch, lambda rows: rows * mask)

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"p={self.p:g}, layer={self.layer}"


def kept_features(num_features: int, p: float) -> int:
    """Return floor(num_features * (1 - p)), at least 1, not fooled by rounding.

    >>> kept_features(600, 0.5 * 5 / 6)  # 349.99999999999994 in floats
    350
    """
    share = 1 - Fraction(p).limit_denominator(10**6)
    return max(1, int(num_features * share))


def set_dropout_step(network: nn.Module, step: int) -> None:
    """Set the step that keys the dropout masks of a network, in optimiser steps."""
    for module in network.modules():
        if isinstance(module, FeatureDropout):
            module.step = step


def set_dropout_seed(network: nn.Module, seed: int) -> None:
    """Set the seed that keys the dropout masks of a network; the same on all ranks."""
    for module in network.modules():
        if isinstance(module, FeatureDropout):
            module.seed = seed
