"""Each reader on a small file of its documented format."""

import gzip
import json

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    CanvasJson,
    HanziMedians,
    Omniglot,
    QuickDraw,
)
from spcnn_lightning.datamodules.sources.svg_path import path_points


def as_lists(character):
    return [stroke.tolist() for stroke in character]


def test_pieces_hold_what_the_part_holds(format_name, read_sample):
    source = read_sample(format_name)
    source.check()
    whole = source.train()
    (piece,) = source.pieces("train")
    (part,) = piece.read(lambda error: pytest.fail(str(error)))
    for field in ("points", "point_offsets", "stroke_offsets", "labels", "writers", "time"):
        np.testing.assert_array_equal(getattr(part, field), getattr(whole, field))
    assert whole.labels.max() < source.num_classes == len(source.class_names)
    assert source.citation


@pytest.mark.parametrize("name", ["canvas", "canvas lines"])
def test_canvas_strokes_come_with_time_and_pressure(name, read_sample):
    source = read_sample(name)
    strokes = source.train()
    assert source.class_names == (("A",) if name == "canvas" else ("A", "B"))
    assert as_lists(strokes[0]) == [[[2, 1], [5, 3]], [[7, 7]]], "row, column"
    assert strokes[0].time.tolist() == [0, 10, 100], "milliseconds from the first point"
    assert strokes[0].pressure.tolist() == [0.5, 0.25, 1]
    assert strokes[0].writer == (None if name == "canvas" else 3)


def test_canvas_files_may_be_packed_and_lack_time(tmp_path):
    folder = tmp_path / "train" / "b"
    folder.mkdir(parents=True)
    (folder / "x.json.gz").write_bytes(gzip.compress(b"[[[1, 2], [3, 4]], []]"))
    strokes = CanvasJson(tmp_path).train()
    assert as_lists(strokes[0]) == [[[2, 1], [4, 3]]]
    assert (strokes.time, strokes.pressure) == (None, None)


def test_what_only_some_files_have_is_refused_or_left_out(tmp_path):
    for label, points in {"a": [[1, 2, 3]], "b": [[1, 2]]}.items():
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / label / "1.json").write_text(json.dumps([points]))
    with pytest.raises(DataError, match="1 of 2 characters have no time"):
        CanvasJson(tmp_path).train()
    assert CanvasJson(tmp_path, keep_time=False).train().time is None


def test_a_label_that_training_lacks_is_refused_unless_classes_are_chosen(tmp_path):
    for part, label in {"train": "a", "test": "b"}.items():
        (tmp_path / part / label).mkdir(parents=True)
        (tmp_path / part / label / "1.json").write_text("[[[1, 2]]]")
    with pytest.raises(DataError, match="'b' is not among the 1 classes"):
        CanvasJson(tmp_path).test()
    assert CanvasJson(tmp_path, classes=["c", "b"]).test().labels.tolist() == [1]
    with pytest.raises(DataError, match="no character of the test part"):
        CanvasJson(tmp_path, classes=["a"]).test()


def test_tegaki_and_tomoe_share_their_elements(read_sample):
    tegaki = read_sample("Tegaki").train()
    assert as_lists(tegaki[0]) == [[[510, 100], [500, 900]]]
    assert tegaki[0].time.tolist() == [0, 250]
    assert tegaki[0].pressure.tolist() == [0.5, 0.75]
    tomoe = read_sample("Tomoe")
    assert tomoe.class_names == ("あ",)
    assert as_lists(tomoe.test()[0]) == [[[193, 180], [226, 830]], [[33, 490]]]


@pytest.mark.parametrize(
    ("path", "points"),
    [
        ("M1,2h5", [[1, 2], [6, 2]]),
        ("M1,2v3", [[1, 2], [1, 5]]),
        ("M1,2H5", [[1, 2], [5, 2]]),
        ("M1,2V7", [[1, 2], [1, 7]]),
    ],
)
def test_svg_lines_along_an_axis_leave_the_other_alone(path, points):
    assert path_points(path, "here").tolist() == points


