import pickle

import pytest
import torch

from spcnn_lightning.core.active_set import ActiveSet, ravel, unravel
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map


def sites(*rows):
    return torch.tensor(rows, dtype=torch.int32)


def test_sites_are_counted_per_sample():
    active = ActiveSet(sites([0, 1, 2], [2, 0, 0], [0, 3, 1]), (4, 3), 4)
    assert (active.num_sites, len(active), active.dimensions, active.volume) == (3, 3, 2, 12)
    assert active.sites_per_sample().tolist() == [2, 0, 1, 0]
    assert (active.tensor_stride, active.offset) == ((1, 1), (0, 0))
    assert "3 sites, spatial_shape=(4, 3), batch_size=4" in repr(active)


@pytest.mark.parametrize("shape", [(7,), (4, 3), (3, 5, 2), (2**20, 2**20, 2**20), (2**31 - 1, 4)])
def test_keys_number_the_sites_and_back(shape):
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randint(0, n, (50,), generator=generator) for n in (3, *shape)]
    coords = torch.stack(columns, 1).int()
    assert torch.equal(unravel(ravel(coords, shape), shape), coords)
    assert bool((ravel(coords, shape)[by_rows(coords)].diff() >= 0).all())


def by_rows(coords):
    return sorted(range(len(coords)), key=lambda row: coords[row].tolist())


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (sites([0, 0, 0], [1, 4, 2]), r"coords\[1\] = \[1, 4, 2\] .*out of range.*1 of 2 rows"),
        (sites([0, 0, 3]), r"spatial_shape \(4, 3\)"),
        (sites([0, -1, 0]), r"\[0, -1, 0\]"),
        (sites([2, 0, 0]), "out of range for batch_size 2"),
        (sites([-1, 0, 0]), "drop or move these sites"),
        (sites([0, 0]), r"coords have shape \(1, 2\), expected \(N, 3\)"),
        (torch.zeros(3, dtype=torch.int32), r"coords have shape \(3,\)"),
        (
            sites([1, 2, 2], [0, 0, 0], [1, 2, 2], [0, 0, 0]),
            r"coords\[1\] and coords\[3\] are the same site \[0, 0, 0\].*2 rows.*from_points",
        ),
    ],
)
def test_bad_sites_are_refused(coords, message):
    with pytest.raises(ValueError, match=message):
        ActiveSet(coords, (4, 3), 2)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=rf"coords are {dtype}, expected torch.int32.*\.int\(\)"):
        ActiveSet(torch.zeros(1, 3, dtype=dtype), (4, 3), 2)


@pytest.mark.parametrize(
    ("shape", "batch_size", "message"),
    [
        ((), 1, "at least one axis"),
        ((4, 0), 1, r"spatial_shape is \(4, 0\)"),
        ((4, 4), -1, "batch_size -1"),
        ((2**31, 1), 1, "more sites than int64 keys and int32 coordinates can number"),
        ((2**21, 2**21, 2**21), 1, "take a smaller field or batch"),
    ],
)
def test_bad_fields_are_refused(shape, batch_size, message):
    coords = torch.zeros(0, 1 + len(shape), dtype=torch.int32)
    with pytest.raises(ValueError, match=message):
        ActiveSet(coords, shape, batch_size)


def test_coordinates_need_not_be_contiguous():
    wide = torch.zeros(3, 6, dtype=torch.int32)
    wide[:, 0] = torch.arange(3)
    active = ActiveSet(wide[:, ::2], (4, 3), 3)
    assert active.coords.is_contiguous()
    transposed = sites([0, 0], [1, 2], [0, 1]).T
    assert ActiveSet(transposed, (4, 3), 1).keys().tolist() == [3, 7]


def test_pickling_and_moving_keep_the_maps_and_what_they_share():
    active = ActiveSet(sites([0, 1, 1], [1, 2, 0]), (4, 3), 2)
    same = kernel_map(active, ConvGeometry.submanifold((3, 3)))
    conv = kernel_map(active, ConvGeometry((2, 2)))
    kernel_map(conv.output, ConvGeometry((2, 1), 2))
    for copy in (
        pickle.loads(pickle.dumps(active)),
        active.relocated(torch.clone, {}),
    ):
        assert copy is not active
        assert torch.equal(copy.coords, active.coords)
        kept = kernel_map(copy, ConvGeometry((2, 2)))
        assert torch.equal(kept.in_to_out, conv.in_to_out)
        assert kept.output.tensor_stride == (1, 1)
        assert kernel_map(copy, ConvGeometry.submanifold((3, 3))).output is copy
        assert len(copy._kernel_maps) == 2
        assert len(kept.output._kernel_maps) == 1
    assert same.output is active


def test_moving_to_where_it_is_changes_nothing():
    active = ActiveSet(sites([0, 1, 1]), (4, 3), 2)
    assert active.to("cpu") is active


def test_moving_to_another_device_takes_the_maps_along():
    active = ActiveSet(sites([0, 1, 1]), (4, 3), 2)
    built = kernel_map(active, ConvGeometry((2, 2)))
    moved = active.to("meta")
    assert moved.device.type == "meta"
    kept = moved.kernel_map("core", ConvGeometry((2, 2)), pytest.fail)
    assert (kept.in_to_out.device.type, kept.output.device.type) == ("meta", "meta")
    assert kept.output.num_sites == built.output.num_sites
