from dataclasses import replace

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    Augmentations,
    Bitmap,
    Elastic,
    HandwritingAugmentation,
    HandwritingDataModule,
    Mirror,
    PenDigits8,
    Rasteriser,
    SpeedWarp,
    StrokeDropping,
    Strokes,
    StrokeSet,
)
from spcnn_lightning.datamodules.randomness import SampleRandom
from spcnn_lightning.datamodules.raster import normalise
from spcnn_lightning.datamodules.raster.distortions import _waves

BOX = 16
STILL = HandwritingAugmentation(0.0, 0.0, 0.0, 0.0, 0.0)
EACH = {
    "elastic": Elastic(0.05),
    "dropping": StrokeDropping(0.4),
    "mirror": Mirror(),
    "speed": SpeedWarp(0.5),
    "all": Augmentations([HandwritingAugmentation(), Elastic(), StrokeDropping(), SpeedWarp()]),
}
each = pytest.mark.parametrize("augmentation", EACH.values(), ids=EACH)


def letters(count):
    """Letters of three strokes and ten points each, with times and pressures."""
    numbers = np.random.default_rng(0)
    return StrokeSet.from_strokes(
        Strokes(
            numbers.uniform(0, 9, (10, 2)),
            [0, 4, 8, 10],
            0,
            time=100 * number + np.cumsum(numbers.uniform(0, 20, 10)),
            pressure=numbers.uniform(0, 1, 10),
        )
        for number in range(count)
    )


def random_of(indices, epoch=0, seed=1):
    indices = np.asarray(indices)
    return SampleRandom(seed, np.full(len(indices), epoch), indices)


def distorted(augmentation, indices, **random):
    paths = normalise(letters(30).select(indices), BOX)
    return augmentation(paths, BOX, random_of(indices, **random))


def arrays_of(paths):
    return {name: value for name, value in vars(paths).items() if value is not None}


def assert_same(one, other):
    assert arrays_of(one).keys() == arrays_of(other).keys()
    for name, value in arrays_of(one).items():
        np.testing.assert_allclose(
            value, arrays_of(other)[name], rtol=1e-12, atol=1e-9, err_msg=name
        )


@each
def test_a_sample_is_distorted_alike_in_every_batch(augmentation):
    indices = np.array([5, 3, 28, 17])
    batch = distorted(augmentation, indices)
    for place, index in enumerate(indices):
        alone = distorted(augmentation, [index])
        strokes = slice(*batch.stroke_offsets[place : place + 2])
        points = slice(*batch.point_offsets[[strokes.start, strokes.stop]])
        np.testing.assert_array_equal(batch.points[points], alone.points)
        np.testing.assert_array_equal(
            np.diff(batch.point_offsets)[strokes], np.diff(alone.point_offsets)
        )
        np.testing.assert_allclose(batch.time[points], alone.time, rtol=1e-12)
        np.testing.assert_array_equal(batch.pressure[points], alone.pressure)


@each
def test_the_same_seed_and_epoch_give_the_same_and_others_do_not(augmentation):
    first = distorted(augmentation, range(30))
    assert_same(first, distorted(augmentation, range(30)))
    for other in ({"epoch": 1}, {"seed": 2}):
        changed = arrays_of(distorted(augmentation, range(30), **other))
        assert any(not np.array_equal(v, changed[name]) for name, v in arrays_of(first).items())


@pytest.mark.parametrize(
    "augmentation",
    [
        Elastic(0.0),
        StrokeDropping(0.0),
        Mirror(0.0),
        SpeedWarp(0.0),
        Augmentations([STILL, Elastic(0.0)]),
    ],
    ids=lambda augmentation: type(augmentation).__name__,
)
def test_no_amount_changes_nothing(augmentation):
    assert_same(distorted(augmentation, range(30)), normalise(letters(30), BOX))


