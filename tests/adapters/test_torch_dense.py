"""The dense convolution of the box around the sites, against torch's on the whole field."""

import pytest
import torch
from torch.nn import functional as F

from spcnn_lightning.adapters import get_backend, torch_dense, torch_rows, torch_ways
from spcnn_lightning.adapters.torch_dense import Box, DenseBox
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map

GEOMETRIES = [
    ConvGeometry((2,)),
    ConvGeometry((2, 2)),
    ConvGeometry((3, 2), 1, [(1, 2), (0, 1)]),
    ConvGeometry((2, 3), 1, 2, (2, 1)),
    ConvGeometry((2, 3), (2, 3), 1),
    ConvGeometry.submanifold((3, 2)),
    ConvGeometry.submanifold((2, 3, 2)),
]
SIZES = (8, 7, 5)


def sites_of(kind, shape):
    """Samples 1 and 2 of four; all of the field, a part of it, a part with holes, one site."""
    mask = torch.zeros(4, *shape, dtype=torch.bool)
    if kind == "all of the field":
        mask[:] = True
    elif kind == "one site":
        mask[2].view(-1)[-1] = True
    else:
        inner = mask[1:3]
        for axis, size in enumerate(shape):
            inner = inner.narrow(axis + 1, 1 + axis % 2, size - 2)  # ends at a border
        inner[:] = True
        if kind == "holes":
            inner &= torch.rand(inner.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    coords = mask.nonzero().int()
    if kind == "any order":
        coords = coords[torch.randperm(len(coords), generator=torch.Generator().manual_seed(2))]
    return ActiveSet(coords, shape, 4)


KINDS = ["all of the field", "a part of it", "any order", "holes", "one site"]


def dense_convolution(rows, sites, weight, geometry, target):
    field = rows.new_zeros(4, *sites.spatial_shape, rows.shape[1])
    field = field.index_put(tuple(sites.coords.long().T), rows).movedim(-1, 1)
    field = F.pad(field, [p for pair in reversed(geometry.padding) for p in pair])
    kernel = weight.view(*geometry.kernel_size, *weight.shape[1:]).movedim((-1, -2), (0, 1))
    convolve = getattr(F, f"conv{geometry.dimensions}d")
    out = convolve(field, kernel, None, geometry.stride, 0, geometry.dilation)
    return out.movedim(1, -1)[tuple(target.coords.long().T)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_it_is_the_convolution(geometry, kind, dtype, same_function):
    sites = sites_of(kind, SIZES[: geometry.dimensions])
    rulebook = kernel_map(sites, geometry)
    if not rulebook.num_pairs:
        pytest.skip("no window sees the one site")
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(sites.num_sites, 3, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(geometry.num_taps, 3, 5, generator=generator).to(dtype).requires_grad_()
    box = Box(rulebook)
    assert box.holds_all
    out = DenseBox.apply(rows, weight, box)
    expected = dense_convolution(rows, sites, weight, geometry, rulebook.output)
    seed = torch.randn(out.shape, generator=generator).to(dtype)
    same_function(out, expected, (rows, weight), seed)


def test_rows_that_fill_their_box_in_order_are_not_moved():
    whole = Box(kernel_map(sites_of("all of the field", (8, 7)), ConvGeometry((2, 2))))
    assert (whole.shape_in, whole.shape_out, whole.padding) == ([4, 8, 7], [4, 7, 6], [0, 0, 0])
    inner = Box(kernel_map(sites_of("a part of it", (8,)), ConvGeometry((2,))))
    assert (inner.shape_in, inner.shape_out, inner.padding) == ([2, 6], [2, 7], [0, 1])
    # Behind the last column the field ends: there is nothing to pad on one side of it.
    edge = Box(kernel_map(sites_of("a part of it", (8, 7)), ConvGeometry((2, 2))))
    assert (edge.shape_in, edge.shape_out, edge.padding) == ([2, 6, 6], [2, 7, 5], [0, 1, 0])
    assert [box.places_in is None for box in (whole, inner, edge)] == [True, True, False]
    assert [box.places_out is None for box in (whole, inner, edge)] == [True, True, True]


def test_a_site_that_no_window_sees_is_in_no_box():
    sites = ActiveSet(torch.tensor([[0, 0], [0, 6]], dtype=torch.int32), (7,), 1)
    found = kernel_map(sites, ConvGeometry((2,), 2))
    assert not Box(found).holds_all
    assert torch_dense.box_of(found, torch.ones(2, 1)) is None


def test_only_the_gradients_that_are_asked_for_are_computed():
    rulebook = kernel_map(sites_of("holes", (8, 7)), ConvGeometry((2, 2)))
    for wanted in (0, 1):
        pair = [torch.randn(rulebook.num_inputs, 3), torch.randn(4, 3, 2)]
        pair[wanted].requires_grad_()
        DenseBox.apply(*pair, Box(rulebook)).sum().backward()
        assert pair[wanted].grad is not None
        assert pair[1 - wanted].grad is None


@pytest.fixture
def taken(monkeypatch):
    """The boxes that were convolved densely."""
    boxes, apply = [], DenseBox.apply
    monkeypatch.setattr(DenseBox, "apply", lambda *args: boxes.append(args[2]) or apply(*args))
    return boxes


def convolve(density, dtype=torch.float32, geometry=None, transposed=False):
    geometry = geometry or ConvGeometry((3, 3))
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(4, 20, 20, generator=generator) < density
    rulebook = kernel_map(ActiveSet(mask.nonzero().int(), (20, 20), 4), geometry)
    rows = torch.randn(rulebook.num_outputs if transposed else rulebook.num_inputs, 8, dtype=dtype)
    weight = torch.randn(geometry.num_taps, 8, 8, dtype=dtype)
    get_backend("torch").convolve(rows, weight, rulebook, transposed)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
def test_full_fields_are_convolved_densely_and_sparse_ones_are_not(taken, monkeypatch):
    for density, count in ((0.02, 0), (0.1, 0), (0.9, 1), (1.1, 2)):
        convolve(density)
        assert len(taken) == count
    convolve(1.1, torch.bfloat16)
    assert len(taken) == 3
    convolve(1.1, torch.float64)  # torch's own loops, which are slow
    convolve(1.1, transposed=True)
    convolve(1.1, geometry=ConvGeometry((3, 3), offsets=[(0, 0), (0, 1), (1, 0)]))
    monkeypatch.setattr(torch_rows, "MAX_BUFFER", 4 * 20 * 20 * 8 - 1)
    convolve(1.1)
    assert len(taken) == 3


def test_many_weights_on_few_sites_are_not_brought_into_another_order(taken):
    sites = sites_of("all of the field", (2, 2))
    rulebook = kernel_map(sites, ConvGeometry((2, 2)))
    get_backend("torch").convolve(torch.randn(16, 100), torch.randn(4, 100, 100), rulebook)
    assert not taken


def test_maps_that_do_not_know_their_input_sites_have_no_box():
    rulebook = kernel_map(sites_of("a part of it", (8, 7)), ConvGeometry((2, 2)))
    rulebook.input_coords = None
    assert torch_dense.box_of(rulebook, torch.randn(rulebook.num_inputs, 3)) is None


def test_a_moved_map_keeps_its_input_sites():
    sites = sites_of("holes", (8, 7))
    kernel_map(sites, ConvGeometry((2, 2)))
    moved = sites.relocated(torch.Tensor.clone, {})
    rulebook = kernel_map(moved, ConvGeometry((2, 2)))
    assert torch.equal(rulebook.input_coords, sites.coords)
    assert rulebook.input_coords.data_ptr() != sites.coords.data_ptr()


@pytest.mark.parametrize(
    ("shape", "geometry", "c_out"),
    [((12, 3), ConvGeometry((3, 3), (1, 2)), 4), ((12, 12), ConvGeometry((3, 3)), 1)],
    ids=["one output and a stride on the last axis", "one output channel"],
)
def test_where_torchs_own_convolutions_fail(shape, geometry, c_out):
    """The first gives random numbers in channels-last format, the second an error in backward."""
    sites = ActiveSet(ActiveSet.full(shape, 1).coords[1:], shape, 1)
    rulebook = kernel_map(sites, geometry)
    rows, weight = torch.randn(len(sites), 3), torch.randn(geometry.num_taps, 3, c_out)
    leaves = [
        [t.to(dtype).requires_grad_() for t in (rows, weight)]
        for dtype in (torch.float32, torch.float64)
    ]
    found = DenseBox.apply(*leaves[0], torch_dense.box_of(rulebook, rows))
    expected = torch_ways.GatherFirst.apply(*leaves[1], rulebook, False)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    seed = torch.cos(torch.arange(found.numel())).view_as(found)
    gradients = torch.autograd.grad(found, leaves[0], seed)
    exact = torch.autograd.grad(expected, leaves[1], seed.double())
    for one, other in zip(gradients, exact, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4, rtol=1e-4)
