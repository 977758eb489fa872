import dataclasses
import math

import numpy as np
import pytest

from spcnn_lightning.datamodules import (
    Bitmap,
    HandwritingAugmentation,
    Octogram,
    PenDigits8,
    Rasteriser,
    Strokes,
    StrokeSet,
)
from spcnn_lightning.datamodules.randomness import SampleRandom
from spcnn_lightning.datamodules.raster import PenPaths, engine, normalise, walk_paths
from spcnn_lightning.datamodules.strokes import offsets_of


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def kernels(request, monkeypatch):
    """Every claim here holds for both engines."""
    if request.param == "numba":
        pytest.importorskip("numba")
    chosen = engine.NUMPY if request.param == "numpy" else engine.numba_kernels()
    monkeypatch.setattr(engine, "kernels_for", lambda samples: chosen)
    return chosen


def paths_of(*samples):
    """PenPaths of samples given as lists of strokes, in sites."""
    strokes = [np.asarray(stroke, float) for sample in samples for stroke in sample]
    return PenPaths(
        np.concatenate(strokes),
        offsets_of([len(stroke) for stroke in strokes]),
        offsets_of([len(sample) for sample in samples]),
    )


def random_samples(seed, count):
    numbers = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        strokes = []
        for _ in range(numbers.integers(1, 4)):
            points = numbers.uniform(-13, 13, (numbers.integers(1, 9), 2))
            if numbers.random() < 0.4:  # repeated points, at the ends too
                points = np.repeat(points, numbers.integers(1, 3, len(points)), axis=0)
            if numbers.random() < 0.2:
                points = points[:1] + numbers.uniform(-0.01, 0.01, points.shape)
            strokes.append(points)
        samples.append(strokes)
    return samples


def assert_equals_reference(per_point, samples, spatial_shape):
    walk = walk_paths(paths_of(*samples), spatial_shape, per_point.DENSITY)
    features = Octogram().encode(walk)
    expected, dropped = {}, []
    for number, sample in enumerate(samples):
        field, lost = per_point.octogram_of(sample, spatial_shape)
        expected |= {(number, *site): values for site, values in field.items()}
        dropped.append(lost)
    assert list(map(tuple, walk.coords.tolist())) == sorted(expected)
    assert walk.dropped.tolist() == dropped
    wanted = np.array([expected[site] for site in sorted(expected)]).reshape(-1, 9)
    np.testing.assert_allclose(features, wanted, atol=2e-5)


