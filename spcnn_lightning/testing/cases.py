"""The problems of the conformance suite, as data: windows, fields and where the sites lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import OpRequest
from spcnn_lightning.core.geometry import ConvGeometry

SAMPLES = 5
"""Number of samples of every batch but those of `MANY_ROWS`."""

FIELDS: dict[int, tuple[int, ...]] = {1: (11,), 2: (9, 7), 3: (5, 4, 6), 4: (4, 3, 5, 3)}
"""A field for each number of dimensions; no two axes of one are equal, unless it has four."""


@dataclass(frozen=True)
class Case:
    """One convolution to compare with the dense one, in values and in every gradient."""

    geometry: ConvGeometry
    sites: str = "mixed"
    """How the sites lie: a key of the table in `activity_mask`, or a density such as "0.3"."""
    transposed: bool = False
    field: tuple[int, ...] = ()
    samples: int = SAMPLES
    channels: tuple[int, int] = (3, 4)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the field, in sites."""
        return self.field or FIELDS[self.geometry.dimensions]

    @property
    def name(self) -> str:
        """The case in one word, for the identity of a test."""
        g = self.geometry
        kind = "transposed" if self.transposed else g.activity.value
        words = [f"{kind}_{'x'.join(map(str, g.kernel_size))}"]
        words += [f"stride{_join(g.stride)}"] if max(g.stride) > 1 else []
        pads = [number for pair in g.padding for number in pair]
        words += [f"pad{_join(pads)}"] if any(pads) and kind != "submanifold" else []
        words += [f"dilation{_join(g.dilation)}"] if max(g.dilation) > 1 else []
        words += [] if g.is_full_window else [f"{g.num_taps}taps"]
        words += [f"{self.channels[0]}to{self.channels[1]}"] if self.channels != (3, 4) else []
        return "-".join([*words, self.sites])

    def request(self, device: str, dtype: torch.dtype) -> OpRequest:
        """Return the case as the question that a backend answers."""
        kind = torch.device(device).type
        return OpRequest(self.geometry, kind, dtype, transposed=self.transposed)

    def active_set(self, device: str) -> ActiveSet:
        """Return new sites, in random but repeatable order: no kernel map is left from before."""
        generator = torch.Generator().manual_seed(len(self.name))
        mask = activity_mask(self.sites, self.samples, self.spatial_shape, generator)
        coords = mask.nonzero().int()
        coords = coords[torch.randperm(len(coords), generator=generator)]
        return ActiveSet(coords.to(device), self.spatial_shape, self.samples)


def activity_mask(
    kind: str, samples: int, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Return which sites are active, bool, shape (samples, *shape).

    ``kind`` is "empty", "one" (one site in the batch), "corners" (all corners of each field, so
    that a valid convolution has as many output sites as input sites), "full", "mixed" (an empty
    sample, a single site, a full field, a sparse one and a border), or a density.
    """
    mask = torch.zeros(samples, *shape, dtype=torch.bool)
    flat = mask.view(samples, math.prod(shape))
    if kind == "one":
        flat[samples // 2, flat.shape[1] // 3] = True
    elif kind == "corners":
        corners = (slice(None), *(slice(0, None, max(1, size - 1)) for size in shape))
        mask[corners] = True
    elif kind == "full":
        mask.fill_(True)
    elif kind == "mixed":
        flat[1, -1] = True
        flat[2] = True
        flat[3] = torch.rand(flat.shape[1], generator=generator) < 0.3
        for axis, size in enumerate(shape):
            mask[4].select(axis, 0).fill_(True)
            mask[4].select(axis, size - 1).fill_(True)
    elif kind != "empty":
        mask = torch.rand(mask.shape, generator=generator) < float(kind)
    return mask


def random_rows(rows: int, channels: int, seed: int) -> Tensor:
    """Return normal numbers, float64 on the CPU, shape (rows, channels)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, channels, generator=generator, dtype=torch.float64)


def random_weight(geometry: ConvGeometry, channels: tuple[int, int], seed: int) -> Tensor:
    """Return weights (K, C_in, C_out), float64 on the CPU, of a size that keeps the variance."""
    rows = geometry.num_taps * channels[0]
    weight = random_rows(rows, channels[1], seed) / math.sqrt(rows)
    return weight.view(geometry.num_taps, *channels)


