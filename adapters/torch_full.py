"""Whether all sites of a field may be computed, and how many outputs the active ones have."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spcnn_lightning.adapters import torch_rows
from spcnn_lightning.adapters.torch_dense import DIMENSIONS
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry

DTYPES = (torch.float32, torch.bfloat16)
"""In which torch's dense convolutions on CPUs are fast."""
SAMPLES = 4
"""So many samples are looked at, from all of the batch."""


def can_fill(
    active_set: ActiveSet, geometry: ConvGeometry, features: Tensor, weight: Tensor
) -> bool:
    """Return whether all sites of the field may be made active for a convolution.

    Only on CPUs, for full windows without padding, in dimensions and dtypes in which torch's dense
    convolutions are fast, and where that takes no more memory than other buffers may.
    """
    if (
        features.device.type != "cpu"
        or features.dtype not in DTYPES
        or geometry.dimensions not in DIMENSIONS
        or geometry.activity is not Activity.DILATING
        or not geometry.is_full_window
        or any(map(any, geometry.padding))
    ):
        return False
    sites, outputs = active_set.batch_size * active_set.volume, full_outputs(active_set, geometry)
    _, c_in, c_out = weight.shape
    most = max(sites * c_in, outputs * c_out)
    return most <= torch_rows.MAX_BUFFER and not active_set.is_full


def full_outputs(active_set: ActiveSet, geometry: ConvGeometry) -> int:
    """Return how many output sites the fields have, active or not."""
    return active_set.batch_size * math.prod(geometry.output_shape(active_set.spatial_shape))


def share_of_outputs(active_set: ActiveSet, geometry: ConvGeometry) -> float:
    """Return the share of output sites whose window holds a site, in some of the samples."""
    samples = min(SAMPLES, active_set.batch_size)
    keys, volume = active_set.keys(), active_set.volume
    if samples < active_set.batch_size:
        chosen = torch.linspace(0, active_set.batch_size - 1, samples).long()
        places = torch.full((active_set.batch_size,), -1)
        places[chosen] = torch.arange(samples)
        place = places[active_set.coords[:, 0].long()]
        keys = (keys % volume + place * volume)[place >= 0]
    field = torch.zeros(samples * volume).index_fill_(0, keys, 1)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[geometry.dimensions - 1]
    reached: Tensor = pool(
        field.view(samples, 1, *active_set.spatial_shape),
        geometry.kernel_size,
        geometry.stride,
        dilation=geometry.dilation,
    )
    return float(reached.mean())
