"""The walk: pen paths resampled at constant arc length and mapped onto the sites of a field.

This is the part that runs over every step of every pen, about 400 for a character 16 sites wide,
so it does as little as possible there: each step gets its site, then neighbouring steps of one
direction on one site become a *run* with a count. Encoders see runs only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster import engine
from spcnn_lightning.datamodules.raster.legs import Floats, Integers
from spcnn_lightning.datamodules.raster.paths import PenPaths


@dataclass(frozen=True, eq=False)
class Walk:
    """What the pens of B samples did on the field, in R runs of equal steps over N sites.

    Args:
        coords: int32, shape (N, 1 + D): sample, row, column (and third axis) of each site touched,
            in that order.
        site: int64, shape (R,): the site that a run lies in.
        count: int64, shape (R,): number of steps, each about ``density`` long.
        leg: int64, shape (R,): the leg that a run is part of. Runs stand in the order of writing.
        step: int64, shape (R,): number of the run's first step, counted along its stroke.
        direction: float64, shape (K, 2): the way of the pen along each leg, (row, column), of any
            length; zero for a dot.
        stroke: int64, shape (K,): the stroke of the batch that a leg belongs to.
        dropped: int64, shape (B,): steps of each sample that fell outside the field.
        paths: What was walked along.
        place: float64, shape (P,): arc length of each pen point, in steps of its stroke.
        steps: int64, shape (S,): number of steps of each stroke.
        density: Length of a step, in sites.
        box: The larger of a character's height and width before augmentation, in sites.
    """

    coords: NDArray[np.int32]
    site: Integers
    count: Integers
    leg: Integers
    step: Integers
    direction: Floats
    stroke: Integers
    dropped: Integers
    paths: PenPaths
    place: Floats
    steps: Integers
    density: float
    box: float


def walk_paths(
    paths: PenPaths,
    spatial_shape: tuple[int, ...],
    density: float = 0.1,
    box: float | None = None,
) -> Walk:
    """Walk along every stroke in steps of about ``density`` sites and note the sites.

    A stroke of length L is cut into n = floor(L / density + 1/2) steps of equal length. A step
    counts for the site that it starts in: floor(coordinate + size / 2) along each axis. Its
    direction leads to the start of the next step. A stroke without steps is a dot: one step, of no
    direction, at its first point. Steps that start outside the field are dropped and counted.

    Args:
        paths: Points in sites, the origin in the middle of the field.
        spatial_shape: Rows and columns of the field, and the size of a third axis if the points
            have one.
        density: Length of a step, in sites.
        box: Size that characters were normalised to, in sites. None: a third of the field.
    """
    kernels = engine.kernels_for(len(paths))
    legs = kernels.cut_into_legs(paths.points, paths.point_offsets, density)
    runs = kernels.runs_of(legs, paths.sample_of_stroke(), len(paths), spatial_shape)
    keys, site = kernels.number_sites(runs.key, len(paths), math.prod(spatial_shape))
    return Walk(
        coords=_coords(keys, spatial_shape),
        site=site,
        count=runs.count,
        leg=runs.leg,
        step=legs.begin[runs.leg] + runs.number,
        direction=legs.step[:, :2],
        stroke=legs.stroke,
        dropped=runs.dropped,
        paths=paths,
        place=legs.place,
        steps=legs.steps,
        density=density,
        box=min(spatial_shape[:2]) / 3 if box is None else box,
    )


def _coords(keys: Integers, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return sample and indices of the sites with these keys, shape (N, 1 + D)."""
    coords = np.empty((len(keys), 1 + len(shape)), np.int32)
    for axis in range(len(shape), 0, -1):
        rest = keys // shape[axis - 1]  # quicker than divmod, which numpy does not vectorise
        coords[:, axis] = keys - rest * shape[axis - 1]
        keys = rest
    coords[:, 0] = keys
    return coords
