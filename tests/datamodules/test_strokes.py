import numpy as np
import pytest

from spcnn_lightning.datamodules import Strokes, StrokeSet

LETTERS = [
    Strokes.from_lists([[(0, 0), (4, 1)], [(2, 2)]], label=3, writer=7),
    Strokes.from_lists([[(1, 1), (2, 2), (3, 5)]], label=0, writer=9),
    Strokes.from_lists([[(5, 5)], [(6, 6), (7, 7)], [(8, 8)]], label=1, writer=7),
]


def arrays(**changes):
    given = {
        "points": np.zeros((4, 2), np.float32),
        "point_offsets": [0, 1, 4],
        "stroke_offsets": [0, 2],
        "labels": [1],
    }
    return given | changes


def assert_same(one: Strokes, other: Strokes):
    assert (one.label, one.writer) == (other.label, other.writer)
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.point_offsets, other.point_offsets)


def test_a_set_gives_back_the_characters_it_was_made_of():
    letters = StrokeSet.from_strokes(LETTERS)
    assert len(letters) == 3
    for index, letter in enumerate(LETTERS):
        assert_same(letters[index], letter)
    assert_same(letters[-1], LETTERS[2])


def test_strokes_come_in_writing_order():
    assert [stroke.tolist() for stroke in LETTERS[0]] == [[[0, 0], [4, 1]], [[2, 2]]]


@pytest.mark.parametrize("indices", [[2, 0, 2], [1], []], ids=str)
def test_selecting_takes_characters_in_the_given_order(indices):
    chosen = StrokeSet.from_strokes(LETTERS).select(indices)
    assert len(chosen) == len(indices)
    for place, index in enumerate(indices):
        assert_same(chosen[place], LETTERS[index])


def test_time_and_pressure_travel_with_their_points():
    timed = [
        Strokes(s.points, s.point_offsets, s.label, time=np.arange(len(s.points), dtype=np.float32))
        for s in LETTERS
    ]
    chosen = StrokeSet.from_strokes(timed).select([2, 1])
    assert chosen.time.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert chosen[1].time.tolist() == [0, 1, 2]
    assert chosen.pressure is None
    assert chosen.writers is None


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(IndexError, match="a set of 3"):
        StrokeSet.from_strokes(LETTERS)[index]
    with pytest.raises(IndexError, match="a set of 3"):
        StrokeSet.from_strokes(LETTERS).select([index])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.zeros((4, 3))}, r"shape \(4, 3\), expected \(n, 2\)"),
        ({"points": [[0, 0], [0, np.nan], [0, 0], [0, 0]]}, r"points\[1\].*not finite"),
        ({"point_offsets": [0, 1, 3]}, "point_offsets.*to the number of points, 4"),
        ({"point_offsets": [0, 4, 4]}, r"point_offsets\[1\] is 4 and the next is 4: every stroke"),
        ({"point_offsets": [1, 2, 4]}, "point_offsets"),
        ({"stroke_offsets": [0, 0, 2], "labels": [1, 1]}, "every character needs at least one"),
        ({"stroke_offsets": []}, "stroke_offsets has shape"),
        ({"labels": [1, 2]}, r"labels have shape \(2,\), expected \(1,\)"),
        ({"labels": [-1]}, r"labels\[0\] is -1"),
        ({"writers": np.zeros(2, np.int32)}, "writers have shape"),
        ({"time": np.zeros(3, np.float32)}, r"time has shape \(3,\), expected \(4,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        StrokeSet(**arrays(**changes))


def test_what_only_some_characters_have_is_refused():
    nameless = Strokes.from_lists([[(0, 0)]], label=0)
    with pytest.raises(ValueError, match="1 of 4 characters have no writer"):
        StrokeSet.from_strokes([*LETTERS, nameless])
    with pytest.raises(ValueError, match="no characters"):
        StrokeSet.from_strokes([])


def test_a_character_without_strokes_is_refused():
    with pytest.raises(ValueError, match="every stroke needs"):
        Strokes.from_lists([[(0, 0)], []], label=0)
