"""Networks from SparseBatch to logits."""

from __future__ import annotations

from spcnn_lightning.networks.deepcnet import (
    DeepCNet,
    DeepCNiN,
    NotationNetwork,
    network_from_notation,
)
from spcnn_lightning.networks.sparse_network import SparseNetwork

__all__ = ["DeepCNet", "DeepCNiN", "NotationNetwork", "SparseNetwork", "network_from_notation"]
