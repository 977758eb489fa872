"""When the compiled loops are taken, and how work is cut into pieces."""

import copy
import sys

import pytest
import torch

from spcnn_lightning import compiled
from spcnn_lightning.adapters import torch_project, torch_rows, torch_ways
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import DeepCNet, DeepCNiN
from spcnn_lightning.nn import functional


def test_compiling_waits_until_it_pays(monkeypatch):
    monkeypatch.setattr(compiled, "_moved", 0)
    monkeypatch.setattr(compiled, "has_numba", lambda: True)
    assert not compiled.compiled_for(compiled.WORTH_COMPILING - 1, torch.ones(1))
    assert compiled.compiled_for(1, torch.ones(1))
    assert not compiled.compiled_for(1, torch.ones(1, dtype=torch.bfloat16))
    assert not compiled.compiled_for(1, torch.ones(1, device="meta"))
    monkeypatch.setattr(compiled, "has_numba", lambda: False)
    assert not compiled.compiled_for(1, torch.ones(1))


@pytest.mark.parametrize(("said", "taken"), [("at_once", True), ("never", False)])
def test_the_user_says_when(said, taken, run_python):
    pytest.importorskip("numba")
    code = """
import sys, torch
from spcnn_lightning import DeepCNet, SparseBatch
field = torch.zeros(1, 1, 6, 6)
field[0, 0, 2:4, 3] = 1.0
with torch.no_grad():
    DeepCNet(1, 2, 1, 2)(SparseBatch.from_dense(field))
from spcnn_lightning.datamodules.raster import engine
print("numba" in sys.modules, engine.WORTH_COMPILING)
"""
    result = run_python("-c", code, SPCNN_COMPILE=said)
    assert result.stdout.split() == [str(taken), "0" if taken else "inf"], result.stderr
    result = run_python("-c", "from spcnn_lightning import DeepCNet", SPCNN_COMPILE="always")
    assert result.returncode == 0
    assert "SPCNN_COMPILE is 'always' and changes nothing: set it to at_once" in result.stderr


def test_a_numba_that_does_not_work_is_a_warning(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setitem(sys.modules, "numba", None)  # as an import that fails
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: object())
    compiled.has_numba.cache_clear()
    with pytest.warns(UserWarning, match="numba is installed but cannot be used"):
        assert not compiled.has_numba()
    compiled.has_numba.cache_clear()


@pytest.mark.parametrize(("rows", "numbers"), [(0, 0), (1, 10**9), (2, 10**9), (7, 10**9), (7, 9)])
def test_pieces_cover_every_row_once(monkeypatch, rows, numbers):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    seen = torch.zeros(rows, dtype=torch.int64)

    def kernel(array, first, end):
        array[first:end] += 1

    compiled.in_pieces(kernel, rows, numbers, seen)
    assert seen.tolist() == [1] * rows


def test_a_failing_piece_is_told(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def kernel(first, end):
        if first:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        compiled.in_pieces(kernel, 2, 10**9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("network", [DeepCNet(3, 5, 2, 4), DeepCNiN(3, 5, 2, 4, dropout=0.5)])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_loops_change_no_bit(threads, network, dtype, monkeypatch):
    """A resumed run begins without them: it must end as the unbroken one."""
    pytest.importorskip("numba")
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(9, 2, *network.spatial_shape, generator=generator, dtype=dtype)
    field *= torch.rand(9, 1, *network.spatial_shape, generator=generator) < 0.1
    results = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for worth in (10**18, 0):
        monkeypatch.setattr(compiled, "WORTH_COMPILING", worth)
        monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
        monkeypatch.setattr(compiled, "WAKING", 0)
        own = copy.deepcopy(network).to(dtype).train()
        logits = own(SparseBatch.from_dense(field))
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in own.parameters())])
    assert all(torch.equal(one, same) for one, same in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("density", [1.1, 0.4])
@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry((2, 2), 2),
        ConvGeometry((3, 2), (4, 2)),
        ConvGeometry((3, 3), 2),
        ConvGeometry((17, 17), 17),  # more slots than a byte can number
    ],
    ids=lambda geometry: str(geometry.kernel_size),
)
def test_pooling_has_the_bits_of_torch(geometry, density, dtype, monkeypatch):
    """Of full fields, too; some sites lie in no window, and many values are equal."""
    pytest.importorskip("numba")
    generator = torch.Generator().manual_seed(5)
    shape = (11, 9) if geometry.num_taps < 256 else (35, 17)
    coords = torch.nonzero(torch.rand(3, *shape, generator=generator) < density).int()
    values = torch.randint(-3, 4, (len(coords), 5), generator=generator).to(dtype)
    if geometry.num_taps > 256:
        values = torch.arange(values.numel()).view_as(values).to(dtype)  # the last slots win
    results = []
    for worth in (10**18, 0):
        monkeypatch.setattr(compiled, "WORTH_COMPILING", worth)
        monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
        monkeypatch.setattr(compiled, "WAKING", 0)
        rows = values.clone().requires_grad_()
        ground = torch.ones(5, dtype=dtype, requires_grad=True)
        batch = SparseBatch(ActiveSet(coords, shape, 3), rows, ground, validate=False)
        out = functional.max_pool(batch, geometry)
        seed = torch.cos(torch.arange(out.features.numel())).view_as(out.features).to(dtype)
        (out.features * seed).sum().backward()
        results.append([out.features, rows.grad, ground.grad])
    for one, same in zip(*results, strict=True):
        assert (one is None) == (same is None)
        assert one is None or torch.equal(one, same)


