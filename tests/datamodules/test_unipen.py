"""Unipen: the statements of the format definition, and what real files do with them."""

from pathlib import Path

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import StrokeSet, Unipen
from spcnn_lightning.datamodules.sources.parsing import writer_number

INK = ".PEN_DOWN\n1 2\n3 4\n.PEN_UP\n.PEN_DOWN\n5 6\n.PEN_UP\n7 8\n.PEN_DOWN\n9 10\n11 12\n"


def read(root: Path, text: str, level: str | None = "CHARACTER", **arguments) -> StrokeSet:
    path = root / "train" / "a.dat"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return Unipen(root, level, **arguments).train()


def strokes_of(strokes: StrokeSet, index: int = 0) -> list[list[list[float]]]:
    return [stroke.tolist() for stroke in strokes[index]]


def test_segments_have_their_points_labels_writer_and_time(read_sample):
    source = read_sample("UNIPEN 1.0")
    strokes = source.train()
    assert source.class_names == ('"', "a")
    assert strokes.labels.tolist() == [1, 0]
    # Component 2 is the pen in the air: it is counted, and not drawn; 1:2-1 is its last point.
    assert strokes_of(strokes, 0) == [[[-20, 10], [-25, 12]], [[-20, 30], [-21, 31]]]
    assert strokes_of(strokes, 1) == [[[-22, 32]], [[-24, 34]]]
    assert strokes[1].time.tolist() == [0, 20]
    assert strokes.writers.tolist() == [writer_number("anna")] * 2


def test_the_level_chooses_the_segments(read_sample):
    source = read_sample("UNIPEN 1.0")
    words = Unipen(source.root, "WORD").train()
    assert [len(stroke) for stroke in words[0]] == [2, 3, 1]


@pytest.mark.parametrize(
    ("delineation", "expected"),
    [
        ("0-3", [[[-2, 1], [-4, 3]], [[-6, 5]], [[-10, 9], [-12, 11]]]),
        ("3,0", [[[-10, 9], [-12, 11]], [[-2, 1], [-4, 3]]]),
        ("0:1-1,3:0-3:0", [[[-4, 3]], [[-6, 5]], [[-10, 9]]]),
        ("3:1", [[[-12, 11]]]),
        ("?", [[[-2, 1], [-4, 3]], [[-6, 5]], [[-10, 9], [-12, 11]]]),
    ],
)
def test_delineations_are_those_of_the_definition(delineation, expected, tmp_path):
    text = f'.COORD X Y\n.SEGMENT CHARACTER {delineation} OK "a"\n{INK}'
    assert strokes_of(read(tmp_path, text)) == expected


def test_a_question_mark_stands_for_the_components_up_to_the_next_segment(tmp_path):
    segment = '.SEGMENT CHARACTER ? OK "{}"\n'
    strokes = read(tmp_path, segment.format("a") + INK + segment.format("b") + ".PEN_DOWN 1 1\n")
    assert [len(stroke) for stroke in strokes[0]] == [2, 1, 2]
    assert strokes_of(strokes, 1) == [[[-1, 1]]]


def test_sets_count_their_components_anew(tmp_path):
    segment = '.SEGMENT CHARACTER 0 OK "a"\n'
    text = f"{segment}.START_SET one\n.PEN_DOWN 1 2\n.START_SET two\n{segment}.PEN_DOWN 3 4\n"
    strokes = read(tmp_path, text)
    assert [strokes_of(strokes, index) for index in (0, 1)] == [[[[-2, 1]]], [[[-4, 3]]]]


def test_pressure_and_other_columns_find_their_place(tmp_path):
    text = '.COORD Z P Y X\n.SEGMENT CHARACTER 0 OK "a"\n.PEN_DOWN\n9 0.5 2 1\n9 0.25 4 3\n'
    strokes = read(tmp_path, text)
    assert strokes_of(strokes) == [[[-2, 1], [-4, 3]]]
    assert strokes[0].pressure.tolist() == [0.5, 0.25]


