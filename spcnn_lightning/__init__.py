"""Ground-state sparse convolution: networks equal to the dense ones, computed where data are."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "ActiveSet",
    "AvgPool",
    "BatchNorm",
    "ConvGeometry",
    "DeepCNet",
    "DeepCNiN",
    "FeatureDropout",
    "MaxPool",
    "NetworkInNetwork",
    "Readout",
    "SparseBatch",
    "SparseConv",
    "SparseNetwork",
    "SubmanifoldConv",
    "collate",
    "network_from_notation",
]

if TYPE_CHECKING:
    from spcnn_lightning.core.active_set import ActiveSet
    from spcnn_lightning.core.collate import collate
    from spcnn_lightning.core.geometry import ConvGeometry
    from spcnn_lightning.core.sparse_batch import SparseBatch
    from spcnn_lightning.networks import DeepCNet, DeepCNiN, SparseNetwork, network_from_notation
    from spcnn_lightning.nn import (
        Activation,
        AvgPool,
        BatchNorm,
        FeatureDropout,
        MaxPool,
        NetworkInNetwork,
        Readout,
        SparseConv,
        SubmanifoldConv,
    )
else:
    # Imported when first used: the command line answers without waiting for torch.
    _HOMES = {
        "ActiveSet": "core.active_set",
        "ConvGeometry": "core.geometry",
        "SparseBatch": "core.sparse_batch",
        "collate": "core.collate",
        **dict.fromkeys(("DeepCNet", "DeepCNiN", "SparseNetwork"), "networks"),
        "network_from_notation": "networks",
    }

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'nn')}"), name)

    def __dir__():
        return sorted({*globals(), *__all__})
