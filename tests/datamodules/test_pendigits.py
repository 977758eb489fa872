import gzip
import re

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import Pendigits, PenDigits8
from spcnn_lightning.datamodules.preparing import prepare
from spcnn_lightning.datamodules.sources import pendigits
from spcnn_lightning.datamodules.sources.pendigits_text import parse_unipen_digits

TRAIN_COUNTS = [780, 779, 780, 719, 780, 720, 720, 778, 719, 719]
TEST_COUNTS = [363, 364, 364, 336, 364, 335, 336, 364, 336, 336]

TEXT = """.INCLUDE        dene.doc

.LEXICON "0" "1" "2" "3" "4" "5" "6" "7" "8" "9"
.HIERARCHY      DIGIT

.SEGMENT DIGIT    0 ? "8"
.COMMENT 8 12  224
.PEN_DOWN
 267  333
 266  342
.PEN_UP
.DT 100

.SEGMENT DIGIT    1-2 ? "4"
.COMMENT 4 3  17
.PEN_DOWN
 100  200
.PEN_UP
.DT 100
.PEN_DOWN
 110  210
 120  190
.PEN_UP
.DT 100
"""


def test_the_embedded_digits_are_the_official_split():
    source = PenDigits8()
    train, test = source.train(), source.test()
    assert np.bincount(train.labels).tolist() == TRAIN_COUNTS
    assert np.bincount(test.labels).tolist() == TEST_COUNTS
    assert source.num_classes == len(source.class_names) == 10
    assert (np.diff(train.point_offsets) == 8).all()
    assert train.writers is None


def test_embedded_digits_stand_upright():
    """A seven begins with its bar, at the top and to the left of the bar's end."""
    train = PenDigits8().train()
    sevens = np.median([train[i].points for i in np.flatnonzero(train.labels == 7)[:100]], axis=0)
    assert sevens[0, 0] < sevens[-1, 0], "rows grow downwards"
    assert sevens[0, 1] < sevens[2, 1], "columns grow to the right"


def test_the_original_files_are_read_completely(pendigits_root):
    source = Pendigits(pendigits_root)
    source.check()
    train, test = source.train(), source.test()
    assert np.bincount(train.labels).tolist() == TRAIN_COUNTS
    assert np.bincount(test.labels).tolist() == TEST_COUNTS
    assert np.unique(train.writers).tolist() == list(range(1, 31))
    assert np.unique(test.writers).tolist() == list(range(31, 45))
    assert len(train.points) == 304_216
    assert len(train.point_offsets) - 1 == 9_433
    first = train[0]
    assert (first.label, first.writer) == (8, 12)
    assert first.points[:2].tolist() == [[-333, 267], [-336, 267]], "row is minus y"
    assert [stroke.shape for stroke in first] == [(78, 2)]


def test_the_text_gives_strokes_labels_and_writers():
    digits = parse_unipen_digits(TEXT, "a")
    assert digits.labels.tolist() == [8, 4]
    assert digits.writers.tolist() == [12, 3]
    assert digits.stroke_offsets.tolist() == [0, 1, 3]
    assert digits.point_offsets.tolist() == [0, 2, 3, 5]
    assert digits.points[2].tolist() == [-200, 100]


def test_a_text_cut_anywhere_gives_whole_characters_or_an_error():
    whole = parse_unipen_digits(TEXT, "a")
    outcomes = set()
    for end in range(len(TEXT)):
        try:
            part = parse_unipen_digits(TEXT[:end], "a")
        except DataError:
            outcomes.add("error")
            continue
        outcomes.add(len(part))
        assert len(part) in {1, 2}
        np.testing.assert_array_equal(part.points, whole.select(range(len(part))).points)
    assert outcomes == {"error", 1, 2}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (" 267  333", " 267  abc", 9, "two integers"),
        (" 267  333", " 267", 9, "two integers"),
        (" 267  333", " 267  3333", 9, "from 0 to 500"),
        (" 267  333", " 267 333 266", 9, "two integers"),
        (" 267  333", " 2_7  333", 9, "two integers"),
        (" 267  333", " 267  33³", 9, "ASCII"),
        (" 267  333", " 267  " + "3" * 5_000, 9, "two integers"),
        ("8 12", "8 " + "1" * 20, 7, "expected .COMMENT 8 <writer> <serial>"),
        (' ? "8"', ' ? "11"', 6, "label from 0 to 9"),
        ("1-2", "1-3", 0, "in the middle of character 1: expected|expected 1 more stroke"),
        ("1-2", "1", 20, "no stroke of the last is left"),
        ("1-2", "5-6", 14, "strokes numbered from 1 on"),
        (".COMMENT 8 12  224\n", "", 7, "expected .COMMENT"),
        (".COMMENT 8", ".COMMENT 7", 7, "expected .COMMENT 8 <writer> <serial>"),
        (".SEGMENT DIGIT    0", ".SEGMENT LETTER 0", 6, "expected .SEGMENT DIGIT"),
        (" 266  342\n.PEN_UP\n", " 266  342\n", 11, "a point or .PEN_UP"),
        (" 267  333\n 266  342\n", "", 9, "at least one point"),
        (".PEN_DOWN\n 110", " 110", 20, "the pen is up"),
        (".PEN_DOWN\n 110", ".PEN_DOWN\n.PEN_DOWN\n 110", 21, "the pen is down already"),
        (".PEN_DOWN\n 110", ".PEN_DONW\n 110", 20, "a known directive"),
        ('.SEGMENT DIGIT    0 ? "8"\n', "", 6, "expected .SEGMENT before each"),
    ],
)
def test_a_damaged_text_is_an_error_that_names_the_line(old, new, line, message):
    assert TEXT.count(old) >= 1
    with pytest.raises(DataError, match=message) as caught:
        parse_unipen_digits(TEXT.replace(old, new, 1), "some.tra")
    assert "some.tra" in str(caught.value)
    if line:
        byte = len("".join(TEXT.replace(old, new, 1).splitlines(keepends=True)[: line - 1]))
        assert f"line {line} (byte {byte}): " in str(caught.value)