def test_ink_may_lie_in_an_included_file(tmp_path):
    (tmp_path / "include" / "b").mkdir(parents=True)
    (tmp_path / "include" / "b" / "ink.dat").write_text(INK)
    text = '.INCLUDE b/ink.dat\n.SEGMENT CHARACTER 0 OK "a"\n'
    assert strokes_of(read(tmp_path, text)) == [[[-2, 1], [-4, 3]]]


def test_an_included_file_that_is_missing_or_outside_is_named(tmp_path):
    (tmp_path / "secret.dat").write_text(INK)
    root = tmp_path / "root"
    root.mkdir()
    text = '.INCLUDE ../../secret.dat\n.SEGMENT CHARACTER 0 OK "a"\n'
    with pytest.raises(DataError, match=r"below 0.*not found: \.INCLUDE \.\./\.\./secret\.dat"):
        read(root, text, classes=["a"])


def test_a_file_that_includes_itself_ends(tmp_path):
    text = f'.INCLUDE a.dat\n.SEGMENT CHARACTER 0 OK "a"\n{INK}'
    assert len(read(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('.SEGMENT CHARACTER 0-4 OK "a"\n' + INK, "components 0 to 4, expected a range below 4"),
        ('.SEGMENT CHARACTER 2-1 OK "a"\n' + INK, "components 2 to 1, expected a range"),
        (
            '.SEGMENT CHARACTER 0:0-0:2 OK "a"\n' + INK,
            "points 0 to 2 of component 0, expected a range below 2",
        ),
        ('.SEGMENT CHARACTER 0:2-1 OK "a"\n' + INK, "points 2 to 1 of component 0, expected"),
        ('.SEGMENT CHARACTER 0:1-0:0 OK "a"\n' + INK, "points 1 to 0 of component 0, expected"),
        ('.SEGMENT CHARACTER 2:7 OK "a"\n' + INK, "points 7 to 0 of component 2, expected"),
        ('.SEGMENT CHARACTER x OK "a"\n' + INK, "'x', expected components such as"),
        ('.SEGMENT CHARACTER 0 OK "a\n' + INK, "expected ... ?"),
        (".SEGMENT CHARACTER 0 OK\n" + INK, "a segment without a label"),
        ('.SEGMENT CHARACTER 2 OK "a"\n' + INK, "a character without a point"),
        ('.SEGMENT CHARACTER 0 OK "a"\n.PEN_DOWN\n1 2\n3\n', "with 3 numbers, expected 2"),
        ('.SEGMENT CHARACTER 0 OK "a"\n.PEN_DOWN\n1 nan\n', "'nan', expected a number"),
        ('.COORD X P\n.SEGMENT CHARACTER 0 OK "a"\n' + INK, ".COORD 'X P', expected X, Y"),
    ],
)
def test_damage_is_said_with_its_place(text, message, tmp_path):
    with pytest.raises(DataError, match="a.dat: line ") as caught:
        read(tmp_path, text, classes=["a"])
    assert message in str(caught.value)


def test_a_damaged_stream_takes_no_other_segment_with_it(tmp_path):
    (tmp_path / "train").mkdir()
    segments = "".join(f'.SEGMENT CHARACTER {n} OK "a"\n' for n in (0, 1))
    (tmp_path / "train" / "a.dat").write_text(segments + ".PEN_DOWN\n1\n.PEN_DOWN\n5 6\n")
    damage: list[DataError] = []
    (piece,) = Unipen(tmp_path, "CHARACTER", classes=["a"]).pieces("train")
    (kept,) = piece.read(damage.append)
    assert strokes_of(kept) == [[[-6, 5]]]
    assert [("with 1 numbers" in str(e), "0 is damaged" in str(e)) for e in damage] == [
        (True, False),
        (False, True),
    ]


def test_writers_can_be_left_out(read_sample):
    assert Unipen(read_sample("UNIPEN 1.0").root, keep_writers=False).train().writers is None
    assert np.unique(read_sample("UNIPEN 1.0").train().writers).size == 1


def test_time_can_be_left_out(read_sample):
    root = read_sample("UNIPEN 1.0").root
    assert Unipen(root).train().time is not None
    assert Unipen(root, keep_time=False).train().time is None
