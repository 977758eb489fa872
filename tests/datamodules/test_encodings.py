import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    Bitmap,
    Curvature,
    Encodings,
    HandwritingDataModule,
    HandwritingDataset,
    LogSignature,
    Octogram,
    PenDigits8,
    Pressure,
    Rasteriser,
    Signature,
    SpaceTime,
    Speed,
    Strokes,
    StrokeSet,
    UndirectedOctogram,
    largest_features,
)
from spcnn_lightning.datamodules.raster import PenPaths, walk_paths
from spcnn_lightning.datamodules.strokes import offsets_of

ALL = [
    *(Bitmap(), Octogram(), UndirectedOctogram(), Curvature(), Speed(), Pressure()),
    *(Signature(m) for m in range(5)),
    *(LogSignature(m) for m in range(4)),
    Encodings([Octogram(), Signature(2), Curvature(), Speed(), Pressure()]),
]


def names(encoder):
    return f"{type(encoder).__name__}-{encoder.in_channels}"


def timed_digits(count=40):
    """Digits with 10 ms between points, and made-up pressures."""
    digits = PenDigits8().train().select(range(count))
    number = np.arange(len(digits.points), dtype=np.float32)
    return replace(digits, time=10 * number, pressure=1 + np.sin(number))


def paths_of(*samples, time=None, pressure=None):
    strokes = [np.asarray(stroke, float) for sample in samples for stroke in sample]
    lengths, numbers = [len(stroke) for stroke in strokes], [len(sample) for sample in samples]
    optional = (None if x is None else np.asarray(x, float) for x in (time, pressure))
    return PenPaths(np.concatenate(strokes), offsets_of(lengths), offsets_of(numbers), *optional)


@pytest.mark.parametrize("encoder", ALL, ids=names)
def test_features_are_what_the_encoder_states(encoder):
    digits = timed_digits()
    rasteriser = Rasteriser((48, 48), 16, encoder)
    raster = rasteriser(digits)
    assert raster.features.dtype == np.float32
    assert raster.features.shape == (len(raster.coords), encoder.in_channels)
    assert len(set(encoder.channel_names)) == len(encoder.ranges) == encoder.in_channels
    scaled = raster.features / largest_features(digits, rasteriser).numpy()
    low, high = np.array(encoder.ranges).T
    assert (scaled.min(axis=0) >= low - 1e-6).all()
    assert (scaled.max(axis=0) <= high + 1e-6).all()
    signed = low < 0
    assert (scaled.min(axis=0) < 0)[signed].any() == signed.any(), "the range is not too wide"


@pytest.mark.parametrize("encoder", ALL, ids=names)
def test_a_sample_has_the_same_features_in_every_batch(encoder):
    digits, rasteriser = timed_digits(12), Rasteriser((48, 48), 16, encoder)
    batch = rasteriser(digits)
    for number in range(12):
        alone = rasteriser(digits.select([number]))
        rows = batch.coords[:, 0] == number
        np.testing.assert_array_equal(batch.coords[rows, 1:], alone.coords[:, 1:])
        np.testing.assert_allclose(batch.features[rows], alone.features, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("encoder", [*ALL, SpaceTime(Octogram())], ids=names)
def test_nothing_and_dots_can_be_encoded(encoder):
    shape = (9, 9, 9)[: encoder.num_axes]
    digits = timed_digits(1)
    assert Rasteriser(shape, 3, encoder)(digits.select([])).features.shape[0] == 0
    dot = StrokeSet.from_strokes([Strokes([(3, 4)], [0, 1], 0, time=[5], pressure=[2])])
    raster = Rasteriser(shape, 3, encoder)(dot)
    assert raster.coords.tolist() == [[0, *(4,) * encoder.num_axes]]
    assert np.isfinite(raster.features).all()


def test_encodings_stand_side_by_side_and_touched_stands_once():
    digits = timed_digits()
    both = Encodings([Curvature(), Octogram(), Signature(1), Bitmap()])
    assert both.channel_names == (
        *Curvature().channel_names,
        *Octogram().channel_names,
        *Signature(1).channel_names[1:],
    )
    features = Rasteriser((48, 48), 16, both)(digits).features
    for part, columns in ((Curvature(), [0, 1]), (Octogram(), range(2, 11))):
        alone = Rasteriser((48, 48), 16, part)(digits).features
        np.testing.assert_array_equal(features[:, columns], alone)
    alone = Rasteriser((48, 48), 16, Signature(1))(digits).features
    np.testing.assert_array_equal(features[:, 11:], alone[:, 1:])


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ([], "no encoders given"),
        ([Speed(), Speed(reach=3.0)], "speed would stand twice"),
        ([Octogram(), SpaceTime(Octogram())], "direction_0.* would stand twice"),
        ([Octogram(), SpaceTime(Pressure())], r"fields of \[2, 3\] axes"),
        ([SpaceTime(Bitmap()), SpaceTime(Pressure(), "time")], r"fields of \[3, 3\] axes"),
    ],
)
def test_encodings_that_do_not_fit_together_are_refused(encoders, message):
    with pytest.raises(ValueError, match=message):
        Encodings(encoders)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Encodings([Octogram(), Speed()]), "Speed needs the time of each pen point, which PenDig"),
        (Pressure(), "Pressure needs the pressure of each pen point, which PenDigits8 does not"),
        (SpaceTime(Bitmap(), by="time"), "SpaceTime needs the time"),
        (SpaceTime(Speed()), "Speed needs the time"),
    ],
)
def test_what_was_not_recorded_is_an_error_that_names_the_source(encoder, message):
    data = HandwritingDataModule(PenDigits8(), encoder=encoder)
    with pytest.raises(DataError, match=message):
        data.setup("fit")