@pytest.mark.parametrize("spatial_shape", [(24, 24), (17, 30), (9, 4)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_octogram_equals_the_walk_point_by_point(per_point, seed, spatial_shape):
    assert_equals_reference(per_point, random_samples(seed, 12), spatial_shape)


def test_octogram_of_real_digits_equals_the_walk_point_by_point(per_point):
    digits = PenDigits8().train().select(range(0, 4000, 300))
    paths = normalise(digits, 16)
    pieces = np.split(paths.points, paths.point_offsets[1:-1])
    assert_equals_reference(per_point, [[piece] for piece in pieces], (48, 48))


SPECIAL = {
    "dot": [[(0.3, 0.7)]],
    "dot of several points": [[(0.3, 0.7)] * 4],
    "shorter than half a step": [[(0.3, 0.7), (0.32, 0.7)]],
    "one step": [[(0.3, 0.7), (0.36, 0.7)]],
    "along a border": [[(0.0, -4.0), (0.0, 4.0)]],
    "on the corners of sites": [[(-3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)]],
    "back and forth": [[(0, 0), (0, 3), (0, 0), (0, 3)]],
    "dot between strokes": [[(0, 0), (2, 2)], [(5, 5)], [(-2, 2), (-3, 0)]],
    "far outside": [[(0, 0), (300.0, 40.0)]],
    "all outside": [[(40.0, 40.0), (41.0, 45.0)]],
    "beyond 32 bits": [[(1e13, 0.0), (1e13, 0.3)]],
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_strokes_equal_the_walk_point_by_point(per_point, name):
    assert_equals_reference(per_point, [SPECIAL[name]], (20, 16))
    assert_equals_reference(
        per_point, [SPECIAL["dot"], SPECIAL[name], SPECIAL["one step"]], (20, 16)
    )


def test_a_batch_may_hold_nothing():
    walk = walk_paths(paths_of(SPECIAL["all outside"]), (8, 8))
    assert walk.coords.shape == (0, 3)
    assert walk.dropped.tolist() == [51]
    assert Octogram().encode(walk).shape == (0, 9)
    none = PenDigits8().train().select([])
    assert Rasteriser((8, 8), 4, Bitmap())(none).features.shape == (0, 1)


def test_coordinates_are_sorted_and_unique():
    digits = PenDigits8().train().select(range(50))
    coords = Rasteriser((48, 60), 16, Octogram())(digits).coords
    assert coords.dtype == np.int32
    keys = list(map(tuple, coords.tolist()))
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("angle", [0, 10, 45, 80, 135, 200, 300])
def test_each_step_has_weight_one_shared_by_the_nearest_directions(angle):
    way = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    walk = walk_paths(paths_of([[-5 * way, 5 * way]]), (24, 24))
    bins = Octogram().encode(walk)[:, 1:]
    np.testing.assert_allclose(bins.sum(), 100, rtol=1e-6)
    expected = np.zeros(8)
    lower, share = divmod(angle, 45)
    expected[lower % 8] = 100 * (1 - share / 45)
    expected[(lower + 1) % 8] = 100 * share / 45
    np.testing.assert_allclose(bins.sum(axis=0), expected, atol=1e-4)


def test_ten_degrees_give_the_shares_of_the_paper():
    way = np.array([math.cos(math.radians(10)), math.sin(math.radians(10))])
    bins = Octogram().encode(walk_paths(paths_of([[0 * way, 0.1 * way]]), (8, 8)))[0, 1:]
    np.testing.assert_allclose(bins[:2], [0.778, 0.222], atol=5e-4)


@pytest.mark.parametrize("turns", range(1, 8))
def test_turning_a_stroke_by_45_degrees_shifts_the_directions_by_one(turns):
    stroke = np.random.default_rng(turns).uniform(-5, 5, (7, 2))
    angle = turns * math.pi / 4  # from the row axis towards the column axis
    cos, sin = math.cos(angle), math.sin(angle)
    turned = stroke @ np.array([[cos, sin], [-sin, cos]])
    before, after = (
        Octogram().encode(walk_paths(paths_of([points]), (32, 32)))[:, 1:].sum(axis=0)
        for points in (stroke, turned)
    )
    np.testing.assert_allclose(after, np.roll(before, turns), atol=1e-3)


def test_the_directions_are_those_of_the_doc_string():
    for stroke, direction in [([(0, 0), (5, 0)], 0), ([(0, 0), (0, 5)], 2), ([(0, 0), (-5, 0)], 4)]:
        bins = Octogram().encode(walk_paths(paths_of([stroke]), (32, 32)))[:, 1:].sum(axis=0)
        assert bins.argmax() == direction
        assert Octogram().channel_names[1 + direction] == f"direction_{45 * direction}"


def test_a_bitmap_is_the_first_feature_of_the_octogram():
    digits = PenDigits8().train().select(range(20))
    bitmap = Rasteriser((48, 48), 16, Bitmap())(digits)
    octogram = Rasteriser((48, 48), 16, Octogram())(digits)
    np.testing.assert_array_equal(bitmap.coords, octogram.coords)
    np.testing.assert_array_equal(bitmap.features[:, 0], octogram.features[:, 0])
    assert bitmap.features.dtype == octogram.features.dtype == np.float32


@pytest.mark.parametrize("stretch", [(1, 1), (3, 1), (1, 40)], ids=str)
def test_characters_fill_the_box_and_keep_their_aspect(stretch):
    letter = Strokes.from_lists([np.array([(0, 0), (2, 1), (1, 2)]) * stretch + 77.0], label=0)
    paths = normalise(StrokeSet.from_strokes([letter]), 16)
    extent = paths.points.max(axis=0) - paths.points.min(axis=0)
    np.testing.assert_allclose(extent.max(), 16, rtol=1e-6)
    np.testing.assert_allclose(extent[0] / extent[1], stretch[0] / stretch[1], rtol=1e-5)
    np.testing.assert_allclose(paths.points.max(axis=0), -paths.points.min(axis=0), rtol=1e-5)


def test_a_dot_is_drawn_in_the_middle():
    dot = StrokeSet.from_strokes([Strokes.from_lists([[(123.4, -7.0)]], label=0)])
    raster = Rasteriser((9, 6), 3, Octogram())(dot)
    assert raster.coords.tolist() == [[0, 4, 3]]
    assert raster.features.tolist() == [[1] + [0] * 8]


@pytest.mark.parametrize("volume", [5000, 2**28], ids=["by table", "by sorting"])
def test_sites_are_numbered_in_order(kernels, volume):
    numbers = np.random.default_rng(0)
    keys = np.concatenate([s * volume + numbers.integers(0, 5000, 700) for s in (0, 1, 3)])
    distinct, place = kernels.number_sites(keys, 5, volume)
    np.testing.assert_array_equal(distinct, np.unique(keys))
    np.testing.assert_array_equal(distinct[place], keys)


def test_both_engines_walk_alike_to_the_last_bit(monkeypatch):
    pytest.importorskip("numba")
    samples = random_samples(5, 40) + [[stroke] for sample in SPECIAL.values() for stroke in sample]
    walks = []
    for chosen in (engine.NUMPY, engine.numba_kernels()):
        monkeypatch.setattr(engine, "kernels_for", lambda samples, chosen=chosen: chosen)
        walks.append(walk_paths(paths_of(*samples), (17, 24)))
    for field in dataclasses.fields(walks[0]):
        one, other = (getattr(walk, field.name) for walk in walks)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            np.testing.assert_array_equal(one, other, err_msg=field.name)


@pytest.mark.parametrize(
    ("shape", "box", "density", "message"),
    [
        ((8, 9), 9, 0.1, "box 9 does not fit"),
        ((8, 9), 0, 0.1, "box 0 does not fit"),
        ((8, 9), 4, 0.0, "density is 0.0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(shape, box, density, message):
    with pytest.raises(ValueError, match=message):
        Rasteriser(shape, box, Bitmap(), density=density)


def test_an_augmentation_needs_random_numbers():
    rasteriser = Rasteriser((48, 48), 16, Bitmap(), HandwritingAugmentation())
    with pytest.raises(ValueError, match="needs random numbers"):
        rasteriser(PenDigits8().train().select([0]))


def keys_of(indices, epoch=0, seed=1):
    indices = np.asarray(indices)
    return SampleRandom(seed, np.full(len(indices), epoch), indices)


def test_the_dropped_steps_are_counted():
    digits = PenDigits8().train().select(range(30))
    shifted = Rasteriser((17, 17), 16, Bitmap(), HandwritingAugmentation(shift=12.0))
    still = Rasteriser((17, 17), 16, Bitmap())
    assert still(digits).dropped.sum() == 0
    assert (shifted(digits, keys_of(range(30))).dropped > 0).sum() > 20


def test_compiling_waits_until_it_pays(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(engine, "_walked", 0)
    monkeypatch.setattr(engine, "has_numba", lambda: True)
    monkeypatch.setattr(engine, "numba_kernels", lambda: "compiled")
    assert engine.kernels_for(engine.WORTH_COMPILING - 1) is engine.NUMPY
    assert engine.kernels_for(1) == "compiled"
    monkeypatch.setattr(engine, "has_numba", lambda: False)
    assert engine.kernels_for(1) is engine.NUMPY


def test_ties_fall_alike_alone_and_in_a_batch(kernels):
    """On a tablet of whole numbers, many lengths are an exact half of a step."""
    numbers = np.random.default_rng(0)
    samples = []
    for _ in range(60):
        begin, length = numbers.integers(2, 290, (4, 2)), 2 * numbers.integers(0, 6, (4, 1)) + 1
        lines = np.stack([begin, begin + length * [0, 1]], axis=1)
        # The two dots in the corners make 320 units 16 sites, and an odd unit half a step.
        samples.append([[(0, 0)], [(320, 320)], *lines])
    strokes = StrokeSet.from_strokes(Strokes.from_lists(sample, label=0) for sample in samples)
    rasterise = Rasteriser((48, 48), 16, Octogram())
    together = rasterise(strokes, keys_of(range(60)))
    for number in range(60):
        alone = rasterise(strokes.select([number]), keys_of([number]))
        of_batch = together.coords[:, 0] == number
        assert np.array_equal(alone.coords[:, 1:], together.coords[of_batch][:, 1:])
        np.testing.assert_allclose(alone.features, together.features[of_batch], atol=1e-4)
