import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import CasiaOLHWDB
from spcnn_lightning.datamodules.sources import casia
from spcnn_lightning.datamodules.sources.class_table import level1_characters
from spcnn_lightning.datamodules.sources.pot import parse_pot

ONE_STROKE = [[(1, 2), (3, 4)]]


@pytest.fixture
def write(tmp_path, sample_files):
    def write_records(name, *codes):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(sample_files.pot_record(code, ONE_STROKE) for code in codes))

    return write_records


def test_the_bytes_of_a_record(sample_files):
    """Two strokes of the character 啊, GB code B0A1, whose bytes are swapped on disk."""
    record = bytes.fromhex("20 00 a1 b0 00 00 02 00 01 00 02 00 03 00 04 00 ff ff 00 00")
    record += bytes.fromhex("07 00 fe ff ff ff 00 00 ff ff ff ff")
    assert record == sample_files.pot_record(0xB0A1, [[(1, 2), (3, 4)], [(7, -2)]])
    found = parse_pot(record, "1001.pot", lambda error: pytest.fail(str(error)))
    assert (found.codes.tolist(), found.starts.tolist()) == ([0xB0A1], [0])
    assert found.points.tolist() == [[2, 1], [4, 3], [-2, 7]]
    assert found.point_offsets.tolist() == [0, 2, 3]
    assert found.stroke_offsets.tolist() == [0, 2]


def test_level_1_has_3755_characters_in_the_order_of_their_codes():
    names = level1_characters()
    codes = [int.from_bytes(name.encode("gb2312"), "big") for name in names]
    assert len(names) == 3755
    assert (codes[0], codes[-1], codes == sorted(codes)) == (0xB0A1, 0xD7F9, True)
    with pytest.raises(ValueError, match="3756 characters asked"):
        level1_characters(3756)


def test_symbols_are_skipped_or_kept_by_choice(read_sample):
    source = read_sample("CASIA")
    strokes = source.train()
    assert (strokes.labels.tolist(), strokes.writers.tolist()) == ([0, 3754], [1001, 1001])
    assert [stroke.tolist() for stroke in strokes[0]] == [[[2, 1], [4, 3]], [[-2, 7]]]
    everything = CasiaOLHWDB(source.root, other_characters=True)
    assert everything.num_classes == 3756
    assert everything.class_names[-1] == "A"
    assert everything.train().labels.tolist() == [3755, 0, 3754]


def test_a_symbol_that_training_lacks_is_refused(write, tmp_path):
    write("1001.pot", 0xB0A1)
    write("1241.pot", 0xB0A1, 0x21)
    assert len(CasiaOLHWDB(tmp_path).test()) == 1
    with pytest.raises(DataError, match=r"1241\.pot: byte 24: '!' is not among the training"):
        CasiaOLHWDB(tmp_path, other_characters=True).test()


def test_the_official_split_is_by_folder_or_writer(write, tmp_path):
    for name in ("1001.pot", "x/1240-c.pot", "1241.pot", "Pot1.1Test/1300.pot"):
        write(name, 0xB0A1)
    for name in ("Pot1.0Train/001.pot", "Pot1.0Test/420.pot", "Pot1.2Train/501.pot"):
        write(name, 0xB0A1)
    source = CasiaOLHWDB(tmp_path)
    assert sorted(source.train().writers) == [1001, 1240]
    assert sorted(source.test().writers) == [1241, 1300]
    older = CasiaOLHWDB(tmp_path, databases=["1.0", "1.2"])
    assert sorted(older.train().writers) == [1, 501]
    assert older.test().writers.tolist() == [420]
    write("002.pot", 0xB0A1)
    with pytest.raises(DataError, match=r"002\.pot: of the training or the test part\?"):
        older.train()
    with pytest.raises(ValueError, match="expected some of 1.0, 1.1, 1.2"):
        CasiaOLHWDB(tmp_path, databases=["2.0"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pot1.1Train/1250.pot", "a folder of the train part, but writer 1250 .* of the test part"),
        ("Pot1.1Test/1240.pot", "a folder of the test part, but writer 1240 .* of the train part"),
    ],
)
def test_a_folder_cannot_move_a_writer_of_1_1_to_the_other_part(name, message, write, tmp_path):
    write("1001.pot", 0xB0A1)
    write("1300.pot", 0xB0A1)
    write(name, 0xB0A1)
    for read in (CasiaOLHWDB(tmp_path).train, CasiaOLHWDB(tmp_path).test):
        with pytest.raises(DataError, match=rf"{name[-8:]} lies in {message}"):
            read()