@pytest.mark.parametrize("angle", [0, 10, 45, 100, 135, 200, 300])
def test_a_line_weighs_the_same_there_and_back(angle):
    way = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    bins = [
        UndirectedOctogram().encode(walk_paths(paths_of([stroke]), (24, 24)))[:, 1:].sum(axis=0)
        for stroke in ([-5 * way, 5 * way], [5 * way, -5 * way])
    ]
    np.testing.assert_allclose(bins[0], bins[1], atol=0.02)
    expected = np.zeros(4)
    lower, share = divmod(angle, 45)
    expected[lower % 4], expected[(lower + 1) % 4] = 100 * (1 - share / 45), 100 * share / 45
    np.testing.assert_allclose(bins[0], expected, atol=0.02)


def test_opposite_directions_of_the_octogram_add_up_to_the_undirected_one():
    digits = timed_digits()
    octogram = Rasteriser((48, 48), 16, Octogram())(digits).features
    lines = Rasteriser((48, 48), 16, UndirectedOctogram())(digits).features
    np.testing.assert_allclose(octogram[:, 1:5] + octogram[:, 5:], lines[:, 1:], atol=1e-5)


@pytest.mark.parametrize("radius", [4.0, 9.0])
@pytest.mark.parametrize("way", [1, -1])
def test_the_curvature_of_a_circle_is_its_chord_over_its_radius(radius, way):
    angle = way * np.linspace(0, 2 * math.pi, 400)
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    walk = walk_paths(paths_of([circle]), (30, 30))
    features = Curvature(reach=2.0).encode(walk)
    inner = features[features[:, 1] > 0.9 * np.median(features[:, 1])]  # not the two ends
    turn = 2.0 / radius
    np.testing.assert_allclose(inner[:, 0], way * math.sin(turn), rtol=0.05)
    np.testing.assert_allclose(inner[:, 1], (1 - math.cos(turn)) / 2, rtol=0.1)


def test_a_line_does_not_turn_and_a_cusp_turns_back():
    walk = walk_paths(paths_of([[(0, -8), (0, 8)], [(5, -8), (5, 8.4), (5, -8)]]), (24, 24))
    features = Curvature(reach=2.0).encode(walk)
    np.testing.assert_allclose(features[walk.coords[:, 1] == 12], 0, atol=1e-6)
    cusp = features[(walk.coords[:, 1] == 17) & (walk.coords[:, 2] == 20)]
    assert cusp[0, 1] > 0.7
    assert abs(cusp[0, 0]) < 0.1


