"""What readers say of damaged files, and what they keep of them."""

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


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("canvas", b"[3, 5, 110, 0.25]", b"[3, 5]", r"1\.json: .*expected a list of points"),
        ("canvas", b"[[7, 7, 200, 1]]", b"[[7, 7]]", r"points of \[2, 4\] numbers"),
        ("canvas", b"200", b"NaN", "NaN is no JSON"),
        ("canvas", b"200", b"true", r"\[\[7, 7, True, 1\]\], expected a list of points"),
        ("Quick Draw", b"[9]", b"[false]", r"\[\[False\], \[8\], \[70\]\], expected \[\[x, ...\]"),
        ("canvas", b"7, 7", b"1e8, 7", "coordinate 1e\\+08, expected at most 1e\\+07"),
        ("canvas", b"7, 7", b'"7", 7', "expected a list of points"),
        ("canvas lines", b'"writer": 3', b'"writer": true', r"line 1 \(byte 0\): field 'writer'"),
        ("canvas lines", b'"B"', b"5", r"line 2 \(byte 98\): field 'label' is 5, expected str"),
        ("canvas lines", b'"B"', b'"\xff"', r"byte 109 is 0xff, no UTF-8"),
        ("CROHME", b'DataRef="2"', b'DataRef="9"', "traceGroup 2: refers to trace '9'"),
        (
            "CROHME",
            b"20 3<",
            b"20 z<",
            r"line 1 \(byte 0\): traceGroup 2: trace '2': '20 z', expected numbers",
        ),
        ("CROHME", b"20 3<", b"20<", "of 1 values, expected 2: X Y"),
        ("CROHME", b'name="Y"', b'name="Z"', "expected X and Y"),
        ("CROHME", b"</ink>", b"", r"line 16 \(byte \d+\): no element found, expected XML"),
        (
            "MathWriting",
            b"61.25 17",
            b"61.25",
            r"line 1 \(byte 0\): trace '0': point '52 61.25' of",
        ),
        ("MathWriting", b'"label"', b'"lbel"', "no annotation truth or label in <ink>"),
        ("MathWriting", b'units="ms"', b'units="h"', "time in 'h', expected one of s, ms"),
        ("Tegaki", b'x="100"', b'x="1_0"', r"line 2 \(byte 75\): '1_0', expected a number"),
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


def read_all(source):
    """The characters of the only file, and the errors."""
    errors = []
    return [*source.read_file(source.files("train")[0], "train", errors.append)], errors


def test_sound_symbols_around_a_damaged_one_are_kept(read_sample, sample_files):
    """The damage is in the first symbol, and the second follows."""
    source = InkML(read_sample("CROHME").root, unit="group", classes=["x", "="])
    assert [character.label for character in read_all(source)[0]] == [0, 1]
    text = sample_files.CROHME.replace("10 1, 12 5", "10 z, 12 5").encode()
    source = InkML(read_sample("CROHME", text).root, unit="group", classes=["x", "="])
    characters, errors = read_all(source)
    assert [character.label for character in characters] == [1]
    assert len(errors) == 1


def test_a_reference_to_no_trace_damages_its_symbol_alone(read_sample, sample_files):
    text = sample_files.CROHME.replace('DataRef="0"', 'DataRef="9"').encode()
    characters, errors = read_all(InkML(read_sample("CROHME", text).root, unit="group"))
    assert [as_points(character) for character in characters] == [[[3, 20]]]
    (error,) = errors
    assert "traceGroup 1: refers to trace '9', which is not in the file" in str(error)


def as_points(character):
    return character.points.tolist()


def test_what_stands_before_a_fault_of_xml_is_kept(read_sample, sample_files):
    one = sample_files.TEGAKI[sample_files.TEGAKI.index("<character>") :].partition("</set>")[0]
    text = f"<character-collection><set>{one * 3}<chara<cter></set></character-collection>"
    source = Tegaki(read_sample("Tegaki", text.encode()).root, classes=["一"])
    characters, errors = read_all(source)
    assert len(characters) == 3
    assert len(errors) == 1


def test_ink_without_labelled_groups_is_damage(read_sample, sample_files):
    source = read_sample("CROHME")
    assert source.class_names == ("=", "x")
    text = sample_files.CROHME.replace('"truth"', '"other"').encode()
    message = only_damage(InkML(read_sample("CROHME", text).root, unit="group", classes=["x"]))
    assert "no innermost traceGroup with an annotation truth or label: unit='file'" in message


@pytest.mark.parametrize(
    ("name", "old"), [("Quick Draw", b'"word": "cat'), ("canvas lines", b'"label": "A')]
)
def test_an_error_is_short_whatever_the_file_says(name, old, read_sample, sample_files):
    data = sample_files.SAMPLES[name].data
    source = read_sample(name)
    assert source.class_names
    read_sample(name, data.replace(old, old + b"x" * 5_000))
    with pytest.raises(DataError, match="is not among") as caught:
        source.train()
    assert len(str(caught.value)) < 500
