"""Sequences of pictures, the embedded digits, arrays, wrapped data sets, fewer labels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    ArrayPictures,
    DatasetPictures,
    Digits,
    FewPictures,
    PictureArray,
    PictureList,
    PictureSubset,
)

GREY = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)


def small(height, width, value, channels=1):
    return np.full((height, width, channels), value, np.uint8)


def test_an_array_gives_pictures_with_a_channel():
    pictures = PictureArray(GREY, [4, 0], writers=[7, 8])
    assert (len(pictures), pictures.channels, pictures.labels.dtype) == (2, 1, np.int64)
    assert (pictures.writers.tolist(), pictures.writers.dtype) == ([7, 8], np.int32)
    chosen = pictures.select([1, 1, 0])
    assert [picture.shape for picture in chosen] == [(3, 2, 1)] * 3
    assert chosen[0][:, :, 0].tolist() == [[6, 7], [8, 9], [10, 11]]


def test_a_mapped_array_stays_on_disk(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    pictures = PictureArray(np.load(tmp_path / "a.npy", mmap_mode="r"), [0, 1])
    assert isinstance(pictures.images, np.memmap)
    np.testing.assert_array_equal(pictures.select([1])[0][..., 0], GREY[1])


def test_a_list_holds_pictures_of_different_sizes_and_a_subset_is_a_view():
    pictures = PictureList([small(2, 5, 1), small(4, 1, 2), small(3, 3, 3)], [0, 1, 2], [5, 6, 5])
    view = PictureSubset(pictures, [2, 1])
    assert (len(view), view.channels) == (2, 1)
    assert (view.labels.tolist(), view.writers.tolist()) == ([2, 1], [5, 6])
    assert [picture.shape for picture in view.select([1, 0, 1])] == [
        (4, 1, 1),
        (3, 3, 1),
        (4, 1, 1),
    ]
    assert PictureSubset(PictureArray(GREY, [0, 1]), [1]).writers is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PictureArray(GREY.astype(float), [0, 1]), "images are float64 of shape"),
        (lambda: PictureArray(GREY[0], [0, 1, 2]), r"shape \(3, 2\), expected uint8"),
        (lambda: PictureArray(GREY, [0]), r"labels are int64 of shape \(1,\), expected .*\(2,\)"),
        (lambda: PictureArray(GREY, [0.0, 1.0]), "labels are float64"),
        (lambda: PictureArray(GREY, [0, -1]), "label -1 of picture 1"),
        (lambda: PictureArray(GREY, [0, 1], [1]), "writers are int64 of shape"),
        (lambda: PictureList([], []), "no picture"),
        (
            lambda: PictureList([small(1, 1, 0), small(1, 1, 0, 3)], [0, 0]),
            r"picture 1 .*\(H, W, 1",
        ),
        (lambda: PictureList([small(0, 1, 0)], [0]), "picture 0 is uint8 of shape"),
    ],
)
def test_what_is_no_picture_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_embedded_digits_are_those_of_scikit_learn():
    source = Digits()
    train, test = source.train(), source.test()
    assert (train.images.shape, test.images.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert np.bincount(train.labels).tolist() == [143, 146, 142, 146, 144, 145, 144, 143, 141, 143]
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.images[0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0 0 5 13 9 1 0 0


def test_the_embedded_digits_equal_scikit_learn_where_it_is_installed():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    source = Digits()
    images = np.concatenate([source.train().images, source.test().images])[..., 0]
    np.testing.assert_array_equal(np.rint(digits.images * 255 / 16), images)
    labels = np.concatenate([source.train().labels, source.test().labels])
    np.testing.assert_array_equal(digits.target, labels)


def test_few_labels_are_nested_and_leave_the_test_whole():
    few, more = (FewPictures(Digits(), per_class=n, seed=3) for n in (5, 20))
    assert np.bincount(few.train().labels).tolist() == [5] * 10
    assert set(few.train().indices) < set(more.train().indices)
    assert len(few.test()) == 360
    assert (few.channels, few.background, few.num_classes) == (1, 0.0, 10)
    with pytest.raises(ValueError, match="per_class is 0"):
        FewPictures(Digits(), per_class=0)


def test_arrays_are_a_source():
    source = ArrayPictures(GREY, [1, 2], [GREY[0], np.zeros((9, 1), np.uint8)], [0, 2])
    assert (source.class_names, source.channels) == (("0", "1", "2"), 1)
    assert [picture.shape for picture in source.test().select([0, 1])] == [(3, 2, 1), (9, 1, 1)]
    with pytest.raises(ValueError, match="label 3 of picture 0, expected 0 to 2"):
        ArrayPictures(GREY, [1, 2], GREY, [3, 0])
    with pytest.raises(ValueError, match="test pictures have 3 channels, training ones 1"):
        ArrayPictures(GREY, [1, 2], np.zeros((1, 2, 2, 3), np.uint8), [0])


class Items(list):
    """A data set as torchvision has them."""


def test_a_data_set_of_images_is_a_source():
    image = Image.fromarray(np.array([[0, 9], [200, 255]], np.uint8))
    train = Items([(image, 1), (image.convert("RGB"), np.int64(0)), (image, torch.tensor(1))])
    train.classes = ["cat", "dog"]
    source = DatasetPictures(train, Items([(image.resize((5, 3)), 0)]))
    assert (source.channels, source.class_names) == (1, ("cat", "dog"))
    assert source.train().labels.tolist() == [1, 0, 1]
    for picture in source.train().select([0, 1]):
        assert picture[..., 0].tolist() == [[0, 9], [200, 255]]
    assert source.test().select([0])[0].shape == (3, 5, 1)
    assert DatasetPictures(train, train, channels=3).train().select([0])[0].shape == (2, 2, 3)


def test_tensors_and_arrays_of_a_data_set_are_the_same_picture():
    planes = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    rows = planes.permute(1, 2, 0).numpy()
    train = Items([(planes, 0), (planes.double() / 255, 1), (rows, 2)])
    source = DatasetPictures(train, Items([(planes, 2)]))
    assert (source.channels, source.num_classes) == (3, 3)
    for picture in source.train().select([0, 1, 2]):
        np.testing.assert_array_equal(picture, rows)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((torch.full((1, 2, 2), 1.5), 0), r"test\[0\]: a floating-point tensor with values beyond"),
        ((torch.full((1, 2, 2), torch.nan), 0), "values beyond 0 to 1"),
        ((np.zeros((2, 2, 3), np.uint8), 0), r"test\[0\]: uint8 of shape \(2, 2, 3\), expected"),
        ((np.zeros((2, 2)), 0), r"float64 of shape \(2, 2, 1\), expected uint8"),
        (("a.png", 0), "a picture of type str"),
        ((GREY[0], 1.0), r"test\[0\]: label of type float, expected int"),
        ((GREY[0], 5), "label 5 of picture 0, expected 0 to 1"),
        ((GREY[0], -1), "test: label -1"),
        ((GREY[0],), r"test\[0\] is a tuple, expected \(picture, label\)"),
        ((Image.new("F", (2, 2)), 0), r"test\[0\]: grey values are floating-point"),
    ],
)
def test_another_item_of_a_data_set_is_refused(item, message):
    source = DatasetPictures(Items([(GREY[0], 0), (GREY[1], 1)]), Items([item]))
    assert source.num_classes == 2
    with pytest.raises(DataError, match=message):
        source.test()


def test_a_label_without_a_name_is_refused():
    train = Items([(GREY[0], 2)])
    train.classes = ["cat", "dog"]
    with pytest.raises(DataError, match="train: label 2 of picture 0, expected 0 to 1"):
        DatasetPictures(train, train).train()


def test_a_data_set_without_a_length_is_refused():
    source = DatasetPictures(SimpleNamespace(), SimpleNamespace(), channels=1)
    with pytest.raises(DataError, match=r"train: .*expected a data set with a length"):
        source.train()


def test_channels_that_come_first_are_refused():
    pictures = np.zeros((5, 3, 32, 32), np.uint8)
    with pytest.raises(ValueError, match=r"3 high of 32 channels: channels come last"):
        ArrayPictures(pictures, [0] * 5, pictures, [0] * 5)
    with pytest.raises(ValueError, match="channels come last"):
        ArrayPictures(list(pictures), [0] * 5, list(pictures), [0] * 5)
    last = pictures.transpose(0, 2, 3, 1)
    assert ArrayPictures(last, [0] * 5, last, [0] * 5).channels == 3
