"""Each reader on a small file of its documented format."""

import gzip
import json

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    CanvasJson,
    HanziMedians,
    InkML,
    KanjiVG,
    Omniglot,
    QuickDraw,
    Tegaki,
    Tomoe,
)
from spcnn_lightning.datamodules.sources import bounded_xml, files


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


def test_symbols_of_a_formula_are_groups_of_traces(read_sample):
    source = read_sample("CROHME")
    strokes = source.train()
    assert source.class_names == ("=", "x")
    assert strokes.labels.tolist() == [1, 0]
    assert as_lists(strokes[0]) == [[[1, 10], [5, 12]], [[1, 12], [5, 10], [6, 9]]]
    assert as_lists(strokes[1]) == [[[3, 20]]]
    assert len(set(strokes.writers.tolist())) == 1
    assert InkML(source.root).class_names == ("$x=$",), "unit='file' takes the label of the file"


def test_mathwriting_has_time(read_sample):
    strokes = read_sample("MathWriting").train()
    assert as_lists(strokes[0]) == [[[60, 50.5], [61.25, 52]], [[62, 53]]]
    assert strokes[0].time.tolist() == [0, 17, 40]


def test_inkml_differences_are_summed_and_contexts_looked_up(read_sample):
    text = """<ink><annotation type="truth">a</annotation><definitions>
    <context id="pen"><inkSource><traceFormat><channel name="F"/><channel name="X"/>
    <channel name="T" units="s"/><channel name="Y"/></traceFormat></inkSource></context>
    </definitions>
    <trace contextRef="#pen">7 1125 .5 18432, 8 '23 !1'43,9"7 2"-8,*3 3-5</trace></ink>"""
    one = read_sample("MathWriting", text.encode()).train()[0]
    # X: 1125, then +23, then the change grows by 7, then by 3; Y likewise from 18432 by 43.
    assert one.points[:, 1].tolist() == [1125, 1148, 1178, 1211]
    assert one.points[:, 0].tolist() == [18432, 18475, 18510, 18540]
    assert one.time.tolist() == [0, 500, 1500, 2500]
    assert one.pressure.tolist() == [7, 8, 9, 9]