def test_speed_is_a_share_of_twice_the_mean():
    """Eight sites in one second, then eight in three: the mean is four a second."""
    stroke = [(0, -8), (0, 0), (0, 8)]
    for unit in (1, 1000):
        walk = walk_paths(paths_of([stroke], time=np.array([0, 1, 4]) * unit), (24, 24))
        speed = Speed(reach=1.0).encode(walk)[:, 0]
        np.testing.assert_allclose(speed[:6], 8 / (8 + 4), rtol=1e-6)
        np.testing.assert_allclose(speed[-6:], (8 / 3) / (8 / 3 + 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("time", "expected"),
    [([0, 0, 0], 0.5), ([5, 5, 9], 1.0), ([9, 5, 1], 0.5)],
    ids=["no time at all", "half in no time", "a clock that runs back"],
)
def test_odd_clocks_give_finite_speeds(time, expected):
    walk = walk_paths(paths_of([[(0, -8), (0, 0), (0, 8)]], time=time), (24, 24))
    speed = Speed(reach=1.0).encode(walk)[:, 0]
    assert ((speed >= 0) & (speed <= 1)).all()
    assert speed[0] == expected


def test_a_pause_of_the_pen_slows_it_where_it_paused():
    stroke = [(0, -8), (0, 0.5), (0, 0.5), (0, 8)]
    walk = walk_paths(paths_of([stroke], time=[0, 1, 9, 10]), (24, 24))
    speed = Speed(reach=1.0).encode(walk)[:, 0]
    assert speed[walk.coords[:, 2] == 12] < 0.4
    assert speed[0] > 0.8


def test_pressure_is_interpolated_and_averaged_over_the_site():
    walk = walk_paths(paths_of([[(0, 0), (0, 10)]], pressure=[0, 20]), (24, 24))
    pressure = Pressure().encode(walk)[:, 0]
    np.testing.assert_allclose(pressure, 2 * np.arange(10) + 0.9, atol=1e-4)  # starts of steps


@pytest.mark.parametrize("by", ["length", "time"])
def test_space_time_lifts_strokes_as_they_go(by):
    strokes = [[(0, 0), (0, 4)], [(4, 4), (4, 0)]]
    letter = Strokes.from_lists(strokes, label=0)
    letter = replace(letter, time=np.array([100, 200, 300, 500], np.float32))
    raster = Rasteriser((12, 12, 24), 4, SpaceTime(Octogram(), by))(
        StrokeSet.from_strokes([letter])
    )
    coords = raster.coords
    assert coords.shape[1] == 4
    first = coords[coords[:, 1] == 4]
    second = coords[coords[:, 1] == 8]
    assert (first[:, 3].min(), second[:, 3].max()) == (8, 15), "the middle third of 24"
    assert first[:, 3].max() == {"length": 11, "time": 9}[by]
    assert second[:, 3].min() == {"length": 12, "time": 12}[by]
    assert (np.diff(first[:, 3]) >= 0).all()
    flat = Rasteriser((12, 12), 4, Octogram())(StrokeSet.from_strokes([letter]))
    np.testing.assert_allclose(raster.features[:, 1:].sum(axis=0), flat.features[:, 1:].sum(axis=0))


def test_lines_that_cross_in_the_plane_part_in_space_time():
    cross = StrokeSet.from_strokes([Strokes.from_lists([[(4, 0), (4, 8)], [(0, 4), (8, 4)]], 0)])
    flat = Rasteriser((24, 24), 8, Bitmap())(cross)
    lifted = Rasteriser((24, 24, 24), 8, SpaceTime(Bitmap()))(cross)
    middle = (lifted.coords[:, 1:3] == 12).all(axis=1)
    assert (flat.coords[:, 1:] == 12).all(axis=1).sum() == 1
    assert len(set(lifted.coords[middle, 3])) > 1


def test_the_place_of_a_site_in_time_does_not_depend_on_the_batch():
    # After a quarter of the way, a stroke begins where two sites meet.
    quarter = Strokes.from_lists([[(0, 0), (1, 0.5)], [(0, 0), (3, 1.5)]], 0)
    long = Strokes.from_lists([np.random.default_rng(1).uniform(0, 9, (150, 2)).tolist()], 0)
    rasteriser = Rasteriser((12, 12, 24), 4, SpaceTime(Bitmap()))
    alone = rasteriser(StrokeSet.from_strokes([quarter])).coords[:, 1:]
    for before in range(1, 30):
        coords = rasteriser(StrokeSet.from_strokes([*[long] * before, quarter])).coords
        np.testing.assert_array_equal(coords[coords[:, 0] == before, 1:], alone)


@pytest.mark.parametrize("kind", [Curvature, Speed])
@pytest.mark.parametrize("box", [16, 48])
def test_the_usual_reach_is_a_sixteenth_of_the_box(kind, box):
    rng = np.random.default_rng(3)
    strokes = np.split(rng.uniform(-box / 2, box / 2, (9, 2)), [5])
    paths = paths_of(strokes, time=np.cumsum(rng.random(9)))
    walk = walk_paths(paths, (3 * box, 3 * box), box=box)
    np.testing.assert_array_equal(kind().encode(walk), kind(box / 16).encode(walk))
    assert not np.array_equal(kind().encode(walk), kind(box / 8).encode(walk))


def test_the_mean_speed_leaves_out_the_time_between_strokes():
    strokes = [[(-2, -4), (-2, 4)], [(2, -4), (2, 4)]]
    without, long = (
        Speed().encode(walk_paths(paths_of(strokes, time=time), (24, 24)))
        for time in ([0, 10, 10, 40], [0, 10, 1010, 1040])
    )
    np.testing.assert_allclose(without, long, atol=1e-6)
    assert without.max() > 0.5 > without.min()


def test_space_time_makes_batches_for_3d_networks():
    data = HandwritingDataModule(box=8, encoder=SpaceTime(Octogram()), num_workers=0)
    assert data.spatial_shape == (24, 24, 24)
    dataset = HandwritingDataset(PenDigits8().train(), data.evaluation_rasteriser)
    batch, targets = dataset.prepare([1, 2, 3])
    assert batch.active_set.spatial_shape == (24, 24, 24)
    assert batch.active_set.coords.shape[1] == 4
    assert torch.equal(targets, torch.from_numpy(PenDigits8().train().labels[1:4]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpaceTime(Octogram(), by="age"), "by is 'age'"),
        (lambda: SpaceTime(SpaceTime(Octogram())), "has a third axis already"),
        (lambda: Rasteriser((24, 24, 24), 8, Octogram()), "has 3 axes, Octogram needs 2"),
        (lambda: Rasteriser((24, 24), 8, SpaceTime(Octogram())), "SpaceTime needs 3"),
        (lambda: Curvature(reach=0.0), "reach is 0.0"),
        (lambda: Speed(reach=math.inf), "reach is inf"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
