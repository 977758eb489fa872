"""Each of the three ways to the same sum, forward and transposed, against torch's convolutions."""

import pytest
import torch
from torch.nn import functional as F

from spcnn_lightning import compiled
from spcnn_lightning.adapters import get_backend, torch_rows, torch_ways
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Backend, OpRequest
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map

WAYS = ["ProjectFirst", "GatherFirst", "ByTap"]
GEOMETRIES = [
    ConvGeometry((2, 2)),
    ConvGeometry((3, 2), (2, 1), 1),
    ConvGeometry((2, 3), 1, 2, (2, 1)),
    ConvGeometry.submanifold((3, 2)),
]
SHAPE = (7, 6)


@pytest.fixture(autouse=True, params=["torch", "numba"])
def loops(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "WORTH_COMPILING", 0 if request.param == "numba" else 10**18)


@pytest.fixture(
    autouse=True,
    params=[(1, 0, 1), (4, 0, 1), (10**6, 0, 1), (1, 24, 1), (1, 0, 3), (4, 0, 2)],
    ids="{0[0]} rows or {0[1]}, {0[2]} lanes".format,
)
def block(request, monkeypatch):
    """Blocks of one row, of some with a shorter last one, of all, and of more where rows are short.

    The fourth is as in real use: inputs and outputs, which differ in their width, differ in blocks.
    """
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param[2])
    monkeypatch.setattr(torch_rows, "LEAST_ROWS", request.param[0])
    monkeypatch.setattr(torch_rows, "CACHE_BLOCK", request.param[1])


@pytest.fixture
def active():
    mask = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1)) < 0.3
    mask[0] = False
    return ActiveSet(mask.nonzero().int(), SHAPE, 3)


def dense(rows, sites):
    place = tuple(sites.coords.long().T)
    field = rows.new_zeros(sites.batch_size, *sites.spatial_shape, rows.shape[1])
    return field.index_put(place, rows).movedim(-1, 1)


def at_sites(field, sites):
    return field.movedim(1, -1)[tuple(sites.coords.long().T)]


def torch_convolution(field, weight, geometry, shape, transposed):
    """The convolution on the padded field, or its transpose cut to ``shape``."""
    kernel = weight.view(*geometry.kernel_size, *weight.shape[1:])
    (top, bottom), (left, right) = geometry.padding
    if not transposed:
        field = F.pad(field, (left, right, top, bottom))
        kernel = kernel.permute(3, 2, 0, 1)
        return F.conv2d(field, kernel, None, geometry.stride, 0, geometry.dilation)
    kernel = kernel.permute(2, 3, 0, 1)
    full = F.conv_transpose2d(field, kernel, None, geometry.stride, 0, dilation=geometry.dilation)
    # A stride may leave the last sites untouched, where the transpose is zero.
    full = F.pad(full, (0, left + right + shape[1], 0, top + bottom + shape[0]))
    return full[:, :, top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_the_convolution(way, geometry, transposed, dtype, active, same_function):
    rulebook = kernel_map(active, geometry)
    source, target = (rulebook.output, active) if transposed else (active, rulebook.output)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(source.num_sites, 3, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(geometry.num_taps, 3, 5, generator=generator).to(dtype).requires_grad_()
    seed = torch.randn(target.num_sites, 5, generator=generator).to(dtype)

    out = getattr(torch_ways, way).apply(rows, weight, rulebook, transposed)
    field = torch_convolution(dense(rows, source), weight, geometry, SHAPE, transposed)
    expected = at_sites(field, target)
    same_function(out, expected, (rows, weight), seed)


@pytest.mark.parametrize("way", WAYS)
def test_only_the_gradients_that_are_asked_for_are_computed(way, active):
    rulebook = kernel_map(active, GEOMETRIES[1])
    apply = getattr(torch_ways, way).apply
    for wanted in (0, 1):
        pair = [torch.randn(active.num_sites, 3), torch.randn(6, 3, 2)]
        pair[wanted].requires_grad_()
        apply(*pair, rulebook, False).sum().backward()
        assert pair[wanted].grad is not None
        assert pair[1 - wanted].grad is None


@pytest.mark.parametrize(("c_in", "c_out"), [(1, 64), (64, 1), (16, 16)])
@pytest.mark.parametrize("buffer", [0, 2**26], ids=["no buffer", "any buffer"])
def test_whatever_is_chosen_the_result_is_the_same(buffer, c_in, c_out, active, monkeypatch, close):
    monkeypatch.setattr(torch_rows, "MAX_BUFFER", buffer)
    rows, weight = torch.randn(active.num_sites, c_in), torch.randn(4, c_in, c_out)
    rulebook = kernel_map(active, GEOMETRIES[0])
    out = get_backend("torch").convolve(rows, weight, rulebook)
    close(out, torch_ways.ByTap.apply(rows, weight, rulebook, False))


def test_no_pairs_still_give_zero_gradients():
    nothing = ActiveSet(torch.zeros(0, 3, dtype=torch.int32), SHAPE, 2)
    rows = torch.zeros(0, 3, requires_grad=True)
    weight = torch.randn(4, 3, 2, requires_grad=True)
    out = get_backend("torch").convolve(rows, weight, kernel_map(nothing, GEOMETRIES[0]))
    assert out.shape == (0, 2)
    out.sum().backward()
    assert not weight.grad.any()
    assert rows.grad.shape == (0, 3)


def test_no_pairs_give_zeros_whatever_the_numbers():
    """One site that no window of a transposed stride reaches; sums of halves would overflow."""
    far = ActiveSet(torch.tensor([[0, 2, 2]], dtype=torch.int32), (5, 5), 1)
    found = kernel_map(far, ConvGeometry((2, 2), 3))
    assert found.num_pairs == 0
    rows = torch.ones(found.num_outputs, 200, dtype=torch.float16)
    weight = torch.full((4, 200, 200), torch.inf, dtype=torch.float16)
    out = get_backend("torch").convolve(rows, weight, found, transposed=True)
    assert out.tolist() == [[0.0] * 200]


def test_results_repeat_to_the_bit(active):
    rulebook = kernel_map(active, GEOMETRIES[2])
    rows = torch.randn(active.num_sites, 8, requires_grad=True)
    weight = torch.randn(6, 8, 8, requires_grad=True)
    runs = []
    for _ in range(2):
        out = get_backend("torch").convolve(rows, weight, rulebook)
        runs.append((out, *torch.autograd.grad(out.square().sum(), (rows, weight))))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_every_request_is_served():
    backend = get_backend("torch")
    assert isinstance(backend, Backend)
    assert backend.name == "torch"
    for device in ("cpu", "cuda", "mps"):
        for dtype in (torch.bfloat16, torch.float64):
            request = OpRequest(ConvGeometry.submanifold((2, 2, 2, 2)), device, dtype, True)
            assert not backend.unsupported_reasons(request)