def test_test_and_train_are_words_in_the_name_of_a_folder(write, tmp_path):
    for name in ("latest/1001.pot", "HWDB1.0trn_gnt/001.pot", "MyTest/002.pot", "TEST/003.pot"):
        write(name, 0xB0A1)
    assert CasiaOLHWDB(tmp_path).train().writers.tolist() == [1001]
    older = CasiaOLHWDB(tmp_path, databases=["1.0"])
    assert (older.train().writers.tolist(), older.test().writers.tolist()) == ([1], [2, 3])


def test_a_file_that_cannot_be_read_costs_only_itself(write, tmp_path, monkeypatch):
    for name in ("1001.pot", "1002.pot"):
        write(name, 0xB0A1)
    monkeypatch.setattr(casia, "read_file_bytes", broken_at("1001.pot"))
    source, damage = CasiaOLHWDB(tmp_path), []
    found = [s for piece in source.pieces("train") for s in piece.read(damage.append)]
    assert [strokes.writers.tolist() for strokes in found] == [[1002]]
    assert [str(error) for error in damage] == ["1001.pot: broken"]
    with pytest.raises(DataError, match="broken"):
        source.train()


def broken_at(name):
    def read(path):
        if path.name == name:
            raise DataError(f"{name}: broken")
        return path.read_bytes()

    return read


@pytest.mark.parametrize("second", ["copy/1001.pot", "1001-c.pot"])
def test_a_second_file_of_a_writer_is_refused(second, write, tmp_path):
    write("1001.pot", 0xB0A1)
    write(second, 0xB0A1)
    with pytest.raises(DataError, match="are of the same writer") as caught:
        CasiaOLHWDB(tmp_path).check()
    assert str(tmp_path / "1001.pot") in str(caught.value)
    assert str(tmp_path / second) in str(caught.value)


def test_each_character_that_is_left_out_is_counted(write, tmp_path):
    write("1001.pot", 0xB0A1, 0xFFFF, 0xB0A2, 0xFFFF)
    errors = []
    (piece,) = CasiaOLHWDB(tmp_path).pieces("train")
    (kept,) = piece.read(errors.append)
    assert kept.labels.tolist() == [0, 1]
    assert [str(error).partition(": ")[2] for error in errors] == [
        f"byte {place}: the code 0xffff is no character of GB18030" for place in (24, 72)
    ]


def test_the_competition_set_is_a_test_set(write, tmp_path):
    write("Pot1.1Train/1001.pot", 0xB0A1)
    write("competition_POT/C060.pot", 0xB0A2)
    with pytest.raises(DataError, match="none of 2 .pot files is of the test part of database 1.1"):
        CasiaOLHWDB(tmp_path).test()
    test = CasiaOLHWDB(tmp_path, test_set="competition").test()
    assert (test.labels.tolist(), test.writers.tolist()) == ([1], [2060])


@pytest.mark.parametrize(
    ("place", "value", "message", "kept"),
    [
        (0, 0x14, "byte 20: a record of 65535 bytes where 52 are left", []),
        (0, 0x1B, "byte 0: a record of 27 bytes", []),
        (4, 0x01, "byte 0: bytes 4 and 5 of the record are 0x0001, expected 0", [0xB0A2, 0xB0A3]),
        (6, 0x02, "byte 0: 1 strokes and 2 points, expected 2 strokes", [0xB0A2, 0xB0A3]),
        (16, 0x00, "byte 0: expected ff ff 00 00 ff ff ff ff as the end", [0xB0A2, 0xB0A3]),
        (48, 0x00, "byte 48: a record of 0 bytes where 24 are left", [0xB0A1, 0xB0A2]),
    ],
)
def test_a_damaged_record_is_named_and_the_rest_is_kept(place, value, message, kept, sample_files):
    data = bytearray(
        b"".join(sample_files.pot_record(c, ONE_STROKE) for c in range(0xB0A1, 0xB0A4))
    )
    assert len(data) == 3 * 24
    data[place] = value
    errors = []
    found = parse_pot(bytes(data), "1.pot", errors.append)
    assert message in str(errors[0])
    assert found.codes.tolist() == kept
    np.testing.assert_array_equal(found.points, np.tile([[2, 1], [4, 3]], (len(kept), 1)))


def test_a_file_cut_anywhere_gives_its_whole_records(sample_files):
    data = sample_files.SAMPLES["CASIA"].data
    ends = {0: 0, 20: 1, 20 + 32: 2, 20 + 32 + 24: 3}
    for end in range(len(data) + 1):
        errors = []
        found = parse_pot(data[:end], "1.pot", errors.append)
        assert len(found.codes) == max(n for place, n in ends.items() if place <= end)
        assert len(errors) == (end not in ends or end == 0)