def _join(numbers: tuple[int, ...] | list[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else "_".join(map(str, numbers))


_DILATING = (
    ConvGeometry((2,)),
    ConvGeometry((3,), 2, 1),
    ConvGeometry((4,), 3, ((2, 1),), 2),
    ConvGeometry((3, 3)),
    ConvGeometry((2, 2)),
    ConvGeometry((1, 1)),
    ConvGeometry((3, 2)),
    ConvGeometry((4, 5)),
    ConvGeometry((2, 2), 2),
    ConvGeometry((3, 3), 2),
    ConvGeometry((1, 1), 2),
    ConvGeometry((3, 3), 1, 1),
    ConvGeometry((2, 2), 1, 1),
    ConvGeometry((3, 3), 2, 1),
    ConvGeometry((2, 2), 3),  # sites that no window sees
    ConvGeometry((3, 2), (1, 3), ((1, 2), (0, 1))),
    ConvGeometry((2, 3), 2, ((3, 0), (0, 5))),  # padding wider than the window
    ConvGeometry((3, 3), 1, 0, 2),
    ConvGeometry((3, 3), 2, 2, 2),
    ConvGeometry((2, 3), 1, 0, (3, 2)),
    ConvGeometry((9, 7)),  # one output site
    ConvGeometry((2, 2), 1, offsets=((0, 0), (0, 1), (1, 1))),
    ConvGeometry((3, 3), 2, 1, offsets=((0, 1), (1, 0), (1, 2), (2, 1))),
    ConvGeometry((2, 2, 2)),
    ConvGeometry((3, 3, 3)),
    ConvGeometry((2, 2, 2), 2),
    ConvGeometry((3, 1, 2), (2, 1, 1), ((1, 0), (0, 0), (1, 1))),
    ConvGeometry((2, 2, 2, 2)),
    ConvGeometry((2, 1, 3, 2), (2, 1, 1, 2), ((0, 1), (0, 0), (1, 0), (1, 1))),
)
_SUBMANIFOLD = (
    ConvGeometry.submanifold((3,)),
    ConvGeometry.submanifold((5,), 2),
    ConvGeometry.submanifold((3, 3)),
    ConvGeometry.submanifold((2, 2)),
    ConvGeometry.submanifold((1, 1)),
    ConvGeometry.submanifold((4, 3)),
    ConvGeometry.submanifold((5, 3)),
    ConvGeometry.submanifold((3, 3), 2),
    ConvGeometry.submanifold((3, 2), (2, 3)),
    ConvGeometry.submanifold((3, 3, 3)),
    ConvGeometry.submanifold((2, 2, 2)),
    ConvGeometry.submanifold((3, 1, 5)),
    ConvGeometry.submanifold((3, 3, 3, 3)),
    ConvGeometry.submanifold((2, 1, 3, 2)),
)
_TRANSPOSED = (
    ConvGeometry((2,), 2),
    ConvGeometry((2, 2), 2),
    ConvGeometry((3, 3), 2),
    ConvGeometry((3, 3), 2, 1),
    ConvGeometry((3, 3)),
    ConvGeometry((2, 3), (3, 1), ((0, 2), (1, 0)), (1, 2)),
    ConvGeometry((2, 2, 2), 2),
    ConvGeometry((2, 1, 2, 2), (2, 1, 1, 2)),
    ConvGeometry.submanifold((3, 3)),
)
_USUAL = (
    ConvGeometry((3, 3)),
    ConvGeometry((2, 2)),
    ConvGeometry((2, 2), 2),
    ConvGeometry((3, 3), 3, 1),
    ConvGeometry.submanifold((3, 3)),
)
_PATTERNS = ("empty", "one", "corners", "full", "0.1")

CASES: tuple[Case, ...] = (
    *(Case(geometry) for geometry in (*_DILATING, *_SUBMANIFOLD)),
    *(Case(geometry, transposed=True) for geometry in _TRANSPOSED),
    *(Case(geometry, pattern) for geometry in _USUAL for pattern in _PATTERNS),
    *(
        Case(ConvGeometry((3, 3)), pattern, transposed=True)
        for pattern in ("empty", "one", "corners")
    ),
    *(Case(geometry, "empty", samples=0, channels=(3, 2)) for geometry in _USUAL[:3]),
    *(
        Case(ConvGeometry((3, 2)), channels=channels)
        for channels in ((1, 1), (1, 9), (17, 2), (33, 40))
    ),
)
"""What is compared with the dense definitions; small, so that all of it takes seconds."""

MANY_ROWS: tuple[Case, ...] = (
    Case(ConvGeometry((3, 3)), "0.05", field=(94, 90), samples=8, channels=(8, 12)),
    Case(ConvGeometry.submanifold((3, 3)), "0.35", field=(94, 90), samples=8, channels=(8, 8)),
)
"""More than 20,000 rows: threads that write over one another show here and not in small cases."""