THREE = (
    TEXT
    + """.SEGMENT DIGIT    3 ? "7"
.COMMENT 7 5  18
.PEN_DOWN
 10 20
.PEN_UP
"""
)


@pytest.mark.parametrize(
    ("old", "new", "kept", "message"),
    [
        (" 267  333", " 267  abc", [4, 7], r"'267  abc'"),
        (" 100  200", " 100  ²00", [8, 7], r"expected ASCII"),
        (".COMMENT 4", ".COMMENT 5", [8, 7], r"expected .COMMENT 4"),
        ("DIGIT    1-2", "LETTER   1-2", [8, 7], r"expected .SEGMENT DIGIT"),
        ("1-2", "1-3", [8, 7], r"line 25 .*expected the rest of character 1 first: 1 more stroke"),
        ("1-2", "1", [8, 7], r"no stroke of the last is left"),
        ("1-2", "6-7", [8, 7], r"expected strokes numbered from 1 on upwards"),
        ('.SEGMENT DIGIT    1-2 ? "4"\n', "", [8, 7], r"expected .SEGMENT before each"),
        (" 120  190\n.PEN_UP\n.DT 100\n", "", [8, 7], r"expected a point or .PEN_UP|rest of char"),
        (" 10 20\n.PEN_UP\n", " 10 20\n", [8, 4], r"middle of character 2: expected .PEN_UP"),
        ("333\n", "x\n.PEN_UP\n.PEN_DOWN\n", [4, 7], r"'267  x'"),
    ],
)
def test_damage_that_is_not_refused_takes_one_character(old, new, kept, message):
    assert THREE.count(old) == 1
    errors = []
    digits = parse_unipen_digits(THREE.replace(old, new), "some.tra", errors.append)
    assert digits.labels.tolist() == kept
    (error,) = errors
    assert re.search(message, str(error))
    whole = parse_unipen_digits(THREE, "a")
    chosen = whole.select([whole.labels.tolist().index(label) for label in kept])
    np.testing.assert_array_equal(digits.points, chosen.points)
    np.testing.assert_array_equal(digits.writers, chosen.writers)


def test_preparing_can_leave_damaged_digits_out(tmp_path):
    (tmp_path / "pendigits-orig.tes").write_text(TEXT)
    (tmp_path / "pendigits-orig.tra").write_text(THREE.replace(" 267  333", " 267  abc"))
    with pytest.raises(DataError, match=r"pendigits-orig.tra: line 9 \(byte \d+\): '267  abc'"):
        Pendigits(tmp_path).train()
    manifest = prepare(
        Pendigits(tmp_path), tmp_path / "out", {}, parts=["train"], skip_damaged=True
    )
    assert (manifest.parts["train"].characters, manifest.num_left_out) == (2, 1)
    assert "'267  abc'" in manifest.left_out[0]


def test_a_file_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pendigits, "LARGEST_TEXT", 100)
    for name, data in {"a.tra": TEXT.encode(), "a.tra.gz": gzip.compress(TEXT.encode())}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="longer than 100 bytes"):
            pendigits.read_text(tmp_path / name)


def test_a_text_without_characters_is_an_error():
    with pytest.raises(DataError, match="no .SEGMENT in 3 lines"):
        parse_unipen_digits("\n\n", "a")


def test_a_missing_file_is_named(tmp_path):
    source = Pendigits(tmp_path)
    with pytest.raises(DataError, match=r"pendigits-orig\.tra is missing.*root"):
        source.check()
    (tmp_path / "pendigits-orig.tra").write_text(TEXT)
    with pytest.raises(DataError, match=r"pendigits-orig\.tes is missing"):
        source.check()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_that_lacks_characters_is_refused(tmp_path, monkeypatch, ending):
    data = gzip.compress(TEXT.encode()) if ending else TEXT.encode()
    (tmp_path / f"pendigits-orig.tra{ending}").write_bytes(data)
    with pytest.raises(DataError, match="holds 2 digits, the official file has 7494"):
        Pendigits(tmp_path).train()
    monkeypatch.setattr(pendigits, "TRAIN_DIGITS", 2)
    assert Pendigits(tmp_path).train().labels.tolist() == [8, 4]


def test_a_damaged_gz_file_is_an_error_at_every_cut(tmp_path):
    data = gzip.compress(TEXT.encode())
    path = tmp_path / "a.gz"
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(DataError, match="a.gz|''"):
            parse_unipen_digits(pendigits.read_text(path), str(path))
    path.write_bytes(data[:40] + bytes([data[40] ^ 0xFF]) + data[41:])
    with pytest.raises(DataError, match="cannot be read"):
        pendigits.read_text(path)


def test_text_that_is_not_ascii_is_refused(tmp_path):
    path = tmp_path / "a.tra"
    path.write_bytes(b"\n.SEGMENT \xff")
    with pytest.raises(DataError, match=r"line 2 \(byte 1\): '.SEGMENT ÿ', expected ASCII"):
        parse_unipen_digits(pendigits.read_text(path), str(path))
