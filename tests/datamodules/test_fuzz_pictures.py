"""Damaged picture files: right data or a `DataError`, soon and in little memory.

SPCNN_FUZZ=10000 sets the number of damaged files for each format (300 if not set). What is read is
right if written again it gives the bytes of the file.
"""

import gzip
import io
import pickle

import numpy as np
import pytest
from PIL import Image

from spcnn_lightning.datamodules import CIFAR10, CIFAR100, EMNIST, MNIST, CasiaHWDB, ImageFolder
from spcnn_lightning.datamodules.pictures.safe_pickle import load_plain_pickle

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
PHOTOS = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def read(source):
    """Read all training pictures, which must be what the data module takes."""
    found = source.train()
    pictures = found.select(np.arange(len(found)))
    for picture in pictures:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == source.channels == found.channels
        assert picture.size
    assert len(pictures) == len(found.labels)
    assert found.labels.min() >= 0
    assert found.labels.max() < source.num_classes
    return found, pictures


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("what", ["images", "labels"])
def test_damaged_idx(what, ending, tmp_path, fuzzing, picture_files):
    valid = {"images": IMAGES, "labels": np.arange(4)}
    axes = {"images": 3, "labels": 1}
    for name, array in valid.items():
        write(tmp_path / f"train-{name}-idx{axes[name]}-ubyte", picture_files.idx_bytes(array))
    plain = tmp_path / f"train-{what}-idx{axes[what]}-ubyte"
    target = plain.with_name(plain.name + ending)
    packed = (gzip.compress if ending else bytes)(plain.read_bytes())
    plain.unlink()

    def read_bytes(data):
        write(target, data)
        found, _ = read(MNIST(tmp_path))
        again = picture_files.idx_bytes(found.images[..., 0] if what == "images" else found.labels)
        assert again == (gzip.decompress(data) if ending else data)
        return found

    fuzzing.check(packed, read_bytes, f"idx {what}{ending}")


def test_damaged_emnist(tmp_path, fuzzing, picture_files):
    names = [f"emnist-letters-train-{end}" for end in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    write(tmp_path / names[0], picture_files.idx_bytes(IMAGES))

    def read_bytes(data):
        write(tmp_path / names[1], data)
        return read(EMNIST(tmp_path, "letters"))[0]

    fuzzing.check(picture_files.idx_bytes(np.arange(1, 5)), read_bytes, "EMNIST labels")


def test_damaged_gnt(tmp_path, fuzzing, picture_files):
    codes = (b"A\0", b"\xb0\xa1", b"\xd7\xf9")
    records = map(picture_files.gnt_record, codes, (IMAGES[0], IMAGES[1, :2], IMAGES[2, :, :1]))
    valid = b"".join(records)

    def read_bytes(data):
        write(tmp_path / "1001-f.gnt", data)
        source = CasiaHWDB(tmp_path, other_characters=True)
        found, pictures = read(source)
        place = 0
        for label, picture in zip(found.labels, pictures, strict=True):
            code = source.class_names[label].encode("gb18030")
            assert code == data[place + 4 : place + 6].strip(b"\0")
            record = picture_files.gnt_record(data[place + 4 : place + 6], picture[..., 0])
            assert record == data[place : place + len(record)]
            place += len(record)
        assert place == len(data)
        return found

    fuzzing.check(valid, read_bytes, "gnt")


def cifar10(root, data, ending):
    for number in range(1, 6):
        write(root / f"data_batch_{number}{ending}", data)
    return CIFAR10(root, complete=False)


def cifar100(root, data, ending):
    write(root / f"train{ending}", data)
    return CIFAR100(root, complete=False)


@pytest.mark.parametrize("make", [cifar10, cifar100])
def test_damaged_binary_cifar(make, tmp_path, fuzzing, picture_files):
    count = 1 if make is cifar10 else 2
    records = [picture_files.cifar_record([7, 3][:count], photo) for photo in PHOTOS]

    def read_bytes(data):
        found, pictures = read(make(tmp_path, data, ".bin"))
        size = 3072 + count
        assert len(found) == (5 if make is cifar10 else 1) * len(data) // size
        for index in range(len(data) // size):
            record = data[index * size : (index + 1) * size]
            assert record == picture_files.cifar_record(
                [*record[: count - 1], found.labels[index]], pictures[index]
            )
        return found

    fuzzing.check(b"".join(records), read_bytes, f"binary {make.__name__}")


@pytest.mark.parametrize("form", ["python 2", 3, 4, 5])
@pytest.mark.parametrize("make", [cifar10, cifar100])
def test_damaged_python_cifar(make, form, tmp_path, fuzzing, picture_files):
    names = ["labels"] if make is cifar10 else ["coarse_labels", "fine_labels"]
    rows, labels = picture_files.cifar_rows(PHOTOS), {name: [7, 3] for name in names}
    if form == "python 2":
        valid = picture_files.python2_batch(rows, labels)
    else:
        valid = picture_files.python3_batch(rows, labels, form)

    def read_bytes(data):
        found, _ = read(make(tmp_path, data, ""))
        for picture in found.images:
            assert picture.transpose(2, 0, 1).tobytes() in data
        return found

    fuzzing.check(valid, read_bytes, f"pickled {make.__name__}, {form}")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_damaged_pickles_that_are_all_operations(protocol, fuzzing):
    """The batches are nearly all pixels; in this one nearly every byte is an operation."""
    array = np.arange(4, dtype=np.uint8).reshape(2, 2)
    value = {"labels": [1, 300, -1], "names": ["a", ("b", "c"), {"d": None}], "e": [True, {}, ()]}
    value |= {"data": array} if protocol > 2 else {}
    fuzzing.check(pickle.dumps(value, protocol), _read_dict, f"operations {protocol}")


def _read_dict(data):
    found = load_plain_pickle(data, "a")
    return found if hasattr(found, "__len__") else [found]


def saved(mode, form, **options):
    pixels = {"L": IMAGES[0], "RGB": PHOTOS[0, :9, :7], "RGBA": PHOTOS[0].repeat(2, 2)[:8, :8, :4]}
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[mode])).save(buffer, form, **options)
    return buffer.getvalue()


IMAGE_FILES = {
    "a.png": saved("RGBA", "png"),
    "b.png": saved("L", "png"),
    "a.jpg": saved("RGB", "jpeg"),
    "a.bmp": saved("RGB", "bmp"),
    "a.pgm": saved("L", "ppm"),
    "a.tif": saved("RGB", "tiff"),
    "b.tif": saved("RGB", "tiff", compression="tiff_lzw"),
    "a.webp": saved("RGBA", "webp", lossless=True),
}


@pytest.mark.parametrize("name", IMAGE_FILES)
# Pillow warns of odd values that it passes over, and of large pictures, which are then refused.
@pytest.mark.filterwarnings("ignore")
def test_damaged_image_files(name, tmp_path, fuzzing):
    def read_bytes(data):
        write(tmp_path / "train" / "a" / name, data)
        found, (picture,) = read(ImageFolder(tmp_path))
        if right and name.endswith(".png"):  # the other formats have no checksums
            np.testing.assert_array_equal(picture, right[0])
        return found

    right = []
    read_bytes(IMAGE_FILES[name])
    right += ImageFolder(tmp_path).train().select([0])
    fuzzing.check(IMAGE_FILES[name], read_bytes, name)
