import pickle
import warnings

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import CIFAR10, CIFAR100

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
TEN = {"labels": [6, 9]}
HUNDRED = {"coarse_labels": [11, 19], "fine_labels": [19, 99]}


@pytest.fixture
def batch(picture_files):
    """Return a batch of two pictures in one of the forms."""

    def make(form, labels=TEN, pictures=PICTURES):
        rows = picture_files.cifar_rows(pictures)
        if form == "binary":
            both = zip(zip(*labels.values(), strict=True), pictures, strict=True)
            return b"".join(
                picture_files.cifar_record(list(some), picture) for some, picture in both
            )
        if form == "python 2":
            return picture_files.python2_batch(rows, labels)
        return picture_files.python3_batch(rows, labels, int(form[-1]))

    return make


@pytest.fixture
def write10(tmp_path):
    def write(data, binary=False, names=("data_batch_1", "data_batch_2", "test_batch")):
        folder = tmp_path / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
        folder.mkdir()
        for name in (*names, "data_batch_3", "data_batch_4", "data_batch_5"):
            (folder / (name + ".bin" * binary)).write_bytes(data)
        return tmp_path

    return write


def test_the_bytes_of_a_record(tmp_path):
    record = bytes([3]) + bytes(range(256)) * 4 + bytes([17]) * 1024 + bytes([255]) * 1024
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"):
        (tmp_path / f"{name}.bin").write_bytes(record)
    source = CIFAR10(tmp_path, complete=False)
    train = source.train()
    assert train.images[0, 1, 2].tolist() == [34, 17, 255], "row 1, column 2; red, green, blue"
    assert (train.labels.tolist(), source.class_names[3]) == ([3] * 5, "cat")
    assert (source.channels, source.background, train.writers) == (3, 128.0, None)


def test_the_fixture_is_a_pickle_of_python_2(batch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy.core has another name by now
        loaded = pickle.loads(batch("python 2"), encoding="bytes")
    assert loaded[b"labels"] == [6, 9]
    assert loaded[b"data"].reshape(2, 3, 32, 32)[1, 2, 4, 5] == PICTURES[1, 4, 5, 2]


@pytest.mark.parametrize("form", ["binary", "python 2", "protocol 3", "protocol 4", "protocol 5"])
def test_all_forms_are_read(batch, write10, form):
    source = CIFAR10(write10(batch(form), binary=form == "binary"), complete=False)
    source.check()
    train, test = source.train(), source.test()
    np.testing.assert_array_equal(train.images, np.concatenate([PICTURES] * 5))
    np.testing.assert_array_equal(test.images, PICTURES)
    assert (train.labels.tolist(), test.labels.tolist()) == ([6, 9] * 5, [6, 9])


@pytest.mark.parametrize("form", ["binary", "python 2", "protocol 4"])
def test_cifar100_has_classes_and_superclasses(batch, tmp_path, form):
    folder = tmp_path / ("cifar-100-binary" if form == "binary" else "cifar-100-python")
    folder.mkdir()
    for name in ("train", "test"):
        (folder / (name + ".bin" * (form == "binary"))).write_bytes(batch(form, HUNDRED))
    fine = CIFAR100(tmp_path, complete=False)
    coarse = CIFAR100(folder, superclasses=True, complete=False)
    np.testing.assert_array_equal(fine.train().images, PICTURES)
    assert (fine.num_classes, fine.test().labels.tolist()) == (100, [19, 99])
    assert (coarse.num_classes, coarse.test().labels.tolist()) == (20, [11, 19])
    assert [fine.class_names[i] for i in (0, 19, 99)] == ["apple", "cattle", "worm"]
    assert coarse.class_names[11] == "large_omnivores_and_herbivores"


def test_files_that_lack_pictures_are_refused(batch, write10):
    root = write10(batch("binary"), binary=True)
    with pytest.raises(DataError, match=r"10 pictures in 5 files of the train part.*have 50000"):
        CIFAR10(root).train()
    with pytest.raises(DataError, match=r"2 pictures in 1 files of the test part.*have 10000"):
        CIFAR10(root).test()


def test_a_missing_file_is_named(batch, write10, tmp_path):
    with pytest.raises(DataError, match=r"no data_batch_1 or data_batch_1\.bin"):
        CIFAR10(tmp_path).check()
    with pytest.raises(DataError, match="no train or train.bin, nor do cifar-100-binary and"):
        CIFAR100(tmp_path).check()
    write10(batch("binary"), binary=True, names=("data_batch_1", "test_batch"))
    with pytest.raises(DataError, match=r"data_batch_2\.bin is missing: unpack"):
        CIFAR10(tmp_path).check()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "byte 0: 0 bytes left, expected a record of 3073"),
        (lambda data: data[:-1], "byte 3073: 3072 bytes left"),
        (lambda data: data[:3073] + b"\x0a" + data[3074:], "byte 3073: label 10, expected 0 to 9"),
    ],
)
def test_a_damaged_binary_file_is_named_with_the_place(batch, write10, damage, message):
    root = write10(damage(batch("binary")), binary=True)
    with pytest.raises(DataError, match=rf"data_batch_1\.bin: {message}"):
        CIFAR10(root, complete=False).train()


def test_a_coarse_label_out_of_range_is_damage_as_well(batch, tmp_path):
    data = batch("binary", {"coarse_labels": [0, 20], "fine_labels": [0, 0]})
    (tmp_path / "train.bin").write_bytes(data)
    with pytest.raises(DataError, match=r"train\.bin: byte 3074: label 20, expected 0 to 19"):
        CIFAR100(tmp_path, complete=False).train()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "a pickled list, expected a dict"),
        ({"labels": [1]}, r"data has no array, expected \(n, 3072\) bytes"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [1]}, r"data has shape \(1, 3071\)"),
        ({"data": np.zeros((1, 3072), np.uint8)}, "a list 'labels' of no labels, expected 1"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [1, 2]}, "of 2 labels, expected 1"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, r"labels\[0\] is 10, expected 0"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [-1]}, r"labels\[0\] is -1"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [True]}, r"labels\[0\] is True"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["1"]}, r"labels\[0\] is str"),
        (
            {"data": np.zeros((1, 3072), np.int16), "labels": [1]},
            "byte .*: expected an array of un",
        ),
    ],
)
@pytest.mark.parametrize("protocol", [4, 5])
def test_a_batch_of_something_else_is_refused(write10, content, message, protocol):
    root = write10(pickle.dumps(content, protocol))
    with pytest.raises(DataError, match=f"data_batch_1: .*{message}"):
        CIFAR10(root, complete=False).train()
