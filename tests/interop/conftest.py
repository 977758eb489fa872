"""Random batches whose ground state is zero, and spconv."""

import pytest
import torch

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.interop.libraries import import_spconv


@pytest.fixture(scope="session")
def spconv():
    try:
        return import_spconv()
    except BackendUnsupportedError as error:
        pytest.skip(str(error))


@pytest.fixture
def make_batch():
    """Four samples, the first without sites; rows in random order, features require gradients."""

    def make(shape=(9, 7), channels=3, density=0.25, dtype=torch.float32, seed=0):
        generator = torch.Generator().manual_seed(seed)
        mask = torch.rand(4, *shape, generator=generator) < density
        mask[0] = False
        coords = mask.nonzero().int()
        coords = coords[torch.randperm(len(coords), generator=generator)]
        rows = torch.randn(len(coords), channels, generator=generator).to(dtype)
        return SparseBatch(ActiveSet(coords, shape, 4), rows.requires_grad_())

    return make
