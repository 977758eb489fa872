import gzip
import hashlib
import struct

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import EMNIST, KMNIST, MNIST, FashionMNIST
from spcnn_lightning.datamodules.pictures import idx_files
from spcnn_lightning.datamodules.pictures.idx import EMNIST_CLASSES

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([7, 9], np.uint8)
EMNIST_SIZES = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10}


@pytest.fixture
def write(tmp_path, picture_files):
    """Write the two files of a part and return the folder."""

    def write_files(images=IMAGES, labels=LABELS, names=None, pack=lambda data: data):
        names = names or ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
        for name, array in zip(names, (images, labels), strict=True):
            data = array if isinstance(array, bytes) else picture_files.idx_bytes(array)
            (tmp_path / name).write_bytes(pack(data))
        return tmp_path

    return write_files


def test_the_bytes_of_a_file(write):
    images = bytes.fromhex("00000803 00000001 00000002 00000003 00 80 ff 01 02 03")
    source = MNIST(write(images, bytes.fromhex("00000801 00000001 05")))
    train = source.train()
    assert train.select([0])[0][..., 0].tolist() == [[0, 128, 255], [1, 2, 3]]
    assert (train.labels.tolist(), train.writers, train.channels) == ([5], None, 1)
    assert (source.background, source.num_classes) == (0.0, 10)


@pytest.mark.parametrize("source", [MNIST, KMNIST, FashionMNIST])
@pytest.mark.parametrize("name", ["t10k-{}-idx{}-ubyte", "t10k-{}.idx{}-ubyte"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_have_their_usual_names(write, source, name, ending):
    names = [name.format("images", 3) + ending, name.format("labels", 1) + ending]
    root = write(names=names, pack=gzip.compress if ending else bytes)
    found = source(root).test()
    np.testing.assert_array_equal(found.images[..., 0], IMAGES)
    assert found.labels.tolist() == [7, 9]
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte is missing.*{source.__name__}"):
        source(root).check()


def test_mnist_is_read_completely(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip(f"no mnist in {data_dir}")
    source = MNIST(data_dir / "mnist")
    source.check()
    train, test = source.train(), source.test()
    assert (train.images.shape, test.images.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train.labels).tolist() == counts
    assert np.bincount(test.labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    # Of the original, unpacked train-images-idx3-ubyte.
    header = struct.pack(">4I", 2051, 60_000, 28, 28)
    digest = hashlib.md5(header + train.images.tobytes(), usedforsecurity=False).hexdigest()
    assert digest == "6bbc9ace898e44ae57da46a324031adb"


@pytest.mark.parametrize(("split", "classes"), EMNIST_SIZES.items())
def test_emnist_is_upright_and_counts_from_0(write, split, classes):
    names = [f"emnist-{split}-train-{end}" for end in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    first = int(split == "letters")
    source = EMNIST(write(IMAGES, np.array([first, first + classes - 1]), names), split)
    train = source.train()
    assert train.select([1])[0].shape == (4, 3, 1)
    np.testing.assert_array_equal(train.select([1])[0][..., 0], IMAGES[1].T)
    assert train.labels.tolist() == [0, classes - 1]
    assert source.num_classes == classes == len(set(source.class_names))


def test_the_names_of_emnist():
    assert EMNIST_CLASSES["balanced"][36:] == "abdefghnqrt"
    assert EMNIST_CLASSES["byclass"][10:12] + EMNIST_CLASSES["byclass"][36:38] == "ABab"
    with pytest.raises(ValueError, match="split is 'x', expected one of byclass"):
        EMNIST("a", "x")


@pytest.mark.parametrize("value", [0, 27])
def test_a_label_of_emnist_letters_is_from_1_to_26(write, value):
    names = [f"emnist-letters-train-{end}" for end in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    root = write(IMAGES, np.array([1, value]), names)
    with pytest.raises(DataError, match=f"byte 9: label {value}, expected 1 to 26"):
        EMNIST(root, "letters").train()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (b"", "images-idx3-ubyte: byte 0: a header of no bytes, expected 00 00 08 03"),
        (b"\0\0\x08\x01\0\0\0\0", "byte 0: a header of 00 00 08 01"),
        (b"\0\0\x08\x03\0\0\0\x02", "byte 0: a header of 00 00 08 03, expected .* 3 lengths"),
        (struct.pack(">4I", 2051, 2, 3, 0), r"byte 4: shape \(2, 3, 0\), expected no 0"),
        (struct.pack(">4I", 2051, 2, 1 << 15, 1), "sides of at most 16384"),
        (struct.pack(">4I", 2051, 2**31, 28, 28) + bytes(99), "byte 4: shape .* at most 115"),
        (struct.pack(">4I", 2051, 2, 3, 4) + bytes(23), "byte 4: shape .* cut off"),
        (struct.pack(">4I", 2051, 2, 3, 4) + bytes(25), "byte 40: expected the end"),
        (struct.pack(">4I", 2051, 1, 3, 4) + bytes(12), "1 pictures, expected 2"),
    ],
)
def test_a_damaged_file_is_named_with_the_place(write, images, message):
    with pytest.raises(DataError, match=message):
        MNIST(write(images)).train()


def test_a_wrong_label_is_named_with_its_place(write):
    root = write(labels=np.array([9, 10]))
    with pytest.raises(DataError, match="labels-idx1-ubyte: byte 9: label 10, expected 0 to 9"):
        MNIST(root).train()


def test_a_packed_file_gives_no_more_than_its_header_states(write, monkeypatch):
    names = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte")
    read = []
    really = idx_files._read
    monkeypatch.setattr(
        idx_files, "_read", lambda file, size: read.append(size) or really(file, size)
    )

    def root(*shape, size):
        data = gzip.compress(struct.pack(">4I", 2051, *shape) + bytes(size))
        return write(data, names=names)

    with pytest.raises(DataError, match="byte 40: expected the end"):
        MNIST(root(2, 3, 4, size=1 << 26)).train()
    with pytest.raises(DataError, match="byte 4: shape .2147483648"):
        MNIST(root(2**31, 28, 28, size=100)).train()
    with pytest.raises(DataError, match="byte 36: the end, expected 4 more bytes"):
        MNIST(root(2, 3, 4, size=20)).train()
    assert read == [2, 24, 2, 2, 24], "labels and pictures; none for the wrong header"


def test_a_damaged_gz_is_an_error_at_every_cut(write, picture_files):
    packed = gzip.compress(picture_files.idx_bytes(IMAGES))
    for end in range(len(packed)):
        root = write(packed[:end], names=("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"))
        with pytest.raises(DataError, match=r"ubyte\.gz: "):
            MNIST(root).train()
