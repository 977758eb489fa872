import json
import os

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    CanvasJson,
    PenDigits8,
    QuickDraw,
    Shards,
    Strokes,
    StrokeSet,
)
from spcnn_lightning.datamodules.joining import concatenate, empty_set
from spcnn_lightning.datamodules.manifest import FIELDS
from spcnn_lightning.datamodules.preparing import prepare
from spcnn_lightning.datamodules.sources.base import Piece, StrokeSource

DESCRIPTION = {"class": "Pieces"}


def character(number: int, **fields) -> Strokes:
    """A character that differs from all others, of one to three strokes."""
    rng = np.random.default_rng(number)
    lengths = rng.integers(1, 5, 1 + number % 3)
    count = int(lengths.sum())
    return Strokes(
        rng.normal(size=(count, 2)).astype(np.float32),
        np.concatenate([[0], np.cumsum(lengths)]),
        number % 5,
        **{
            name: value if name == "writer" else np.full(count, value)
            for name, value in fields.items()
        },
    )


class Pieces(StrokeSource):
    """Five pieces of four characters; reading one of them may fail."""

    class_names = tuple("abcde")
    citation = "made up"
    licence_text = "as you like"

    def __init__(self, fails_at=None, without_time_at=None):
        self.fails_at, self.without_time_at, self.read = fails_at, without_time_at, []

    stamp = "1"

    def _piece(self, number):
        def read(on_damage):
            self.read.append(number)
            timed = {} if number == self.without_time_at else {"time": 0.25 * number}
            numbers = range(4 * number, 4 * number + 4)
            some = [character(n, writer=n, pressure=1 / (1 + n), **timed) for n in numbers]
            yield StrokeSet.from_strokes(some[:2])
            if number == self.fails_at:
                on_damage(DataError(f"piece {number}: byte 7 is wrong"))
            yield StrokeSet.from_strokes(some[2:])

        return Piece(f"piece {number}", read, self.stamp)

    def pieces(self, part):
        return [self._piece(number) for number in ((0, 1, 2) if part == "train" else (3, 4))]

    def train(self):
        return concatenate(s for piece in self.pieces("train") for s in piece.read(None))

    def test(self):
        return concatenate(s for piece in self.pieces("test") for s in piece.read(None))


def assert_same_bits(one: StrokeSet, other: StrokeSet):
    for name, field in FIELDS.items():
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None), name
        if left is not None:
            assert left.dtype == right.dtype == field.dtype
            assert left.tobytes() == right.tobytes(), name


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("source", [Pieces(), PenDigits8()], ids=["all fields", "digits"])
def test_shards_give_back_every_bit(source, tmp_path):
    prepare(source, tmp_path / "out", DESCRIPTION)
    shards = Shards(tmp_path / "out")
    shards.check()
    assert_same_bits(shards.train(), source.train())
    assert_same_bits(shards.test(), source.test())
    assert (shards.class_names, shards.citation) == (source.class_names, source.citation)
    assert shards.licence_text == source.licence_text
    assert not (tmp_path / "out.partial").exists()
    for path in (tmp_path / "out").glob("*.npy"):
        assert np.load(path, mmap_mode="r").shape[0] > 0, "plain .npy files"


def test_shards_are_not_read_into_memory(tmp_path):
    prepare(Pieces(), tmp_path / "out", DESCRIPTION)
    strokes = Shards(tmp_path / "out").train()
    for name in FIELDS:
        array = getattr(strokes, name)
        assert isinstance(array, np.memmap) or isinstance(array.base, np.memmap), name
    assert_same_bits(strokes.select([3, 1]), Pieces().train().select([3, 1]))


def test_a_run_that_broke_off_goes_on_after_its_last_piece(tmp_path):
    prepare(Pieces(), tmp_path / "straight", DESCRIPTION)
    broken = Pieces(fails_at=4)
    with pytest.raises(DataError, match="piece 4: byte 7"):
        prepare(broken, tmp_path / "out", DESCRIPTION)
    assert broken.read == [0, 1, 2, 3, 4]
    assert not (tmp_path / "out").exists(), "nothing half-written is picked up"
    with pytest.raises(DataError, match="holds no manifest"):
        Shards(tmp_path / "out.partial").train()
    whole = Pieces()
    prepare(whole, tmp_path / "out", DESCRIPTION)
    assert whole.read == [4]
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_a_run_of_other_data_does_not_go_on(tmp_path):
    with pytest.raises(DataError, match="byte 7"):
        prepare(Pieces(fails_at=1), tmp_path / "out", DESCRIPTION)
    with pytest.raises(DataError, match=r"out\.partial was begun with another source"):
        prepare(Pieces(), tmp_path / "out", {"class": "Other"})


