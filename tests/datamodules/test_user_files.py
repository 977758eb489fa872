"""What the readers of users' own files share: parts, classes, and what is said of them."""

import json

import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import CanvasJson, Unipen
from spcnn_lightning.datamodules.preparing import prepare


def write(root, **files):
    """Write files named by their paths, with two underscores as slash; a list is drawings."""
    for name, content in files.items():
        path = root / (name.replace("__", "/") + ".ndjson")
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"label": label, "strokes": [[[1, 2]]]}) for label in content]
        path.write_text("\n".join(lines) if isinstance(content, list) else content)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("canvas lines", r"a.ndjson: line 1 \(byte 0\): no JSON"),
        ("CROHME", r"1.inkml: line 1 \(byte 0\): syntax error"),
        ("MathWriting", r"1.inkml: line 1 \(byte 0\): syntax error"),
        ("Tegaki", r"1.xml: line 1 \(byte 0\): syntax error"),
        ("hanzi", r"graphics.txt: line 1 \(byte 0\): no JSON"),
    ],
)
def test_what_keeps_all_classes_from_being_found_is_said(name, message, read_sample):
    with pytest.raises(DataError, match=f"no class found: .*; 1 place .*, the first: .*{message}"):
        read_sample(name, b"no such thing").class_names  # noqa: B018  # looks into the files


def test_the_level_that_unipen_lacks_is_said_where_no_class_is_found(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.dat").write_text('.SEGMENT CHARACTER 0 OK "a"\n.PEN_DOWN\n1 2\n')
    with pytest.raises(
        DataError, match=r"no class found.*no \.HIERARCHY before it: name the level"
    ):
        Unipen(tmp_path).class_names  # noqa: B018  # looks into the files


def test_a_class_that_damage_took_from_training_is_said_to_be_lost(tmp_path):
    write(tmp_path, train__a=["a"], train__b="{", test__c=["a", "b"])
    out = prepare(CanvasJson(tmp_path), tmp_path / "out", {}, skip_damaged=True)
    assert out.class_names == ("a",)
    lost = next(message for message in out.left_out if "is not among the 1 classes" in message)
    assert "c.ndjson: line 2" in lost
    assert "1 place there cannot be read, the first: " in lost
    assert "b.ndjson: line 1" in lost


def test_a_json_file_keeps_its_class_when_it_is_damaged(tmp_path):
    for label, text in {"a": "[[[1, 2]]]", "b": "["}.items():
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / label / "1.json").write_text(text)
    source = CanvasJson(tmp_path)
    assert source.class_names == ("a", "b")
    with pytest.raises(DataError, match=r"b.1\.json: no JSON"):
        source.train()


@pytest.mark.parametrize("train", ["train", "train/1.json", "."])
def test_a_json_file_outside_of_a_folder_with_its_label_is_refused(train, tmp_path):
    (tmp_path / "train").mkdir()
    path = tmp_path / ("1.json" if train == "." else "train/1.json")
    path.write_text("[[[1, 2]]]")
    with pytest.raises(DataError, match=r"1\.json lies in no folder that names its label: put it"):
        CanvasJson(tmp_path, train=train).check()


@pytest.mark.parametrize(
    ("train", "test"), [(".", "test"), ("train", "."), ("train", "train/more"), ("x/..", "test")]
)
def test_a_part_inside_the_other_is_refused(train, test, tmp_path):
    write(tmp_path, train__a=["a"], train__more__a=["a"], test__a=["a"], x__a=["a"])
    with pytest.raises(DataError, match="one folder lies in the other"):
        CanvasJson(tmp_path, train, test).check()


def test_one_part_may_be_everything_where_there_is_no_other(tmp_path):
    write(tmp_path, a=["a"])
    assert len(CanvasJson(tmp_path, train=".").train()) == 1
    assert len(CanvasJson(tmp_path, train=".", test=".").test()) == 1


def test_writers_that_only_some_have_can_be_left_out(tmp_path):
    drawing = json.dumps({"label": "a", "writer": 3, "strokes": [[[1, 2]]]})
    write(tmp_path, train__a=["a"], train__b=drawing)
    with pytest.raises(DataError, match="1 of 2 characters have no writer"):
        CanvasJson(tmp_path).train()
    assert CanvasJson(tmp_path, keep_writers=False).train().writers is None