def test_tegaki_and_tomoe_share_their_elements(read_sample):
    tegaki = read_sample("Tegaki").train()
    assert as_lists(tegaki[0]) == [[[510, 100], [500, 900]]]
    assert tegaki[0].time.tolist() == [0, 250]
    assert tegaki[0].pressure.tolist() == [0.5, 0.75]
    tomoe = read_sample("Tomoe")
    assert tomoe.class_names == ("あ",)
    assert as_lists(tomoe.test()[0]) == [[[193, 180], [226, 830]], [[33, 490]]]


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
    assert len(QuickDraw(tmp_path, only_recognised=True).train()) == 1
    assert len(QuickDraw(tmp_path, folds=7).train()) == 2, "key 7 is in the test"
    assert len(QuickDraw(tmp_path, folds=7, test_fold=3).test()) == 1, "key 10 is"
    assert QuickDraw(tmp_path, classes=["dog"]).files("train") == [tmp_path / "full_raw_dog.ndjson"]
    with pytest.raises(ValueError, match="at least 2 folds"):
        QuickDraw(tmp_path, folds=1)


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


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("canvas", b"[3, 5, 110, 0.25]", b"[3, 5]", r"1\.json: .*expected a list of points"),
        ("canvas", b"[[7, 7, 200, 1]]", b"[[7, 7]]", r"points of \[2, 4\] numbers"),
        ("canvas", b"200", b"NaN", "NaN is no JSON"),
        ("canvas", b"7, 7", b"1e8, 7", "coordinate 1e\\+08, expected at most 1e\\+07"),
        ("canvas", b"7, 7", b'"7", 7', "expected a list of points"),
        ("canvas lines", b'"writer": 3', b'"writer": true', r"line 1 \(byte 0\): field 'writer'"),
        ("canvas lines", b'"B"', b"5", r"line 2 \(byte 98\): field 'label' is 5, expected str"),
        ("canvas lines", b'"B"', b'"\xff"', r"byte 109 is 0xff, no UTF-8"),
        ("CROHME", b'DataRef="2"', b'DataRef="9"', "traceGroup 2: refers to trace '9'"),
        ("CROHME", b"20 3<", b"20 z<", "traceGroup 2: '20 z', expected numbers"),
        ("CROHME", b"20 3<", b"20<", "of 1 values, expected 2: X Y"),
        ("CROHME", b'name="Y"', b'name="Z"', "expected X and Y"),
        ("CROHME", b"</ink>", b"", r"line 16 \(byte \d+\): no element found, expected XML"),
        ("MathWriting", b'"label"', b'"lbel"', "no annotation truth or label in <ink>"),
        ("MathWriting", b'units="ms"', b'units="h"', "time in 'h', expected one of s, ms"),
        ("Tegaki", b'x="100"', b'x="1_0"', "line 2: '1_0', expected a number"),
        ("Tegaki", b"<utf8>", b"<utf9>", "mismatched tag"),
        ("Tomoe", b"SYSTEM", b"SYSTEN", "syntax error|not well-formed|invalid token"),
        ("KanjiVG", b"M10,20c", b"M10,20a", "'a' in a path, expected one of MLHVCS"),
        ("KanjiVG", b"M10,20c8,0", b"M10,20c8", "expected 6 numbers"),
        ("KanjiVG", b"M10,20c", b"M10,20\xc3\xa9c", "expected a number"),
        ("KanjiVG", b"M10,20c", b"c", "expected one M, at the beginning"),
        ("KanjiVG", b"<svg", b"<svh", "mismatched tag"),
        ("Assamese", b"COUNT: 2", b"COUNT: 3", "after 2 strokes, expected 3 and END_CHARACTER"),
        ("Assamese", b"COUNT: 2", b"COUNT: " + b"2" * 5_000, "line 2: 'STROKE_COUNT: 222"),
        ("Assamese", b"1210 850 1 1", b"1210 850 1", "line 6: '1210 850 1', expected four numbers"),
        ("Assamese", b"PEN_UP 0 0\n", b"", "line 7: 'PEN_DOWN', expected a number"),
        ("Assamese", b"END_", b"", "line 11: 'CHARACTER: KA', expected PEN_DOWN"),
        ("Omniglot", b"BREAK\n30", b"BREK\n30", r"line 4 .byte \d+.: 'BREK', expected a number"),
        ("Omniglot", b"30,-80.25,300\nBREAK", b"30,-80.25,300", "expected BREAK"),
        ("Omniglot", b"START", b"STRT", r"line 1 .byte 0.: 'STRT', expected START"),
        ("Omniglot", b"30,-80.25,300", b"30,-80.25", "'30,-80.25', expected x,y,t"),
        ("Quick Draw", b'"key_id": "6"', b'"key_id": "x"', "key_id is 'x'"),
        ("Quick Draw", b"[3, 4], [0, 16]", b"[3, 4]", r"2 strokes of \[2, 3\] lists"),
        ("Quick Draw", b"[3, 4], [0, 16]", b"[3, 4], [0]", r"expected \[\[x, ...\]"),
        ("Quick Draw binary", b"GB", b"G1", "byte 0: country b'G1'"),
        ("Quick Draw binary", b"\x03\x04", b"", "byte 44: a stroke of 1 points and 2 bytes"),
        ("Quick Draw binary", b"\x01\x00\x03\x04", b"", "byte 44: a stroke of 0 points"),
        ("Quick Draw binary", b"GB\x01", b"GB\x02", "recognised 2, expected"),
        ("hanzi", b"[[5,0]]", b"[[5]]", r"a median of shape \(1, 1\)"),
        ("hanzi", b'"medians"', b'"media"', "field 'medians' is None, expected list"),
    ],
)
def test_damage_is_named(name, old, new, message, read_sample, sample_files):
    data = sample_files.SAMPLES[name].data
    assert old in data
    with pytest.raises(DataError, match=message) as caught:
        read_sample(name, data.replace(old, new, 1)).train()
    assert sample_files.SAMPLES[name].path.rsplit("/")[-1] in str(caught.value)


