"""A DeepCNet that is computed densely, for comparisons: the same network at its full price."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spcnn_lightning import DeepCNet, SparseBatch
from spcnn_lightning.reference import dense_twin


class DenseDeepCNet(nn.Module):
    """The dense twin of a `DeepCNet`, trained in its place; takes the same arguments."""

    def __init__(self, levels: int, width: int, **arguments: Any) -> None:
        super().__init__()
        network = DeepCNet(levels=levels, width=width, **arguments)
        self.twin = dense_twin(network).to(memory_format=torch.channels_last)
        self.num_classes = network.num_classes

    def forward(self, batch: SparseBatch) -> Tensor:
        """Return scores, shape (B, num_classes)."""
        field = batch.to_dense().to(memory_format=torch.channels_last)
        scores: Tensor = self.twin(field)
        return scores