def test_a_run_of_data_that_have_changed_does_not_go_on(tmp_path):
    with pytest.raises(DataError, match="byte 7"):
        prepare(Pieces(fails_at=1), tmp_path / "out", DESCRIPTION)
    changed = Pieces()
    changed.stamp = "2"
    with pytest.raises(DataError, match=r"out\.partial was begun with .* other files"):
        prepare(changed, tmp_path / "out", DESCRIPTION)


def test_the_stamp_of_a_piece_tells_that_its_file_has_changed(tmp_path, sample_files):
    path = tmp_path / "cat.ndjson"
    path.write_text(sample_files.quickdraw_line(1, "cat", [[[1], [2]]]))
    (before,) = QuickDraw(tmp_path).pieces("train")
    assert before.stamp == QuickDraw(tmp_path).pieces("train")[0].stamp
    path.write_text(sample_files.quickdraw_line(1, "cat", [[[12], [2]]]))
    longer = QuickDraw(tmp_path).pieces("train")[0].stamp
    os.utime(path, (1, 1))
    assert len({before.stamp, longer, QuickDraw(tmp_path).pieces("train")[0].stamp}) == 3


@pytest.mark.parametrize("kept", [0, 200, None])
def test_a_run_whose_files_have_lost_rows_does_not_go_on(tmp_path, kept):
    with pytest.raises(DataError, match="byte 7"):
        prepare(Pieces(fails_at=4), tmp_path / "out", DESCRIPTION)
    path = tmp_path / "out.partial" / "train.points.npy"
    if kept is None:
        path.unlink()
    else:
        os.truncate(path, kept)
    with pytest.raises(DataError, match=rf"holds {kept or 0} bytes, expected at least \d+"):
        prepare(Pieces(), tmp_path / "out", DESCRIPTION)


def test_a_label_without_a_class_is_refused(tmp_path):
    source = Pieces()
    source.class_names = tuple("abcd")
    with pytest.raises(DataError, match="label 4 of 4 classes"):
        prepare(source, tmp_path / "out", DESCRIPTION)


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    prepare(Pieces(), tmp_path / "out", DESCRIPTION)
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match="holds something already"):
        prepare(Pieces(), tmp_path / "out", DESCRIPTION)
    assert contents(tmp_path / "out") == before


def test_damage_is_left_out_and_listed_if_asked(tmp_path):
    reports = []
    source = Pieces(fails_at=1)
    prepare(source, tmp_path / "out", DESCRIPTION, skip_damaged=True, report=reports.append)
    manifest = Shards(tmp_path / "out").manifest
    assert manifest.left_out == ("piece 1: byte 7 is wrong",)
    assert manifest.num_left_out == 1
    assert [r.message for r in reports if r.message] == ["piece 1: byte 7 is wrong"]
    assert [(r.part, r.done, r.total, r.characters) for r in reports if not r.message] == [
        ("train", 1, 3, 4),
        ("train", 2, 3, 8),
        ("train", 3, 3, 12),
        ("test", 1, 2, 4),
        ("test", 2, 2, 8),
    ]


def test_everything_left_out_is_counted_and_the_first_messages_are_kept(tmp_path, monkeypatch):
    class Same(Pieces):
        def _piece(self, number):
            def read(on_damage):
                for _ in range(3):
                    on_damage(DataError(f"piece {number}: the same damage"))
                yield StrokeSet.from_strokes([character(number)])

            return Piece(f"piece {number}", read)

    monkeypatch.setattr("spcnn_lightning.datamodules.preparing.MOST_MESSAGES", 7)
    prepare(Same(), tmp_path / "out", DESCRIPTION, skip_damaged=True)
    manifest = Shards(tmp_path / "out").manifest
    assert manifest.num_left_out == 15, "three in each of five pieces"
    assert len(manifest.left_out) == 7


