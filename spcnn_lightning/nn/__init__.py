"""Layers from SparseBatch to SparseBatch, exact with respect to the dense network."""

from __future__ import annotations

from spcnn_lightning.nn.convolution import (
    InverseConv,
    NetworkInNetwork,
    SparseConv,
    SubmanifoldConv,
)
from spcnn_lightning.nn.normalisation import BatchNorm, synchronise_batch_norm
from spcnn_lightning.nn.pinning import PinGround
from spcnn_lightning.nn.pointwise import (
    Activation,
    FeatureDropout,
    set_dropout_seed,
    set_dropout_step,
)
from spcnn_lightning.nn.pooling import AvgPool, MaxPool, Readout

__all__ = [
    "Activation",
    "AvgPool",
    "BatchNorm",
    "FeatureDropout",
    "InverseConv",
    "MaxPool",
    "NetworkInNetwork",
    "PinGround",
    "Readout",
    "SparseConv",
    "SubmanifoldConv",
    "set_dropout_seed",
    "set_dropout_step",
    "synchronise_batch_norm",
]