@each
def test_an_empty_batch_stays_empty(augmentation):
    assert len(distorted(augmentation, np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize("box", [16, 64])
def test_elastic_displacements_have_the_stated_size(box):
    square = Strokes.from_lists([[(0, 0), (0, 4), (2, 2), (4, 4), (4, 0)]], label=0)
    paths = normalise(StrokeSet.from_strokes([square] * 3000), box)
    moved = Elastic(0.04)(paths, box, random_of(range(3000))).points - paths.points
    moved = moved.reshape(3000, 5, 2)
    np.testing.assert_allclose(moved.std(axis=0), 0.04 * box, rtol=0.1)
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=0.004 * box)
    assert np.abs(np.corrcoef(moved[:, 0].T)[0, 1]) < 0.1, "rows and columns are independent"


@pytest.mark.parametrize("axis", [0, 1])
def test_elastic_fields_are_smooth_and_far_points_move_apart(axis):
    line = np.zeros((101, 2))
    line[:, axis] = np.linspace(-8, 8, 101)
    paths = normalise(StrokeSet.from_strokes([Strokes.from_lists([line], label=0)] * 500), BOX)
    moved = (Elastic(0.05, 0.3)(paths, BOX, random_of(range(500))).points - paths.points)[:, 0]
    moved = moved.reshape(500, 101)
    correlation = np.corrcoef(moved.T)[0]
    assert correlation[5] > 0.95, "a twentieth of the box away"
    assert abs(correlation[100]) < 0.2, "a box away"
    assert np.abs(np.diff(moved, axis=1)).max() < 0.1, "no jumps between grid cells"


def test_elastic_moves_points_beyond_its_grid_as_those_on_the_border():
    line = Strokes.from_lists([[(0, 0), (0, 1)]], label=0)
    paths = normalise(StrokeSet.from_strokes([line]), BOX)
    far = paths.moved(np.array([[12.0, 12.0], [500.0, 12.0]]))
    moved = Elastic(0.05)(far, BOX, random_of([0])).points - far.points
    np.testing.assert_allclose(moved[0], moved[1])


def test_strokes_are_dropped_with_the_stated_probability_and_one_stays():
    paths = normalise(letters(30).select(np.arange(6000) % 30), BOX)
    for probability in (0.1, 0.9):
        after = StrokeDropping(probability)(paths, BOX, random_of(range(6000)))
        left = np.diff(after.stroke_offsets)
        assert left.min() == 1
        expected = 3 * (1 - probability) + probability**3  # the one that stays of all three
        np.testing.assert_allclose(left.mean(), expected, rtol=0.03)
        assert len(after.points) == after.point_offsets[-1] == len(after.time)


def test_a_sample_is_mirrored_as_a_whole_with_the_stated_probability():
    before = normalise(letters(30).select(np.arange(3000) % 30), BOX)
    after = Mirror(0.25)(before, BOX, random_of(range(3000)))
    np.testing.assert_array_equal(after.points[:, 0], before.points[:, 0])
    np.testing.assert_array_equal(np.abs(after.points[:, 1]), np.abs(before.points[:, 1]))
    turned = after.points[:, 1] != before.points[:, 1]
    sample = before.sample_of_point()
    shares = np.bincount(sample, turned) / np.bincount(sample, before.points[:, 1] != 0)
    assert set(shares) == {0.0, 1.0}
    assert abs(shares.mean() - 0.25) < 0.03


def test_the_strokes_that_stay_are_whole_and_in_order():
    before = normalise(letters(30), BOX)
    after = StrokeDropping(0.5)(before, BOX, random_of(range(30)))
    strokes = [s.tobytes() for s in np.split(before.points, before.point_offsets[1:-1])]
    kept = [s.tobytes() for s in np.split(after.points, after.point_offsets[1:-1])]
    places = [strokes.index(stroke) for stroke in kept]
    assert places == sorted(places)
    samples = np.repeat(np.arange(30), np.diff(after.stroke_offsets))
    assert [place // 3 for place in places] == samples.tolist()


def test_time_goes_on_and_keeps_its_start_while_the_points_stay():
    before = normalise(letters(30), BOX)
    after = SpeedWarp(0.5)(before, BOX, random_of(range(30)))
    np.testing.assert_array_equal(after.points, before.points)
    old, new = before.time.reshape(30, 10).astype(float), after.time.reshape(30, 10)
    np.testing.assert_allclose(new[:, 0], old[:, 0], rtol=1e-6)
    factors = np.diff(new, axis=1) / np.diff(old, axis=1)
    assert (factors > 0).all()
    assert np.log(factors).max() < 0.5 * 2.45 + 0.01
    np.testing.assert_allclose(np.log(factors).std(), 0.5, rtol=0.25)


def test_the_waves_of_time_have_phases_of_their_own():
    sample = np.repeat(np.arange(4000), 3)
    waves = _waves(np.tile([0.0, 0.37, 1.0], 4000), sample, random_of(range(4000)))
    # With one phase p for all, cos p + cos p + cos p would stand at the beginning: variance 3.
    np.testing.assert_allclose(waves.reshape(4000, 3).var(axis=0), 1, rtol=0.1)


def test_a_time_that_stands_still_stays_so():
    paths = replace(normalise(letters(3), BOX), time=np.full(30, 7.0))
    np.testing.assert_allclose(SpeedWarp(0.5)(paths, BOX, random_of(range(3))).time, 7.0)


def test_the_first_of_several_distortions_draws_what_it_draws_alone():
    several = distorted(Augmentations([HandwritingAugmentation(), SpeedWarp()]), range(30))
    alone = distorted(HandwritingAugmentation(), range(30))
    np.testing.assert_array_equal(several.points, alone.points)


def test_equal_distortions_in_a_row_draw_different_numbers():
    once = distorted(Elastic(0.05), range(30)).points
    twice = distorted(Augmentations([Elastic(0.0), Elastic(0.05)]), range(30)).points
    before = normalise(letters(30), BOX).points
    assert abs(np.corrcoef((once - before).ravel(), (twice - before).ravel())[0, 1]) < 0.3


def test_warping_time_without_times_is_an_error_that_names_the_source():
    data = HandwritingDataModule(
        PenDigits8(), augmentation=Augmentations([HandwritingAugmentation(), SpeedWarp()])
    )
    with pytest.raises(DataError, match="SpeedWarp needs the time .* which PenDigits8 does not"):
        data.setup("fit")


def test_all_distortions_run_before_rasterising():
    rasteriser = Rasteriser((48, 48), BOX, Bitmap(), EACH["all"])
    raster = rasteriser(letters(30), random_of(range(30)))
    assert set(raster.coords[:, 0]) == set(range(30))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Elastic(-0.1), "amount is -0.1"),
        (lambda: Elastic(float("nan")), "amount is nan"),
        (lambda: Elastic(0.1, 0.01), "scale is 0.01"),
        (lambda: Mirror(1.1), "probability is 1.1"),
        (lambda: StrokeDropping(1.0), "probability is 1.0"),
        (lambda: StrokeDropping(-0.1), "probability is -0.1"),
        (lambda: SpeedWarp(float("inf")), "amount is inf"),
        (lambda: Augmentations([]), "no augmentations given"),
    ],
)
def test_amounts_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parts_of_nested_augmentations_draw_numbers_of_their_own():
    inner_last = Augmentations([Augmentations([STILL, Elastic(0.05)]), STILL])
    outer_last = Augmentations([Augmentations([STILL, STILL]), Elastic(0.05)])
    one, other = (distorted(a, range(5)).points for a in (inner_last, outer_last))
    assert np.abs(one - other).max() > 0.01
    flat = Augmentations([STILL, Elastic(0.05), STILL])
    assert np.array_equal(one, distorted(flat, range(5)).points)