@pytest.mark.parametrize(
    "name", ["canvas lines", "CROHME", "CASIA", "Quick Draw", "Quick Draw binary"]
)
def test_damage_that_is_not_refused_leaves_the_rest(name, read_sample, sample_files):
    """The damage is in the second character."""
    places = {
        "canvas lines": (b'"B"', b"5"),
        "CROHME": (b"20 3<", b"20 z<"),
        "CASIA": (b"\xd7\x00\x00\x01\x00", b"\xd7\x00\x00\x09\x00"),
        "Quick Draw": (b"1.5, 2", b"1.5"),
        "Quick Draw binary": (b"\x03\x04", b""),
    }
    data = sample_files.SAMPLES[name].data
    assert data.count(places[name][0]) == 1
    source = read_sample(name, data.replace(*places[name]))
    errors = []
    (piece,) = source.pieces("train")
    (part,) = piece.read(errors.append)
    assert (len(part), len(errors)) == (1, 1)


def only_damage(source):
    errors = []
    (piece,) = source.pieces("train")
    assert list(piece.read(errors.append)) == []
    (error,) = errors
    return str(error)


def test_an_empty_file_is_damage(format_name, read_sample, sample_files):
    """Not a file of no characters: that would be silent loss."""
    source = read_sample(format_name)
    assert source.class_names
    read_sample(format_name, b"")
    errors = []
    assert [*source.read_file(source.files("train")[0], "train", errors.append)] == []
    assert sample_files.SAMPLES[format_name].path in str(errors[0])


def test_a_line_without_end_is_not_read_into_memory(read_sample, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 1_000)
    source = read_sample("Quick Draw", b"[" * 5_000)
    assert only_damage(source).endswith("line 1 (byte 0): longer than 1000 bytes")


def test_an_element_without_end_is_not_read_into_memory(read_sample, monkeypatch):
    monkeypatch.setattr(bounded_xml, "LARGEST_ELEMENT", 100_000)
    source = read_sample("MathWriting", b"<ink>" + b"<a/>" * 100_000)
    assert "line 1 (byte 0): <ink> is longer than 100000 bytes" in only_damage(source)


def test_elements_in_elements_have_a_limit(read_sample):
    source = read_sample("MathWriting", b"<ink>" + b"<a>" * 200)
    assert "(byte 302): elements inside elements, 100 deep" in only_damage(source)


def test_a_file_that_is_read_whole_has_a_limit(read_sample, tmp_path):
    read_sample("CASIA", bytes(5_000))
    with pytest.raises(DataError, match=r"1001\.pot: longer than 4000 bytes"):
        files.read_file_bytes(tmp_path / "1001.pot", limit=4_000)
    assert len(files.read_file_bytes(tmp_path / "1001.pot", limit=5_000)) == 5_000


def test_hidden_files_do_not_count(read_sample, tmp_path):
    source = read_sample("canvas")
    for folder in ("train/__MACOSX/A", "train/A"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "._1.json").write_bytes(b"no JSON")
    (tmp_path / "train/__MACOSX/A/2.json").write_bytes(b"no JSON")
    assert len(source.train()) == 1


def test_entities_are_refused(read_sample):
    bomb = b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><ink>&c;</ink>'
    assert "declares the entity 'b': refused" in only_damage(read_sample("MathWriting", bomb))


@pytest.mark.parametrize(
    "source",
    [CanvasJson, InkML, Tegaki, KanjiVG, HanziMedians, Omniglot, QuickDraw, Tomoe],
    ids=lambda source: source.__name__,
)
def test_a_folder_without_files_is_named(source, tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        source(tmp_path).check()


def test_xml_of_something_else_is_damage(read_sample):
    source = read_sample("Tegaki")
    assert source.class_names == ("一",)
    assert "no <character> in it" in only_damage(read_sample("Tegaki", b"<set></set>"))


def test_ink_without_labelled_groups_is_damage(read_sample, sample_files):
    source = read_sample("CROHME")
    assert source.class_names == ("=", "x")
    text = sample_files.CROHME.replace('"truth"', '"other"').encode()
    message = only_damage(InkML(read_sample("CROHME", text).root, unit="group", classes=["x"]))
    assert "no innermost traceGroup with an annotation truth or label: unit='file'" in message
