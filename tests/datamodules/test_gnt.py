import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import CasiaHWDB
from spcnn_lightning.datamodules.pictures.gnt_files import parse_gnt

OBLONG = np.array([[255, 0, 7], [9, 255, 200]])


@pytest.fixture
def write(tmp_path, picture_files):
    def write_records(name, *codes, picture=OBLONG):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        records = (picture_files.gnt_record(bytes.fromhex(code), picture) for code in codes)
        path.write_bytes(b"".join(records))
        return tmp_path

    return write_records


def test_the_bytes_of_a_record(tmp_path, picture_files):
    """The character 啊, GB code B0A1, whose bytes are in natural order; width before height."""
    record = bytes.fromhex("10 00 00 00 b0 a1 03 00 02 00 ff 00 07 09 ff c8")
    assert record == picture_files.gnt_record(b"\xb0\xa1", OBLONG)
    (tmp_path / "1001-f.gnt").write_bytes(record)
    source = CasiaHWDB(tmp_path)
    train = source.train()
    assert train.select([0])[0][..., 0].tolist() == OBLONG.tolist()
    assert (train.labels.tolist(), train.writers.tolist(), train.channels) == ([0], [1001], 1)
    assert (source.class_names[0], source.num_classes, source.background) == ("啊", 3755, 255.0)


def test_pictures_of_any_size_are_read_on_demand(write, tmp_path):
    write("1001-f.gnt", "b0a1", picture=np.zeros((300, 1)))
    write("1002-f.gnt", "d7f9", picture=np.ones((1, 2)))
    train = CasiaHWDB(tmp_path).train()
    assert train.labels.tolist() == [0, 3754]
    assert [picture.shape for picture in train.select([1, 0])] == [(1, 2, 1), (300, 1, 1)]
    (tmp_path / "1002-f.gnt").write_bytes(b"")
    with pytest.raises(DataError, match=r"1002-f\.gnt: byte 10: 0 bytes left, expected 2"):
        train.select([1])
    (tmp_path / "1002-f.gnt").unlink()
    with pytest.raises(DataError, match=r"1002-f\.gnt: cannot be read"):
        train.select([1])


def test_symbols_are_skipped_or_kept_by_choice(write):
    root = write("1001-f.gnt", "4100", "b0a1", "d7f9", "a3a8")
    assert CasiaHWDB(root).train().labels.tolist() == [0, 3754]
    source = CasiaHWDB(root, other_characters=True)
    assert source.class_names[3755:] == ("A", "\uff08")
    assert source.train().labels.tolist() == [3755, 0, 3754, 3756]
    write("1241-f.gnt", "b0a1", "4200")
    assert CasiaHWDB(root).test().labels.tolist() == [0]
    with pytest.raises(DataError, match=r"1241-f\.gnt: byte 20: 'B' is not among the training"):
        source.test()


def test_parts_are_those_of_the_writers(write, tmp_path):
    for name in (
        "1240-f.gnt",
        "1241-f.gnt",
        "HWDB1.0trn_gnt/001-f.gnt",
        "HWDB1.0tst_gnt/420-f.gnt",
    ):
        write(name, "b0a1")
    write("competition-gnt/C060-f.gnt", "b0a2")
    source = CasiaHWDB(tmp_path)
    source.check()
    assert (source.train().writers.tolist(), source.test().writers.tolist()) == ([1240], [1241])
    both = CasiaHWDB(tmp_path, databases=["1.0", "1.1"])
    assert both.train().writers.tolist() == [1240, 1]
    test = CasiaHWDB(tmp_path, test_set="competition").test()
    assert (test.writers.tolist(), test.labels.tolist()) == ([2060], [1])
    with pytest.raises(
        DataError, match=r"none of 5 \.gnt files is of the train part of database 1\.2"
    ):
        CasiaHWDB(tmp_path, databases=["1.2"]).check()


def test_files_of_other_characters_alone_are_refused(write):
    with pytest.raises(DataError, match="no character of the train part is of a known class"):
        CasiaHWDB(write("1001.gnt", "4100")).train()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 17, "byte 0: a record of 17 bytes with 3 x 2 pixels where 32 bytes are left"),
        (3, 255, "byte 0: a record of 4278190096 bytes"),
        (16 + 6, 0, "byte 16: a record of 16 bytes with 0 x 2 pixels"),
        (16 + 9, 255, "byte 16: a record of 16 bytes with 3 x 65282 pixels where 16"),
        (16 + 4, 0xFF, "byte 20: the code 0xffa1 is no character"),
    ],
)
def test_a_damaged_record_is_named_with_its_place(write, place, value, message):
    path = write("1001.gnt", "b0a1", "b0a1") / "1001.gnt"
    data = bytearray(path.read_bytes())
    data[place] = value
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"1001\.gnt: {message}"):
        CasiaHWDB(path.parent).train()


def test_a_file_cut_between_records_alone_is_sound(picture_files):
    data = 3 * picture_files.gnt_record(b"\xb0\xa1", OBLONG)
    for end in range(len(data) + 1):
        if end in (16, 32, 48):
            assert len(parse_gnt(data[:end], "a").codes) == end // 16
        else:
            with pytest.raises(DataError, match=f"a: byte {end // 16 * 16}: "):
                parse_gnt(data[:end], "a")


def test_a_second_file_of_a_writer_is_refused(write):
    write("HWDB1.1trn_gnt/1001-f.gnt", "b0a1")
    root = write("again/HWDB1.1trn_gnt/1001-f.gnt", "b0a1")
    with pytest.raises(DataError, match=r"1001-f.gnt and .*1001-f.gnt are of the same writer"):
        CasiaHWDB(root).check()
