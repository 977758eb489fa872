"""Whole networks on a GPU equal the dense twin of the CPU, and seldom make the host wait."""

import copy
import warnings
from pathlib import Path

import pytest
import torch

from spcnn_lightning.core import map_tables
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import DeepCNet, DeepCNiN
from spcnn_lightning.reference.twin import dense_twin

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
    # The first product of a process, in a thread of autograd's own.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS"),
]

FAMILIES = [DeepCNet, DeepCNiN]


def results(network, logits, data):
    """Logits, and gradients of a random function of them: each parameter, then the input."""
    seed = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).to(logits)
    leaves = [*network.parameters(), data.values, data.ground]
    grads = torch.autograd.grad(logits, leaves, seed, allow_unused=True, materialize_grads=True)
    return [t.detach().double().cpu() for t in (logits, *grads)]


def both(network, data, autocast=None):
    """Return the results on the GPU, and those of the dense twin, in float64 on the CPU."""
    twin_source = copy.deepcopy(network).double()
    dtype = next(network.parameters()).dtype
    network.cuda()
    with torch.autocast("cuda", autocast, enabled=autocast is not None):
        logits = network(data.sparse().to("cuda").to(dtype))
    expected = dense_twin(twin_source)(data.field, data.ground, data.mask)
    return results(network, logits, data), results(twin_source, expected, data)


def compare(network, data, assert_same, tolerance):
    ours, theirs = both(network, data)
    for one, other in zip(ours[:-2], theirs[:-2], strict=True):
        assert_same([one], [other], tolerance)
    # Together: in a full field the ground state has no gradient, and rounding no scale.
    assert_same(ours[-2:], theirs[-2:], tolerance)


@pytest.mark.parametrize("kind", ["mixed", "one site", "no site", "full", "batch of one"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_of_the_paper(family, dimensions, kind, make_input, assert_same):
    network = family(2, 3, 2, 4, dimensions=dimensions, dropout=0.5).double()
    data = make_input(kind, network.spatial_shape, 2)
    compare(network, data, assert_same, 1e-10)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(400, 410))
def test_random_networks(seed, dimensions, random_network, make_input, assert_same):
    network = random_network(seed, dimensions, dropout=True, statistics="all").eval()
    data = make_input("mixed", network.spatial_shape, 3, seed=seed)
    compare(network, data, assert_same, 1e-10)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("family", FAMILIES)
def test_float32_to_rounding(family, backend, make_input, assert_same):
    network = family(3, 16, 2, 4, backend=backend)
    data = make_input("mixed", network.spatial_shape, 2)
    compare(network, data, assert_same, 2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_under_autocast(dtype, make_input):
    ours, theirs = both(DeepCNet(3, 16, 2, 4), make_input("mixed", (24, 24), 2), dtype)
    bound = 0.005 if dtype is torch.float16 else 0.03
    assert (ours[0] - theirs[0]).norm() < bound * theirs[0].norm()
    # Where rounding lets another site win its pool, gradients go elsewhere: by norm, all together.
    ours, theirs = (torch.cat([g.flatten() for g in grads[1:]]) for grads in (ours, theirs))
    assert (ours - theirs).norm() < 0.2 * theirs.norm()


def waits_of(network, batch):
    """Run a training step, and return the lines at which the host waits for the device."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            network(batch).logsumexp(1).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [w.filename for w in caught if "synchroniz" in str(w.message)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_host_waits_once_for_each_new_set_of_sites(family, make_input):
    network = family(3, 8, 2, 4, dropout=0.5, backend="torch").cuda()
    data = make_input("mixed", network.spatial_shape, 2, torch.float32)
    with torch.no_grad():
        batch = data.sparse().to("cuda")
    waits_of(network, batch)  # whatever is done once in a process
    sites = batch.active_set
    fresh = ActiveSet(sites.coords, sites.spatial_shape, sites.batch_size, validate=False)
    waits = waits_of(
        network, SparseBatch(fresh, batch.features, batch.ground_state, validate=False)
    )
    windows = sum(hasattr(layer, "geometry") for layer in network.layers)
    assert {Path(name) for name in waits} <= {Path(map_tables.__file__)}
    assert len(waits) <= windows
    assert waits_of(network, batch) == []  # its kernel maps are there
