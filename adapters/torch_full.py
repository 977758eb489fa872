"""Whether sites lie so close that a convolution of the whole field costs less than theirs."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spcnn_lightning.adapters.torch_dense import DIMENSIONS, pays_for_weights
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry

NEARLY_FULL = 0.6
"""Share of active output sites from which on all of them cost less (measured)."""
DTYPES = (torch.float32, torch.bfloat16)
"""In which torch's dense convolutions on CPUs are fast."""
SAMPLES = 4
"""So many samples are looked at."""


def is_nearly_full(
    active_set: ActiveSet, geometry: ConvGeometry, features: Tensor, weight: Tensor
) -> bool:
    """Return whether a convolution would better run on all sites, active or not.

    Only on CPUs, for full windows without padding, in dimensions and dtypes in which torch's dense
    convolutions are fast, and not for few sites with many weights. The share of sites that the
    output would have is that of a few samples.
    """
    if (
        features.device.type != "cpu"
        or features.dtype not in DTYPES
        or geometry.dimensions not in DIMENSIONS
        or geometry.activity is not Activity.DILATING
        or not geometry.is_full_window
        or any(map(any, geometry.padding))
        or active_set.is_full
    ):
        return False
    outputs = math.prod(geometry.output_shape(active_set.spatial_shape)) * active_set.batch_size
    if active_set.num_sites * geometry.num_taps < NEARLY_FULL * outputs:
        return False
    if not pays_for_weights(outputs, weight):
        return False
    return _share_of_outputs(active_set, geometry) >= NEARLY_FULL


def _share_of_outputs(active_set: ActiveSet, geometry: ConvGeometry) -> float:
    """Return the share of output sites whose window holds a site, in the first samples."""
    samples = min(SAMPLES, active_set.batch_size)
    field, keys = torch.zeros(samples * active_set.volume), active_set.keys()
    if samples < active_set.batch_size:
        keys = keys[keys < len(field)]
    field.index_fill_(0, keys, 1)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[geometry.dimensions - 1]
    reached: Tensor = pool(
        field.view(samples, 1, *active_set.spatial_shape),
        geometry.kernel_size,
        geometry.stride,
        dilation=geometry.dilation,
    )
    return float(reached.mean())