def test_svg_curves_become_eight_points(read_sample):
    source = read_sample("KanjiVG")
    first, second = list(source.train()[0])
    assert source.class_names == ("二",)
    t = np.arange(9) / 8
    column = 10 + 3 * (1 - t) ** 2 * t * 8 + 3 * (1 - t) * t**2 * 16 + t**3 * 24
    row = 20 + 3 * (1 - t) * t**2 * 8 + t**3 * 8
    np.testing.assert_allclose(first, np.stack([row, column], axis=1), rtol=1e-6)
    # C, then s: its first control point mirrors (30, -4.5) at (40, 10); then a line.
    assert second.shape == (1 + 8 + 8 + 1, 2)
    assert second[[8, 16, 17]].tolist() == [[10, 40], [14, 43], [6, 5]]
    middle = (np.array([10, 40]) + 3 * np.array([24.5, 50]) + 3 * np.array([12, 41]) + [14, 43]) / 8
    np.testing.assert_allclose(second[12], middle, rtol=1e-6)


def test_assamese_files_give_class_and_writer(read_sample, tmp_path, sample_files):
    source = read_sample("Assamese")
    (tmp_path / "W6").mkdir()
    (tmp_path / "W6" / "15.5.TXT").write_text("known to be a stray file")
    (tmp_path / "W40").mkdir()
    (tmp_path / "W40" / "183.40.TXT").write_text(sample_files.ASSAMESE)
    strokes = source.train()
    assert (strokes.labels.tolist(), strokes.writers.tolist()) == ([14], [5])
    assert as_lists(strokes[0]) == [[[845, 1203], [850, 1210]], [[900, 1300]]]
    assert (source.test().labels.tolist(), source.test().writers.tolist()) == ([182], [40])
    (tmp_path / "W7").mkdir()
    (tmp_path / "W7" / "15.5.txt").write_text(sample_files.ASSAMESE)
    with pytest.raises(DataError, match=r"W7.15\.5\.txt: expected a name like"):
        source.train()


def test_omniglot_drawings_grow_downwards_and_have_time(read_sample):
    source = read_sample("Omniglot")
    one = source.train()[0]
    assert source.class_names == ("Greek/character02",)
    np.testing.assert_allclose(one.points, [[43.5, 18.95], [41.9, 19.7], [80.25, 30]], rtol=1e-6)
    assert one.point_offsets.tolist() == [0, 2, 3]
    assert (one.time.tolist(), one.writer) == ([0, 56, 300], 7)
    with pytest.raises(DataError, match="no character of the train part"):
        Omniglot(source.root, test_drawers=(7,)).train()


def test_people_of_omniglot_belong_to_an_alphabet(tmp_path, sample_files):
    """The numbers 1 to 20 are other people in each alphabet, the same in all its characters."""
    for name in (
        "A/character01/1_07",
        "A/character02/2_07",
        "A/character02/2_08",
        "B/character01/3_07",
    ):
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sample_files.OMNIGLOT)
    assert Omniglot(tmp_path).train().writers.tolist() == [7, 7, 8, 27]


def test_quick_draw_is_split_by_its_keys(read_sample, tmp_path, sample_files):
    source = read_sample("Quick Draw")
    (tmp_path / "full_raw_dog.ndjson").write_text(
        sample_files.quickdraw_line(10, "dog", [[[1], [2], [3]]])
    )
    train, test = source.train(), source.test()
    assert source.class_names == ("cat", "dog")
    assert as_lists(train[0]) == [[[3, 1], [4, 2]], [[8, 9]]]
    assert train[0].time.tolist() == [0, 16, 70]
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0], [1])
    recognised = QuickDraw(tmp_path, only_recognised=True).train()
    assert [as_lists(drawing) for drawing in recognised] == [as_lists(train[0])]
    assert len(QuickDraw(tmp_path, folds=7).train()) == 2, "key 7 is in the test"
    assert len(QuickDraw(tmp_path, folds=7, test_fold=3).test()) == 1, "key 10 is"
    assert QuickDraw(tmp_path, classes=["dog"]).files("train") == [tmp_path / "full_raw_dog.ndjson"]
    with pytest.raises(ValueError, match="at least 2 folds"):
        QuickDraw(tmp_path, folds=1)


