import copy
import gc
import pickle
import weakref

import pytest
import torch

from spcnn_lightning import compiled
from spcnn_lightning.core import map_tables as module
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.kernel_map import build_kernel_map, kernel_map

GEOMETRIES = [
    ConvGeometry((2,), 2, 1),
    ConvGeometry((2, 2)),
    ConvGeometry((3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2)),
    ConvGeometry((3, 3), offsets=[(0, 0), (2, 1), (1, 2)]),
    ConvGeometry((2, 3, 1), 2, 1),
    ConvGeometry((2, 1, 2, 2), 1, 1),
    ConvGeometry.submanifold((2, 3)),
    ConvGeometry.submanifold((3, 1, 2), 2),
]
SHAPES = {1: (9,), 2: (6, 5), 3: (4, 5, 3), 4: (3, 2, 3, 3)}


def random_set(shape, density=0.3, batch_size=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch_size, *shape, generator=generator) < density
    coords = mask.nonzero().int()
    return ActiveSet(coords[torch.randperm(len(coords), generator=generator)], shape, batch_size)


def triples(active, geometry):
    """Every (input site, tap, output site), from the one relation, site by site."""
    shape = geometry.output_shape(active.spatial_shape)
    found = set()
    known = {tuple(site) for site in active.coords.tolist()}
    for sample, *site in known:
        for number, tap in enumerate(geometry.offsets):
            out = []
            for i, t, s, (low, _), d, n in zip(
                site, tap, geometry.stride, geometry.padding, geometry.dilation, shape, strict=True
            ):
                place, rest = divmod(i + low - d * t, s)
                if rest == 0 and 0 <= place < n:
                    out.append(place)
            target = (sample, *out)
            if len(out) == len(shape) and (
                geometry.activity is Activity.DILATING or target in known
            ):
                found.add(((sample, *site), number, target))
    return found


@pytest.fixture(params=["unique", "table", "numba"])
def way(request, monkeypatch):
    monkeypatch.setattr(module, "TABLE_FACTOR", 1000 if request.param == "table" else 0)
    if request.param == "numba":
        pytest.importorskip("numba")
        refused = pytest.fail  # a field of this size must not fall back
        monkeypatch.setattr(module, "_built", lambda *_: refused("not compiled"))
    monkeypatch.setattr(compiled, "WORTH_COMPILING", 0 if request.param == "numba" else 10**18)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_map_holds_the_triples_of_the_relation(geometry, way):
    active = random_set(SHAPES[geometry.dimensions])
    built = build_kernel_map(active, geometry)
    expected = triples(active, geometry)
    inputs, outputs = ([tuple(site) for site in s.coords.tolist()] for s in (active, built.output))
    n, m = len(inputs), len(outputs)
    assert len(set(outputs)) == m
    if geometry.activity is Activity.DILATING:
        assert set(outputs) == {target for *_, target in expected}
        assert outputs == sorted(outputs)
    else:
        assert built.output is active

    forward = {
        (inputs[row], tap, outputs[target])
        for row, targets in enumerate(built.in_to_out.tolist())
        for tap, target in enumerate(targets)
        if target < m
    }
    backward = {
        (inputs[row], tap, outputs[target])
        for target, rows in enumerate(built.out_to_in.tolist())
        for tap, row in enumerate(rows)
        if row < n
    }
    rows_in, rows_out, counts = built.pairs
    taps = torch.arange(geometry.num_taps).repeat_interleave(torch.tensor(counts)).tolist()
    listed = [
        (inputs[i], tap, outputs[o])
        for i, o, tap in zip(rows_in.tolist(), rows_out.tolist(), taps, strict=True)
    ]
    assert forward == backward == set(listed) == expected
    assert built.num_pairs == len(listed) == len(expected)
    assert (built.num_inputs, built.num_outputs) == (n, m)
    assert built.in_to_out.max() <= m
    assert built.out_to_in.max() <= n


@pytest.mark.parametrize("worth", [0, 10**18], ids=["numba", "torch"])
@pytest.mark.parametrize("width", [7, 64, 65, 3000])
def test_large_fields_are_numbered_alike(width, worth, monkeypatch):
    """Fields that end within and at a word of bits, and one too large for a bit a site."""
    monkeypatch.setattr(compiled, "WORTH_COMPILING", worth)
    generator = torch.Generator().manual_seed(width)
    coords = torch.randint(0, width, (40, 3), generator=generator, dtype=torch.int32)
    coords[:, 0] %= 4
    coords[0] = torch.tensor([3, width - 1, width - 1])
    active = ActiveSet(torch.unique(coords, dim=0).flip(0), (width, width), 4)
    for geometry in (ConvGeometry((2, 3), 1, 1), ConvGeometry.submanifold((3, 3))):
        built = build_kernel_map(active, geometry)
        fields = torch.zeros(4, 1, width, width).index_put(
            (
                active.coords[:, 0].long(),
                torch.zeros(len(active), dtype=torch.long),
                *active.coords[:, 1:].long().T,
            ),
            torch.arange(1.0, len(active) + 1),
        )
        (top, bottom), (left, right) = geometry.padding
        fields = torch.nn.functional.pad(fields, (left, right, top, bottom))[:, 0]
        sample, row, column = built.output.coords.long().T
        for tap, (down, across) in enumerate(geometry.offsets):
            expected = fields[sample, row + down, column + across].long() - 1
            expected[expected < 0] = len(active)
            assert torch.equal(built.out_to_in[:, tap], expected)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_an_empty_set_has_an_empty_map(geometry):
    shape = SHAPES[geometry.dimensions]
    empty = ActiveSet(torch.zeros(0, 1 + len(shape), dtype=torch.int32), shape, 2)
    built = build_kernel_map(empty, geometry)
    assert (built.num_inputs, built.num_outputs, built.num_pairs) == (0, 0, 0)
    assert built.out_to_in.shape == built.in_to_out.shape == (0, geometry.num_taps)
    assert built.output.batch_size == 2


