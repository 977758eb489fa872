"""In and out: tensors, weights and networks of other sparse libraries.

The libraries are imported by the functions that need them, when they are called.
"""

from __future__ import annotations

from spcnn_lightning.interop.spconv_network import Densify, ReturningSequential, from_spconv
from spcnn_lightning.interop.tensors import (
    from_sparse_coo,
    from_spconv_tensor,
    from_torchsparse_tensor,
    to_sparse_coo,
    to_spconv_tensor,
    to_torchsparse_tensor,
)
from spcnn_lightning.interop.weights import (
    weight_from_minkowski,
    weight_from_sparseconvnet,
    weight_from_spconv,
    weight_from_torchsparse,
    weight_to_minkowski,
    weight_to_sparseconvnet,
    weight_to_spconv,
    weight_to_torchsparse,
)

__all__ = [
    "Densify",
    "ReturningSequential",
    "from_sparse_coo",
    "from_spconv",
    "from_spconv_tensor",
    "from_torchsparse_tensor",
    "to_sparse_coo",
    "to_spconv_tensor",
    "to_torchsparse_tensor",
    "weight_from_minkowski",
    "weight_from_sparseconvnet",
    "weight_from_spconv",
    "weight_from_torchsparse",
    "weight_to_minkowski",
    "weight_to_sparseconvnet",
    "weight_to_spconv",
    "weight_to_torchsparse",
]