@pytest.mark.parametrize("second", ["full_simplified_cat.ndjson", "cat.ndjson.gz", "cat.bin"])
def test_two_files_of_one_word_are_refused(second, read_sample, tmp_path, sample_files):
    read_sample("Quick Draw")
    (tmp_path / "dog.ndjson").write_text(sample_files.quickdraw_line(6, "dog", [[[1], [2]]]))
    (tmp_path / second).write_bytes(b"")
    for classes in (None, ["cat"]):
        with pytest.raises(DataError, match="hold the drawings of one word") as caught:
            QuickDraw(tmp_path, classes).check()
        assert str(tmp_path / "cat.ndjson") in str(caught.value)
        assert str(tmp_path / second) in str(caught.value)
    assert len(QuickDraw(tmp_path, ["dog"]).train()) == 1


def test_a_word_that_is_not_there_is_named_with_those_like_it(tmp_path, sample_files):
    drawing = [[[1], [2]]]
    words = ["cat", "dog"]
    for word in words:
        (tmp_path / f"{word}.ndjson").write_text(sample_files.quickdraw_line(6, word, drawing))
    message = r"holds no drawing of 'cta' \(close: 'cat'\), 'xyz' \(close: none\), which classes"
    with pytest.raises(DataError, match=message):
        QuickDraw(tmp_path, ["cta", "dog", "xyz"]).check()
    both = tmp_path / "some" / "both.ndjson"
    both.parent.mkdir()
    both.write_text("".join(sample_files.quickdraw_line(6, word, drawing) for word in words))
    assert QuickDraw(both, ["dog"]).train().labels.tolist() == [0]
    with pytest.raises(DataError, match=message):
        QuickDraw(both, ["cta", "dog", "xyz"]).train()


def test_a_word_may_have_no_drawing_in_one_part(tmp_path, sample_files):
    lines = [sample_files.quickdraw_line(k, w, [[[1], [2]]]) for k, w in ((5, "cat"), (6, "dog"))]
    (tmp_path / "both.ndjson").write_text("".join(lines))
    source = QuickDraw(tmp_path / "both.ndjson", ["cat", "dog"])
    assert (source.test().labels.tolist(), source.train().labels.tolist()) == ([0], [1])


def test_a_drawing_in_the_file_of_another_word_is_refused(tmp_path, sample_files):
    (tmp_path / "dog.ndjson").write_text(sample_files.quickdraw_line(6, "cat", [[[1], [2]]]))
    with pytest.raises(DataError, match=r"dog\.ndjson: line 1 .*'cat' is not among the 1 classes"):
        QuickDraw(tmp_path).train()


def test_binary_drawings_are_read(read_sample):
    source = read_sample("Quick Draw binary")
    strokes = source.train()
    assert source.class_names == ("cat",)
    assert [as_lists(s) for s in strokes] == [[[[7, 0], [8, 255]], [[2, 1]]], [[[4, 3]]]]


def test_medians_grow_downwards_in_both_forms(read_sample, tmp_path):
    folder = tmp_path / "hanzi-writer-data"
    folder.mkdir()
    (folder / "二.json").write_text(
        '{"strokes": [], "medians": [[[10, 800], [20, 790]], [[5, 0]]]}'
    )
    for source in (read_sample("hanzi"), HanziMedians(folder), HanziMedians(folder, classes=3755)):
        assert source.class_names[source.train().labels[0]] == "二"
        assert as_lists(source.test()[0]) == [[[100, 10], [110, 20]], [[900, 5]]]