def test_compiled_loops_leave_other_devices_alone(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "WORTH_COMPILING", 0)
    sites = ActiveSet(torch.zeros(1, 3, dtype=torch.int32), (4, 4), 1)
    kernel_map(sites, ConvGeometry((2, 2), 2)).windows  # noqa: B018  # so that it is there on meta, too
    there = sites.relocated(lambda tensor: tensor.to("meta"), {})
    rows = torch.ones(1, 5, dtype=torch.bfloat16, device="meta", requires_grad=True)
    batch = SparseBatch(there, rows, rows.detach()[0], validate=False)
    out = functional.max_pool(batch, ConvGeometry((2, 2), 2)).features
    (grad,) = torch.autograd.grad(out, rows, torch.ones_like(out))
    assert (grad.device.type, grad.shape, out.dtype) == ("meta", rows.shape, torch.bfloat16)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sums_of_blocks_have_the_bits_of_sums_of_windows(shuffled, dtype, monkeypatch):
    pytest.importorskip("numba")
    from spcnn_lightning.compiled import adding

    generator = torch.Generator().manual_seed(3)
    coords = torch.nonzero(torch.rand(2, 9, 8, generator=generator) < 0.5).int()
    if shuffled:
        coords = coords[torch.randperm(len(coords), generator=generator)]
    found = kernel_map(ActiveSet(coords, (9, 8), 2), ConvGeometry((3, 3)))
    rows = torch.randn(len(coords), 4, generator=generator, dtype=dtype)
    weight = torch.randn(9, 4, 6, generator=generator, dtype=dtype)
    matrix = weight.transpose(0, 1).reshape(4, -1)
    monkeypatch.setattr(torch_rows, "LEAST_ROWS", 7)
    monkeypatch.setattr(torch_rows, "CACHE_BLOCK", 1)
    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(compiled, "WAKING", 0)
    sums = []
    for worth in (10**18, 0):
        monkeypatch.setattr(compiled, "WORTH_COMPILING", worth)
        sums.append(torch_project.project(rows, matrix, found.out_to_in, found.in_to_out))
    assert torch.equal(sums[0], sums[1])
    assert adding.in_order(found.out_to_in, len(coords)) is not shuffled
    padded = torch.cat([rows, rows.new_zeros(1, 4)])
    # Products are rounded to their dtype, sums once more.
    terms = torch.einsum("mkc,kcd->mkd", padded[found.out_to_in], weight)
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    torch.testing.assert_close(sums[1], terms.to(wide).sum(1).to(dtype))


@pytest.mark.parametrize("count", [1, 2, 3, 40])
@pytest.mark.parametrize("shuffled", [False, True])
def test_lanes_share_no_window(shuffled, count):
    pytest.importorskip("numba")
    from spcnn_lightning.compiled import adding

    generator = torch.Generator().manual_seed(3)
    coords = torch.nonzero(torch.rand(8, 9, 8, generator=generator) < 0.5).int()
    if shuffled:
        coords = coords[torch.randperm(len(coords), generator=generator)]
    found = kernel_map(ActiveSet(coords, (9, 8), 8), ConvGeometry((3, 3)))
    lanes = adding.lanes(found.in_to_out, found.num_outputs, count)
    assert [row for lane in lanes for row in range(lane.start, lane.stop)] == [*range(len(coords))]
    windows = [set(found.in_to_out[lane].flatten().tolist()) for lane in lanes]
    assert sum(map(len, windows)) == len(set().union(*windows)) + (len(lanes) - 1) * (
        found.num_outputs in windows[0]
    )
    assert len(lanes) == (count if count < 4 and not shuffled else 1)


@pytest.mark.parametrize("geometry", [ConvGeometry((3, 3)), ConvGeometry.submanifold((3, 3))])
def test_short_numbers_are_added_up_in_float32(geometry, monkeypatch):
    coords = torch.cartesian_prod(torch.zeros(1), *[torch.arange(9.0)] * 2).int()
    found = kernel_map(ActiveSet(coords, (9, 9), 1), geometry)
    rows = torch.randn(81, 1, generator=torch.Generator().manual_seed(0)).bfloat16()
    weight = torch.ones(9, 1, 4, dtype=torch.bfloat16)
    expected = torch.cat([rows.float(), torch.zeros(1, 1)])[found.out_to_in].sum(1).bfloat16()
    for worth in (10**18, 0):
        monkeypatch.setattr(compiled, "WORTH_COMPILING", worth)
        for way in (torch_ways.ProjectFirst, torch_ways.ByTap):
            out = way.apply(rows, weight, found, False)
            assert torch.equal(out, expected.expand(-1, 4))
