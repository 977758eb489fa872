import hashlib

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import SimulatedHanzi, StrokeSet, Subset, split_validation
from spcnn_lightning.datamodules.sources.class_table import level1_characters
from spcnn_lightning.datamodules.sources.simulated_hanzi import (
    DATA,
    FIRST_TEST_WRITER,
    TEMPLATES,
)
from spcnn_lightning.datamodules.sources.simulated_writers import SPACING, resampled
from spcnn_lightning.datamodules.sources.templates import read_templates


@pytest.fixture(scope="module")
def full():
    """The part of full size, 240 writers and all classes; nothing of it is in memory."""
    return SimulatedHanzi().characters("train")


def assert_same_bits(one, other):
    for name in ("points", "point_offsets", "stroke_offsets", "labels", "writers"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def test_it_has_the_size_of_casia(full):
    source = SimulatedHanzi()
    assert source.class_names == level1_characters()
    assert (len(full), len(source.characters("test"))) == (901_200, 225_300)
    assert np.bincount(full.labels).tolist() == [240] * 3755
    assert np.unique(full.writers).tolist() == list(range(240))


def test_the_licence_travels_with_the_templates():
    assert "ARPHIC PUBLIC LICENSE" in SimulatedHanzi().licence_text
    assert "What was changed, November 2026" in (DATA / "hanzi_gb1_u8.LICENCE.txt").read_text()
    assert "simulated" in SimulatedHanzi().citation.lower()


def test_a_character_is_a_function_of_seed_writer_and_class(full):
    indices = [5, 3754, 3755 * 100 + 7, 901_199, 5]
    together = full.select(indices)
    for place, index in enumerate(indices):
        assert_same_bits(together.select([place]), full.select([index]))
    fewer = SimulatedHanzi(train_writers=101, classes=list(level1_characters()))
    assert_same_bits(fewer.characters("train").select(indices[:3]), full.select(indices[:3]))
    other_seed = SimulatedHanzi(seed=1).characters("train").select(indices)
    assert (len(other_seed.points), other_seed.points[0, 0]) != (
        len(together.points),
        together.points[0, 0],
    )


def test_a_writer_writes_a_character_alike_whatever_the_other_classes_are():
    names = level1_characters(500)
    first = SimulatedHanzi(classes=500, train_writers=2).characters("train")
    chosen = SimulatedHanzi(classes=[names[400], names[7]], train_writers=2).characters("train")
    for place, index in enumerate((400, 7, 900, 507)):
        one, other = first.select([index]), chosen.select([place])
        assert one.points.tobytes() == other.points.tobytes()
        assert one.writers.tolist() == other.writers.tolist()


def test_the_numbers_stay_what_they_are(full):
    """Runs of different versions are comparable only as long as this does not change."""
    points = full.select(np.arange(0, 901_200, 9_012)).points
    rounded = np.round(points * 1_000).astype(np.int64)  # libraries differ in the last bit
    assert hashlib.sha256(rounded.tobytes()).hexdigest()[:16] == "2999147204245c5a"


def test_test_writers_are_other_people():
    source = SimulatedHanzi(classes=3, train_writers=4, test_writers=2, repetitions=5)
    train, test = source.train(), source.test()
    assert (len(train), len(test)) == (60, 30)
    assert np.unique(test.writers).tolist() == [FIRST_TEST_WRITER, FIRST_TEST_WRITER + 1]
    assert not set(train.writers) & set(test.writers)
    assert_same_bits(SimulatedHanzi(classes=3, test_writers=2, repetitions=5).test(), test)


def test_repetitions_and_writers_differ():
    source = SimulatedHanzi(classes=1, train_writers=3, repetitions=3)
    shapes = {character.points[:5].tobytes() for character in source.train()}
    assert len(shapes) == 9


def test_pieces_make_up_the_part_a_writer_at_a_time():
    source = SimulatedHanzi(classes=1_500, train_writers=2)
    sets = [[*piece.read(None)] for piece in source.pieces("train")]
    assert [[len(s) for s in some] for some in sets] == [[1_024, 476]] * 2
    whole = source.train()
    assert_same_bits(sets[1][1], whole.select(np.arange(1_500 + 1_024, 3_000)))
    StrokeSet(
        **{f: getattr(whole, f) for f in ("points", "point_offsets", "stroke_offsets", "labels")}
    )


def test_strokes_are_joined_as_often_as_people_do(full):
    chosen = full.select(np.arange(0, 901_200, 301))
    standard = np.diff(full.hands.templates.stroke_offsets)[chosen.labels]
    written = np.diff(chosen.stroke_offsets)
    share = written / standard
    assert 0.57 < share.mean() < 0.64, "real: 0.61"
    assert 0.15 < np.quantile(share, 0.05) < 0.3, "real: 0.17"
    assert np.quantile(share, 0.95) == 1, "real: 1"
    plain = SimulatedHanzi(join=0).characters("train").select(np.arange(0, 901_200, 3_010))
    assert (np.diff(plain.stroke_offsets) == standard[::10][: len(plain)]).all()


def test_writers_incline_to_join_with_the_mean_asked_for(full):
    for join in (0.2, 0.65, 0.9):
        hands = SimulatedHanzi(join=join).characters("train").hands
        inclination = hands.inclination_to_join(np.arange(20_000))
        assert inclination.mean() == pytest.approx(join, abs=0.01)
        # The variance of a Beta(2, b) variable.
        assert inclination.var() == pytest.approx(join * (1 - join) / (2 / join + 1), rel=0.05)


def test_without_deformation_and_joins_a_template_is_left(full):
    """Rounding moves corners by less than the spacing of points."""
    bare = SimulatedHanzi(deformation=0, join=0).characters("train").select([0, 4_000])
    templates = full.hands.templates.select([0, 245])
    np.testing.assert_array_equal(bare.point_offsets, templates.point_offsets)
    np.testing.assert_allclose(bare.points, templates.points, atol=SPACING / 3)


def test_templates_are_resampled_at_equal_distances():
    templates = read_templates(TEMPLATES)
    fine = resampled(templates.strokes, templates.box)
    ends = np.append(fine.point_offsets[:-1], fine.point_offsets[1:] - 1)
    old = np.append(templates.strokes.point_offsets[:-1], templates.strokes.point_offsets[1:] - 1)
    np.testing.assert_allclose(fine.points[ends], templates.strokes.points[old] / 256, atol=1e-6)
    steps = np.sqrt((np.diff(fine.points, axis=0) ** 2).sum(axis=1))
    inside = np.delete(steps, fine.point_offsets[1:-1] - 1)
    assert inside.max() < 1.5 * SPACING
    assert 0.8 * SPACING < np.median(inside) <= 1.05 * SPACING


def test_drawn_joins_are_dense(full):
    """A pen that stays down leaves points on its way."""
    chosen = full.select(np.arange(0, 9_000, 10))
    steps = np.sqrt((np.diff(chosen.points, axis=0) ** 2).sum(axis=1))
    inside = np.delete(steps, chosen.point_offsets[1:-1] - 1)
    assert inside.max() < 3 * SPACING


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "0 characters asked"),
        ({"classes": ["A"]}, "expected different characters of GB2312 level 1"),
        ({"classes": ["啊", "啊"]}, "expected different characters"),
        ({"train_writers": 0}, "train_writers is 0"),
        ({"repetitions": -1}, "repetitions is -1"),
        ({"join": 1.0}, "join is 1.0"),
        ({"deformation": float("nan")}, "deformation nan"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimulatedHanzi(**arguments)


def test_indices_out_of_range_are_refused(full):
    with pytest.raises(IndexError, match="asked of a set of 901200"):
        full.select([901_200])
    assert len(full.select([])) == 0


def test_a_view_is_split_by_writers_and_selects_through(full):
    part = SimulatedHanzi(classes=2, train_writers=10).characters("train")
    kept, held_out = split_validation(part, 0.2)
    view = Subset(part, held_out)
    assert len(view) == 4
    assert not set(view.writers) & set(part.writers[kept])
    assert_same_bits(view.select([3, 0]), part.select(held_out[[3, 0]]))
    assert view.labels.tolist() == part.labels[held_out].tolist()


def test_damaged_templates_are_an_error(tmp_path):
    data = TEMPLATES.read_bytes()
    for name, damaged in {"cut.npz": data[:1_000], "text.npz": b"no", "zip.npz": b"PK"}.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError, match=f"{name}: holds no templates"):
            read_templates(tmp_path / name)
