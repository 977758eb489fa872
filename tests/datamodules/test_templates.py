"""Templates in npz files: what is read, and what is said of damage."""

import io
import zipfile

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import StrokeTemplates
from spcnn_lightning.datamodules.sources import templates

ARRAYS = {
    "chars": np.array([ord(name) for name in "一二人"], np.uint32),
    "strokes_per_char": np.array([1, 2, 1], np.uint8),
    "points_per_stroke": np.array([2, 2, 3, 1], np.uint16),
    "xy": np.arange(16, dtype=np.float64).reshape(8, 2),
    "canvas": np.array([256, 256], np.int16),
}


def write(root, **changed):
    np.savez(root / "a.npz", **{**ARRAYS, **changed})
    return root / "a.npz"


def changed_xy(place, value):
    xy = ARRAYS["xy"].copy()
    xy[place] = value
    return {"xy": xy}


def test_each_character_has_its_strokes(tmp_path):
    source = StrokeTemplates(write(tmp_path))
    strokes = source.train()
    assert source.class_names == ("一", "二", "人")
    assert strokes.labels.tolist() == [0, 1, 2]
    assert [s.tolist() for s in strokes[1]] == [[[5, 4], [7, 6]], [[9, 8], [11, 10], [13, 12]]]
    chosen = StrokeTemplates(write(tmp_path), classes=["人", "八", "一"])
    assert (chosen.class_names, chosen.test().labels.tolist()) == (("人", "八", "一"), [2, 0])
    with pytest.raises(DataError, match="none of its 3 characters is of a class"):
        StrokeTemplates(write(tmp_path), classes=["八"]).train()


def test_a_file_may_be_packed_and_in_column_order(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **{**ARRAYS, "xy": np.asfortranarray(ARRAYS["xy"])})
    plain = StrokeTemplates(write(tmp_path)).train()
    np.testing.assert_array_equal(StrokeTemplates(path).train().points, plain.points)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (changed_xy((3, 0), np.nan), "point 3 has the coordinate nan, expected at most 1e"),
        (changed_xy((6, 1), 1e300), "point 6 has the coordinate 1e.300, expected at most 1e"),
        ({"points_per_stroke": np.array([2, 5, 0, 1])}, "stroke 2 is without a point"),
        (
            {
                "strokes_per_char": np.array([1, 0, 1]),
                "points_per_stroke": np.array([2, 6]),
            },
            "without a stroke",
        ),
    ],
)
@pytest.mark.parametrize("classes", [None, ["人", "一", "二"]])
def test_a_damaged_character_is_named_and_the_rest_is_kept(changed, message, classes, tmp_path):
    source = StrokeTemplates(write(tmp_path, **changed), classes)
    expected = rf"a\.npz: character 1 \('二'\): .*{message}"
    with pytest.raises(DataError, match=expected):
        source.train()
    errors = []
    (piece,) = source.pieces("test")
    (kept,) = piece.read(errors.append)
    assert [source.class_names[label] for label in kept.labels] == ["一", "人"]
    assert kept.point_offsets.tolist()[:2] == [0, 2]
    with pytest.raises(DataError, match=expected):
        raise errors[0]
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chars": np.array([0x4E00, 0x4E8C, 0x4E00])}, "'一' is both character 0 and character 2"),
        ({"xy": ARRAYS["xy"][:-1]}, r"points_per_stroke is \[2, 2, 3, 1\], expected a sum of 7"),
        (
            {"strokes_per_char": np.array([1, 1, 1])},
            r"strokes_per_char is \[1, 1, 1\], expected a sum of 4",
        ),
        ({"strokes_per_char": np.array([1, -1, 4])}, r"strokes_per_char is \[1, -1, 4\], expected"),
        ({"chars": np.array(["一", "二", "人"], object)}, "holds no templates"),
        ({"chars": np.array([0x4E00, 0x4E8C])}, "strokes_per_char of 3 for 2 characters"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(changed, message, tmp_path):
    path = write(tmp_path, **changed)
    with pytest.raises(DataError, match=rf"a\.npz: .*{message}"):
        next(StrokeTemplates(path).pieces("train")[0].read(lambda _: None))


@pytest.mark.parametrize("shape", [(1 << 40, 2), (1 << 26, 2), (9, 2)])
def test_a_header_that_claims_more_than_is_there_is_refused(shape, tmp_path, fuzzing):
    path = write(tmp_path)
    file = io.BytesIO()
    head = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["xy.npy"] = file.getvalue() + ARRAYS["xy"].tobytes()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    with fuzzing.limits(), pytest.raises(DataError, match=r"xy of shape .* 128 follow the"):
        StrokeTemplates(path).train()


def test_an_array_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(templates, "LARGEST_FILE", 100)
    with pytest.raises(DataError, match="xy of shape .* at most 100"):
        StrokeTemplates(write(tmp_path)).train()
