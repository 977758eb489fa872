"""Synthetic fields: which sites are active, for workloads without a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch

STROKES_PER_FIELD = 6
"""Curves in one field: a Chinese character has about ten strokes, a digit one to three."""


Drawing = Callable[[tuple[int, ...], int, torch.Generator], Tensor]
"""Returns points in the unit cube, shape (P, D), dense enough to leave no gap."""


def make_field(
    kind: str,
    spatial_shape: Sequence[int],
    batch_size: int,
    in_channels: int,
    *,
    box: int | None = None,
    num_sites: int | None = None,
    seed: int = 0,
) -> SparseBatch:
    """Return a batch of synthetic fields with random features; the ground state is zero.

    Args:
        kind: ``"strokes"`` (smooth random curves), ``"circle"`` (its outline, in the plane of the
            last two axes), ``"square"`` (every site of the box), ``"full"`` (every site of the
            field) or ``"random"`` (sites of the field by chance).
        spatial_shape: Sizes of the field, in sites.
        batch_size: Number of samples B.
        in_channels: Features of a site.
        box: Width of the box in the middle that the drawing fills, in sites; a third of the
            field if not given.
        num_sites: Active sites of all samples together, for ``"random"`` alone; a tenth of the
            field if not given.
        seed: Of sites and features.

    Returns:
        float32 features on the CPU, standard normal.

    Raises:
        ValueError: For an unknown kind, or a box or number of sites that the field cannot hold.
    """
    shape = tuple(spatial_shape)
    generator = torch.Generator().manual_seed(seed)
    if kind not in FIELDS:
        raise ValueError(f"field is {kind!r}, expected one of {', '.join(FIELDS)}")
    box = max(1, min(shape) // 3) if box is None else box
    if not 1 <= box <= min(shape):
        raise ValueError(f"box is {box}, expected 1 to {min(shape)}: the field is {shape}")
    volume = batch_size * math.prod(shape)
    if kind in DRAWINGS:
        keys = _keys(DRAWINGS[kind], shape, batch_size, box, generator)
    else:
        keys = _random_keys(volume, volume if kind == "full" else num_sites, generator)
    unraveled = torch.unravel_index(keys, (batch_size, *shape))
    sites = ActiveSet(torch.stack(unraveled, 1).int(), shape, batch_size)
    features = torch.randn(len(keys), in_channels, generator=generator)
    return SparseBatch(sites, features)


def _random_keys(volume: int, num_sites: int | None, generator: torch.Generator) -> Tensor:
    count = volume // 10 if num_sites is None else num_sites
    if not 0 <= count <= volume:
        raise ValueError(f"num_sites is {count}, expected 0 to {volume}, the sites of all samples")
    if 2 * count > volume:
        return torch.randperm(volume, generator=generator)[:count].sort().values
    keys = torch.empty(0, dtype=torch.int64)
    while len(keys) < count:
        more = torch.randint(volume, (2 * count + 16,), generator=generator)
        keys = torch.unique(torch.cat([keys, more]))
    chosen = torch.randperm(len(keys), generator=generator)[:count]
    return keys[chosen].sort().values


def _keys(
    draw: Drawing, shape: tuple[int, ...], batch_size: int, box: int, generator: torch.Generator
) -> Tensor:
    """Return the row-major keys of what ``draw`` touches, sorted, without repeats."""
    keys = []
    for sample in range(batch_size):
        # Points in the unit cube become sites of the box in the middle.
        sites = (draw(shape, box, generator) * box).floor().long().clamp(0, box - 1)
        key = torch.full((len(sites),), sample)
        for axis, size in enumerate(shape):
            key = key * size + sites[:, axis] + (size - box) // 2
        keys.append(torch.unique(key))
    return torch.cat(keys)


def _strokes(shape: tuple[int, ...], box: int, generator: torch.Generator) -> Tensor:
    """Quadratic curves between random points."""
    ends = torch.rand(3, STROKES_PER_FIELD, 1, len(shape), generator=generator)
    t = torch.linspace(0, 1, 4 * box)[:, None]
    curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
    return curve.reshape(-1, len(shape))


def _circle(shape: tuple[int, ...], box: int, generator: torch.Generator) -> Tensor:
    angle = torch.linspace(0, 2 * math.pi, 8 * box)
    points = torch.full((len(angle), len(shape)), 0.5)
    points[:, -1] += 0.499 * angle.cos()
    if len(shape) > 1:
        points[:, -2] += 0.499 * angle.sin()
    return points


def _square(shape: tuple[int, ...], box: int, generator: torch.Generator) -> Tensor:
    axis = (torch.arange(box) + 0.5) / box
    return torch.cartesian_prod(*[axis] * len(shape)).view(-1, len(shape))


DRAWINGS: dict[str, Drawing] = {"strokes": _strokes, "circle": _circle, "square": _square}
FIELDS = (*DRAWINGS, "full", "random")
"""The kinds of `make_field`."""