def test_slots_outside_the_field_are_known():
    active = random_set((4, 5), density=1, batch_size=1)
    built = build_kernel_map(active, ConvGeometry((3, 2), 1, ((1, 2), (0, 1))))
    rows = {tuple(site): row for row, site in enumerate(built.output.coords.tolist())}
    assert built.outside is not None
    corner = built.outside[rows[0, 0, 0]].view(3, 2)
    assert corner.tolist() == [[True, True], [False, False], [False, False]]
    assert bool((built.outside == (built.out_to_in == built.num_inputs)).all())
    assert build_kernel_map(active, ConvGeometry((2, 2))).outside is None


def test_equal_windows_share_one_map_and_one_output():
    active = random_set((6, 5))
    first = kernel_map(active, ConvGeometry((2, 2)))
    assert kernel_map(active, ConvGeometry([2, 2], stride=(1, 1))) is first
    assert kernel_map(active, ConvGeometry((2, 2), 2)).output is not first.output
    again = kernel_map(first.output, ConvGeometry((2, 1)))
    assert (
        kernel_map(kernel_map(active, ConvGeometry((2, 2))).output, ConvGeometry((2, 1))) is again
    )


def test_the_output_knows_its_place_in_the_input_grid():
    active = random_set((12, 12))
    padded = kernel_map(active, ConvGeometry((2, 2), 2, ((1, 0), (0, 1)))).output
    assert (padded.tensor_stride, padded.offset) == ((2, 2), (-1, 0))
    deeper = kernel_map(padded, ConvGeometry((3, 3), (1, 2), 1)).output
    assert (deeper.tensor_stride, deeper.offset) == ((2, 4), (-3, -2))


def test_large_fields_with_few_sites():
    """More sites than int32 can number, and no table of them."""
    shape = (60_000, 50_000)
    coords = torch.tensor([[0, 0, 0], [0, 59_999, 49_999], [1, 40_000, 7], [1, 40_001, 8]]).int()
    active = ActiveSet(coords, shape, 2)
    built = kernel_map(active, ConvGeometry((2, 2), padding=1))
    assert built.num_pairs == 16
    assert built.num_outputs == 15
    assert built.output.coords.max(0).values.tolist() == [1, 60_000, 50_000]
    same = kernel_map(active, ConvGeometry.submanifold((3, 3)))
    assert same.num_pairs == 6
    assert same.output is active


def test_a_submanifold_window_must_keep_the_field():
    geometry = ConvGeometry((3, 3), activity=Activity.SUBMANIFOLD)
    with pytest.raises(ValueError, match=r"turns \(6, 5\) into \(4, 3\): build.*submanifold\("):
        kernel_map(random_set((6, 5)), geometry)


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"kernel_size \(7, 1\).*does not fit"):
        kernel_map(random_set((6, 5)), ConvGeometry((7, 1)))


def test_padding_may_not_blow_a_field_up_beyond_what_keys_can_number():
    active = ActiveSet(torch.zeros(0, 3, dtype=torch.int32), (4, 4), 1)
    with pytest.raises(ValueError, match="more sites than"):
        kernel_map(active, ConvGeometry((1, 1), padding=2**31))


def test_maps_of_inference_mode_serve_training_later():
    with torch.inference_mode():
        active = random_set((6, 5))
        built = kernel_map(active, ConvGeometry((2, 2), padding=1))
        lazily = (built.in_to_out, built.out_to_in, *built.pairs[:2])
        assert built.outside is not None
    for tensor in (*lazily, built.output.coords):
        assert not tensor.is_inference()


@pytest.mark.parametrize("submanifold", [False, True])
def test_maps_die_with_their_batch(submanifold):
    """Without the garbage collector, which would let hundreds of batches pile up first."""
    active = random_set((6, 7))
    window = ConvGeometry.submanifold((3, 3)) if submanifold else ConvGeometry((3, 3))
    found = kernel_map(active, window)
    assert (found.output is active) == submanifold
    watch = weakref.ref(active)
    gc.disable()
    try:
        del active
        assert watch() is None
    finally:
        gc.enable()
    assert found.num_outputs >= 0
    if submanifold:
        with pytest.raises(ReferenceError, match="keep the set"):
            found.output  # noqa: B018


def test_maps_travel_with_their_set():
    active = random_set((6, 7))
    windows = ConvGeometry.submanifold((3, 3)), ConvGeometry((2, 3))
    maps = [kernel_map(active, window) for window in windows]
    for copied in (pickle.loads(pickle.dumps(active)), copy.deepcopy(active)):
        for window, original in zip(windows, maps, strict=True):
            found = copied.kernel_map("core", window, list)
            assert torch.equal(found.in_to_out, original.in_to_out)
            assert torch.equal(found.output.coords, original.output.coords)
        assert copied.kernel_map("core", windows[0], list).output is copied
