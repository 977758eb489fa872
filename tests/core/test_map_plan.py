"""Kernel maps that are built ahead: the same ones, wherever the batch goes, and none twice."""

import pickle
from functools import cached_property

import pytest
import torch
from torch.utils.data import DataLoader

from spcnn_lightning.core import kernel_map as kernel_maps
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.full_field import FullFieldMap
from spcnn_lightning.core.map_plan import CollateWithMaps, MapPlan, build_ahead, plan_of
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import DeepCNiN, SparseNetwork
from spcnn_lightning.nn import MaxPool, SparseConv, SubmanifoldConv


def sites(seed=0, samples=3, width=24):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(samples, width, width, generator=generator) < 0.1
    return ActiveSet(mask.nonzero().int(), (width, width), samples)


def network():
    layers = [
        SubmanifoldConv(2, 3, (3, 3)),
        SparseConv(3, 4, (3, 3), padding=1),
        SubmanifoldConv(4, 4, (3, 3)),
        MaxPool((2, 2), 2),
        SparseConv(4, 5, (2, 2)),
    ]
    return unfilled(SparseNetwork(layers, 5, 3, 2, (24, 24), "mean"))


def unfilled(net):
    """Fields that are filled need no maps."""
    net.fills = False
    return net


def batch_on(active_set):
    generator = torch.Generator().manual_seed(1)
    return SparseBatch(active_set, torch.randn(len(active_set), 2, generator=generator))


@pytest.fixture
def no_more_maps(monkeypatch):
    """From the call on, building another kernel map is an error."""

    def begin():
        def fail(*arguments):
            raise AssertionError("a kernel map was built")

        monkeypatch.setattr(kernel_maps, "build_kernel_map", fail)

    return begin


def plan_for(net):
    probe = batch_on(sites(9, samples=1))
    net(probe)
    return plan_of(probe.active_set)


@pytest.mark.parametrize(
    "net", [network(), unfilled(DeepCNiN(3, 4, 2, 3))], ids=["submanifold", "DeepCNiN"]
)
def test_a_network_builds_none_of_those_that_are_there(net, no_more_maps):
    plan = plan_for(net)
    expected = net(batch_on(sites()))
    expected.sum().backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()

    ahead = sites()
    build_ahead(ahead, plan)
    no_more_maps()
    ahead = pickle.loads(pickle.dumps(batch_on(ahead)))  # as from a worker
    found = net(ahead)
    found.sum().backward()
    assert torch.equal(found, expected)
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))


def test_what_was_built_moves_along():
    net, ahead = network(), sites()
    plan = plan_for(net)
    build_ahead(ahead, plan)
    moved = ahead.relocated(torch.clone, {})
    assert plan_of(moved) == plan
    for (_, here), (_, there) in zip(ahead.maps_of("core"), moved.maps_of("core"), strict=True):
        assert {"num_pairs", "windows"} <= vars(there).keys()
        assert torch.equal(here.out_to_in, there.out_to_in)
        assert here.out_to_in is not there.out_to_in
        assert here.num_pairs == there.num_pairs


def test_a_plan_has_the_windows_in_order_and_submanifold_ones_once():
    plan = plan_for(network())
    first, second = plan.windows
    assert first[1] == MapPlan()
    assert first[0].activity.value == "submanifold"
    assert [g.kernel_size for g, _ in second[1].windows] == [(3, 3), (2, 2)]
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_workers_build_them(no_more_maps):
    net = network()
    samples = [(batch_on(sites(seed, samples=1)), seed % 3) for seed in range(6)]
    build = CollateWithMaps(collate, plan_for(net))
    loader = DataLoader(samples, batch_size=3, collate_fn=build, num_workers=1)
    expected = [net(collate(samples[start : start + 3])[0]) for start in (0, 3)]
    batches = list(loader)
    no_more_maps()
    assert [batch.batch_size for batch, _ in batches] == [3, 3]
    for (batch, targets), scores in zip(batches, expected, strict=True):
        assert torch.equal(net(batch), scores)
        assert targets.tolist() == [0, 1, 2]


def test_a_bare_batch_gets_its_maps():
    build = CollateWithMaps(collate, plan_for(network()))
    batch = build([batch_on(sites(1, samples=1)), batch_on(sites(2, samples=1))])
    assert len(batch.active_set.maps_of("core")) == 2


def test_full_fields_bring_their_tables(monkeypatch):
    """Not every engine has a way of its own for them."""
    net = unfilled(DeepCNiN(3, 4, 2, 3)).half()
    rows = torch.rand(24 * 24, 2).half()
    plan = plan_for(unfilled(DeepCNiN(3, 4, 2, 3)))
    full = ActiveSet.full((24, 24), 1)
    build_ahead(full, plan)
    full = full.relocated(torch.clone, {})

    def fail(self):
        raise AssertionError("tables were built")

    for name in ("windows", "in_to_out"):
        built = cached_property(fail)
        built.__set_name__(FullFieldMap, name)
        monkeypatch.setattr(FullFieldMap, name, built)
    assert net(SparseBatch(full, rows)).shape == (1, 3)


def test_a_batch_without_sites():
    empty = ActiveSet(torch.zeros(0, 3, dtype=torch.int32), (24, 24), 2)
    net = network()
    build_ahead(empty, plan_for(net))
    assert torch.equal(net(batch_on(empty)), net(batch_on(ActiveSet(empty.coords, (24, 24), 2))))
