"""Full fields: the same maps as elsewhere, which are not built until somebody looks."""

import pickle

import pytest
import torch

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.full_field import FullFieldMap
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.core.map_tables import KernelMap, build_tables

WINDOWS = [
    ((7,), ConvGeometry((3,))),
    ((7, 6), ConvGeometry((3, 2), stride=(2, 1))),
    ((7, 6), ConvGeometry((2, 2), dilation=(3, 1))),
    ((7, 9), ConvGeometry((2, 2), stride=3)),  # sites between the windows
    ((5, 4, 4), ConvGeometry((2, 2, 2), stride=2)),
    ((3, 3, 3, 2), ConvGeometry((2, 2, 2, 1))),
]


@pytest.mark.parametrize(("shape", "geometry"), WINDOWS)
def test_the_map_is_that_of_the_tables(shape, geometry):
    sites = ActiveSet.full(shape, 3, tensor_stride=(2,) * len(shape), offset=(1,) * len(shape))
    found, expected = kernel_map(sites, geometry), build_tables(sites, geometry)
    assert type(found) is FullFieldMap
    assert type(expected) is KernelMap
    assert not {"windows", "in_to_out"} & vars(found).keys()
    assert (found.num_inputs, found.num_outputs) == (len(sites), expected.num_outputs)
    assert found.num_pairs == expected.num_pairs
    assert found.outside is None
    output = found.output
    assert output.is_full
    assert torch.equal(output.coords, expected.output.coords)
    assert output.tensor_stride == expected.output.tensor_stride
    assert output.offset == expected.output.offset
    assert torch.equal(found.in_to_out, expected.in_to_out)
    assert torch.equal(found.out_to_in, expected.out_to_in)
    assert all(map(torch.equal, found.pairs[:2], expected.pairs[:2]))


def test_what_is_full():
    everything = ActiveSet.full((3, 2), 2)
    assert everything.is_full
    assert ActiveSet(everything.coords, (3, 2), 2).is_full
    assert not ActiveSet(everything.coords.flip(0), (3, 2), 2).is_full  # another order
    assert not ActiveSet(everything.coords[:-1], (3, 2), 2).is_full
    twice = torch.cat([everything.coords[:-1], everything.coords[:1]])
    assert not ActiveSet(twice, (3, 2), 2, validate=False).is_full
    assert torch.equal(everything.keys(), torch.arange(12))


@pytest.mark.parametrize(
    ("sites", "geometry"),
    [
        (ActiveSet.full((5, 5), 2), ConvGeometry((2, 2), padding=1)),
        (ActiveSet.full((5, 5), 2), ConvGeometry.submanifold((3, 3))),
        (ActiveSet.full((5, 5), 2), ConvGeometry((2, 2), offsets=[(0, 0), (1, 1)])),
        (ActiveSet.full((5, 5), 0), ConvGeometry((2, 2))),
        (ActiveSet(ActiveSet.full((5, 5), 2).coords[1:], (5, 5), 2), ConvGeometry((2, 2))),
    ],
    ids=["padded", "submanifold", "part of a window", "no sample", "one site missing"],
)
def test_other_maps_have_tables(sites, geometry):
    assert type(kernel_map(sites, geometry)) is KernelMap


def test_tables_looked_at_in_inference_mode_can_be_trained_with():
    found = kernel_map(ActiveSet.full((4, 4), 1), ConvGeometry((2, 2)))
    with torch.inference_mode():
        assert found.in_to_out.shape == (16, 4)
    assert not found.in_to_out.is_inference()


@pytest.mark.parametrize("looked", [False, True])
def test_it_moves_and_pickles(looked):
    sites = ActiveSet.full((6, 6), 2)
    found = kernel_map(sites, ConvGeometry((2, 2), stride=2))
    behind = kernel_map(found.output, ConvGeometry((2, 2)))
    expected = build_tables(found.output, behind.geometry).in_to_out
    if looked:
        assert torch.equal(behind.out_to_in[:-1], behind.windows[:-2])
        assert torch.equal(behind.in_to_out, expected)
    moved = sites.relocated(torch.clone, {})
    for copy in (moved, pickle.loads(pickle.dumps(sites))):
        ((_, first),) = copy.maps_of("core")
        ((_, second),) = first.output.maps_of("core")
        assert (type(first), type(second)) == (FullFieldMap, FullFieldMap)
        assert copy.is_full
        assert second.output.is_full
        assert ({"windows", "in_to_out"} <= vars(second).keys()) == looked
        assert torch.equal(second.in_to_out, expected)
        assert first.output is not found.output
    meta = sites.relocated(lambda t: t.to("meta"), {})
    assert meta.is_full  # elsewhere than on a CPU nobody looks
    ((_, first),) = meta.maps_of("core")
    ((_, second),) = first.output.maps_of("core")
    assert second.input_coords is first.output.coords
    assert second.output.device.type == "meta"
    if looked:
        assert second.in_to_out.device.type == "meta"
        assert second.out_to_in.device.type == "meta"
