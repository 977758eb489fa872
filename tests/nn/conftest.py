"""Random fields for comparisons with the dense definitions."""

from collections.abc import Callable

import pytest
import torch

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch


def random_mask(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Activity of five samples: "empty", "one", "sparse", "full", or one of each and a border."""
    mask = torch.rand(5, *shape, generator=generator) < {"sparse": 0.2, "full": 1}.get(kind, 0)
    flat = mask.view(5, -1)
    if kind == "one":
        flat[2, flat.shape[1] // 3] = True
    if kind == "mixed":  # sample 0 stays empty
        flat[1, -1] = True
        flat[2] = True
        flat[3] = torch.rand(flat.shape[1], generator=generator) < 0.3
        for axis in range(len(shape)):
            mask[4].select(axis, 0).fill_(True)
            mask[4].select(axis, shape[axis] - 1).fill_(True)
    return mask


@pytest.fixture
def make_batch() -> Callable[..., SparseBatch]:
    """A batch with random sites, rows in random order; features and ground state are leaves."""

    def make(kind, shape, channels=3, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        coords = random_mask(kind, shape, generator).nonzero().int()
        coords = coords[torch.randperm(len(coords), generator=generator)]
        rows = torch.randn(len(coords), channels, generator=generator, dtype=torch.float64)
        ground = torch.randn(channels, generator=generator, dtype=torch.float64)
        leaves = [t.to(dtype).requires_grad_() for t in (rows, ground)]
        return SparseBatch(ActiveSet(coords, shape, 5), *leaves)

    return make


@pytest.fixture
def densify() -> Callable[[SparseBatch], tuple[torch.Tensor, torch.Tensor]]:
    """The field and its mask, made without SparseBatch.to_dense."""

    def convert(batch):
        place = tuple(batch.coords.long().T)
        full = (batch.batch_size, *batch.spatial_shape)
        field = batch.ground_state.expand(*full, -1).index_put(place, batch.features)
        mask = torch.zeros(full, dtype=torch.bool).index_put(place, torch.tensor(True))
        return field.movedim(-1, 1), mask

    return convert


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Largest error over the largest entry, for pairs of tensors taken together."""

    def check(actual, expected, tolerance=1e-12):
        for one, other in zip(actual, expected, strict=True):
            assert one.shape == other.shape
        error = max((float((a - b).abs().amax()) for a, b in pairs(actual, expected)), default=0.0)
        scale = max((float(b.abs().amax()) for _, b in pairs(actual, expected)), default=0.0)
        assert error <= tolerance * max(scale, 1e-30), f"error {error:.2e} at scale {scale:.2e}"

    def pairs(actual, expected):
        both = zip(actual, expected, strict=True)
        return [(a.detach(), b.detach()) for a, b in both if b.numel()]

    return check