def test_what_is_left_out_of_a_file_of_both_parts_is_listed_once(tmp_path, sample_files):
    lines = [sample_files.quickdraw_line(n, "cat", [[[n], [2]]]) for n in range(10)]
    (tmp_path / "cat.ndjson").write_text("".join([*lines, "no JSON"]))
    prepare(QuickDraw(tmp_path), tmp_path / "out", DESCRIPTION, skip_damaged=True)
    shards = Shards(tmp_path / "out")
    assert (len(shards.train()), len(shards.test())) == (8, 2)
    assert shards.manifest.num_left_out == 1


def test_fields_that_only_some_pieces_have_are_refused(tmp_path):
    with pytest.raises(DataError, match="only some characters of the train part have time"):
        prepare(Pieces(without_time_at=1), tmp_path / "out", DESCRIPTION)


def test_an_empty_part_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Pieces, "pieces", lambda self, part: [])
    with pytest.raises(DataError, match="the train part holds no character"):
        prepare(Pieces(), tmp_path / "out", DESCRIPTION)


def test_one_part_alone(tmp_path):
    prepare(Pieces(), tmp_path / "out", DESCRIPTION, parts=["test"])
    assert_same_bits(Shards(tmp_path / "out").test(), Pieces().test())
    with pytest.raises(DataError, match="holds no train part, only test"):
        Shards(tmp_path / "out").train()


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_changed_file_is_noticed(name, tmp_path):
    prepare(Pieces(), tmp_path / "out", DESCRIPTION)
    path = tmp_path / "out" / f"train.{name}.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"train.{name}.npy: SHA-256 is"):
        Shards(tmp_path / "out").train()
    Shards(tmp_path / "out", verify=False).check()
    path.write_bytes(data[:-1])
    for source in (Shards(tmp_path / "out"), Shards(tmp_path / "out", verify=False)):
        with pytest.raises(DataError, match=f"{name}.npy: {len(data) - 1} bytes, expected"):
            source.check()
    os.remove(path)
    with pytest.raises(DataError, match=f"{name}.npy: missing"):
        Shards(tmp_path / "out").train()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), r"\('spcnn strokes', 2\), expected"),
        (lambda m: m.pop("citation"), "damaged"),
        (lambda m: m["parts"]["train"].update(points=-5), "damaged"),
        (lambda m: m["parts"]["train"].update(points=2**70), "bytes, expected"),
        (lambda m: m["parts"]["train"]["sha256"].pop("labels"), "damaged"),
        (lambda m: m["parts"]["train"]["sha256"].update({"../x": ""}), "damaged"),
        (lambda m: m.update(class_names=["a"]), "label 4 of 1 classes"),
        (lambda m: m.update(class_names="abcde"), "damaged|class"),
    ],
)
def test_a_changed_manifest_is_noticed(change, message, tmp_path):
    prepare(Pieces(), tmp_path / "out", DESCRIPTION)
    path = tmp_path / "out" / "manifest.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=message):
        Shards(tmp_path / "out").train()


def test_sets_are_joined_in_order():
    sets = [StrokeSet.from_strokes([character(n), character(n + 1)]) for n in (0, 5)]
    joined = concatenate([sets[0], empty_set(), sets[1]])
    expected = StrokeSet.from_strokes([character(n) for n in (0, 1, 5, 6)])
    assert_same_bits(joined, expected)
    assert len(concatenate([])) == 0
    with pytest.raises(ValueError, match="1 of 2 sets have no time"):
        concatenate([sets[0], StrokeSet.from_strokes([character(3, time=1.0)])])


def test_a_source_of_the_user_is_prepared_in_bounded_pieces(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        lines = [json.dumps({"label": "a", "strokes": [[[n, 1]]]}) for n in range(2_500)]
        (tmp_path / part / "x.ndjson").write_text("\n".join(lines))
    source = CanvasJson(tmp_path)
    (piece,) = source.pieces("train")
    assert [len(some) for some in piece.read(None)] == [1_000, 1_000, 500]
    prepare(source, tmp_path / "out", DESCRIPTION)
    assert_same_bits(Shards(tmp_path / "out").train(), source.train())
