import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spcnn_lightning.core.errors import DataError, MissingExtraError
from spcnn_lightning.datamodules import FewPictures, ImageFolder, ImagePaddingDataModule
from spcnn_lightning.datamodules.pictures import pillow_images

COLOUR = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
GREY = np.arange(15, dtype=np.uint8).reshape(3, 5)


@pytest.fixture
def save(tmp_path):
    def save_image(name, pixels, mode=None, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        (image if mode is None else image.convert(mode)).save(path, **options)
        return tmp_path

    return save_image


def only(root, **options):
    (picture,) = ImageFolder(root, **options).train().select([0])
    return picture


def test_folders_are_classes_and_pictures_keep_their_sizes(save):
    save("train/dog/b.png", GREY)
    save("train/cat/1.PNG", COLOUR)
    save("train/dog/inside/a.bmp", COLOUR[:2])
    save("test/dog/x.ppm", COLOUR[:1])
    root = save("train/.hidden/a.png", GREY)
    (root / "train" / "dog" / "notes.txt").write_text("no picture")
    (root / "train" / "dog" / ".thumbnail.png").write_text("no picture")
    source = ImageFolder(root)
    source.check()
    train, test = source.train(), source.test()
    assert (source.class_names, source.background) == (("cat", "dog"), 128.0)
    assert (train.labels.tolist(), test.labels.tolist(), train.writers) == ([0, 1, 1], [1], None)
    pictures = train.select([0, 1, 2])
    assert [picture.shape for picture in pictures] == [(3, 5, 3), (3, 5, 3), (2, 5, 3)]
    np.testing.assert_array_equal(pictures[0], COLOUR)
    np.testing.assert_array_equal(pictures[1], np.stack([GREY] * 3, axis=2))
    np.testing.assert_array_equal(test.select([0])[0], COLOUR[:1])


def test_files_are_named_where_a_sample_is(save):
    for number in range(10):
        save(f"train/a/{number}.png", COLOUR)
    save("train/b/large.png", np.zeros((40, 5), np.uint8))
    root = save("test/a/x.png", GREY)
    data = ImagePaddingDataModule(ImageFolder(root), spatial_shape=(24, 24), seed=1)
    data.setup()
    test, held_out, trained = (
        data.evaluation_data(part).sample_names for part in ("test", "val", "train")
    )
    assert test == [str(root / "test" / "a" / "x.png")]
    assert len({*held_out, *trained}) == 11
    for part, names in (("val", held_out), ("train", trained)):
        labels = data.evaluation_data(part).pictures.labels
        assert [Path(name).parent.name for name in names] == ["ab"[label] for label in labels]
    for workers in (0, 1):
        data = ImagePaddingDataModule(
            ImageFolder(root), spatial_shape=(24, 24), train_on_all=True, num_workers=workers
        )
        with pytest.raises(DataError, match=r"large\.png: picture 10 has 40 x 5 pixels and does"):
            list(data.train_dataloader())
    digits = ImagePaddingDataModule()
    digits.setup()
    assert digits.evaluation_data("val").sample_names is None
    few = FewPictures(ImageFolder(root), per_class=1).train()
    assert [Path(name).parent.name for name in few.names] == ["a", "b"]


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "tif", "webp"])
def test_formats_without_loss_are_exact(save, ending):
    root = save(f"train/a/a.{ending}", COLOUR, **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(only(root), COLOUR)


def test_jpeg_is_read(save):
    root = save("train/a/a.jpg", np.full((9, 7, 3), (200, 30, 30), np.uint8), quality=95)
    assert np.abs(only(root).astype(int) - (200, 30, 30)).max() < 12


def test_colour_becomes_grey_by_its_brightness(save):
    root = save("train/a/a.png", np.full((1, 1, 3), (255, 0, 0), np.uint8))
    assert only(root, channels=1).tolist() == [[[76]]], "0.299 of red, ITU-R 601"


@pytest.mark.parametrize("background", [128.0, 255.0])
def test_what_is_transparent_is_background(save, background):
    pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [10, 20, 30, 51]]], np.uint8)
    root = save("train/a/a.png", pixels)
    clear, solid, fifth = only(root, background=background)[0].tolist()
    assert (clear, solid) == ([background] * 3, [10, 20, 30])
    assert fifth == [round(0.2 * value + 0.8 * background) for value in (10, 20, 30)]
    grey = only(save("train/a/a.png", pixels, "LA"), channels=1, background=background)
    assert grey[0, 0].tolist() == [background]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    palette.putpalette([1, 2, 3, 4, 5, 6])
    save("train/a/a.png", palette, transparency=0)
    assert only(root, background=background).tolist() == [[[background] * 3, [4, 5, 6]]]


def test_16_bits_keep_the_upper_8_and_1_bit_is_black_and_white(save):
    root = save("train/a/a.png", np.array([[0, 255, 256, 65_535]], np.uint16))
    assert only(root, channels=1)[..., 0].tolist() == [[0, 0, 1, 255]]
    assert only(root).shape == (1, 4, 3)
    save("train/a/a.png", np.array([[0, 255]], np.uint8), "1")
    assert only(root, channels=1)[..., 0].tolist() == [[0, 255]]


def test_a_camera_held_sideways_is_turned(save):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter to the right
    root = save("train/a/a.png", GREY, exif=exif)
    np.testing.assert_array_equal(only(root, channels=1)[..., 0], np.rot90(GREY, -1))


def test_missing_folders_and_unknown_classes_are_named(save, tmp_path):
    with pytest.raises(DataError, match="train is missing: train='train' names the folder"):
        ImageFolder(tmp_path).check()
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no picture to learn from: no file ends in \.bmp"):
        ImageFolder(tmp_path).train()
    with pytest.raises(DataError, match="a holds no folders, expected one for each class"):
        ImageFolder(tmp_path / "train", train="a").check()
    save("test/b/a.png", GREY)
    with pytest.raises(DataError, match="class 'b' is not among the 1 classes"):
        ImageFolder(tmp_path).test()
    with pytest.raises(ValueError, match="channels is 2 and background 300"):
        ImageFolder(tmp_path, channels=2, background=300)


def png_header(width, height):
    """The start of a grey PNG; its checksum is right."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body
    return head + struct.pack(">I", zlib.crc32(body)) + struct.pack(">I", 99) + b"IDAT"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", ".*cannot identify"),
        (png_header(9_000, 9_000), "9000 x 9000 pixels, expected at most 33554432"),
        (png_header(60_000, 60_000), "cannot be read as a picture: Image size"),
        (png_header(9, 9), "cannot be read as a picture"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, data, message, fuzzing):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "b.png").write_bytes(data)
    with fuzzing.limits(), pytest.raises(DataError, match=rf"b\.png: {message}"):
        only(tmp_path)


def test_a_picture_cut_off_anywhere_is_whole_or_an_error(save, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "png")
    root, data = save("train/a/a.png", GREY), buffer.getvalue()
    outcomes = []
    for end in range(len(data)):
        (tmp_path / "train" / "a" / "a.png").write_bytes(data[:end])
        try:
            np.testing.assert_array_equal(only(root), COLOUR)
            outcomes.append(end)
        except DataError:
            continue
    assert len(outcomes) <= 20, "the last chunk and checksum are no part of the picture"


def test_numbers_without_a_range_are_refused(save):
    root = save("train/a/a.tif", np.zeros((2, 2), np.float32))
    with pytest.raises(DataError, match=r"a\.tif: .*floating-point"):
        only(root)


def test_without_pillow_the_extra_is_named(monkeypatch, save):
    root = save("train/a/a.png", GREY)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spcnn-lightning\[pictures\]'"):
        ImageFolder(root).check()
    assert pillow_images.ENDINGS


def test_a_class_without_pictures_is_refused_and_pictures_left_out_are_told(save):
    save("train/dog/b.png", GREY)
    root = save("train/cat/a.png", GREY)
    (root / "train" / "cat" / "c.HEIC").write_bytes(b"another kind")
    with pytest.warns(UserWarning, match=r"cat: 1 of 2 pictures cannot be read, such as c\.HEIC"):
        assert len(ImageFolder(root).train()) == 2
    (root / "train" / "cat" / "a.png").unlink()
    (root / "train" / "cat" / "c.HEIC").unlink()
    with pytest.raises(DataError, match=r"class 'cat' has no picture to learn from"):
        ImageFolder(root).train()
    with pytest.raises(DataError, match=r"nowhere is no folder"):
        ImageFolder(root / "nowhere").check()


def test_numbers_of_any_range_are_refused(save):
    root = save("train/a/a.tif", Image.fromarray(GREY.astype(np.int32)))
    with pytest.raises(DataError, match="grey values are integers of any range"):
        only(root)


def test_what_is_transparent_in_16_bits_shows_the_background(save):
    pixels = Image.fromarray(GREY.astype(np.uint16) << 8)
    root = save("train/a/a.png", pixels, transparency=3 << 8)
    expected = np.where(GREY == 3, 255, GREY)
    np.testing.assert_array_equal(only(root, channels=1, background=255)[..., 0], expected)


def test_several_pictures_in_a_file_are_refused(save):
    pages = [Image.fromarray(GREY) for _ in range(2)]
    root = save("train/a/a.tif", pages[0], save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="it holds 2 pictures"):
        only(root)


def test_16_bits_for_which_white_is_zero_are_refused(save):
    root = save("train/a/a.tif", Image.fromarray(GREY.astype(np.uint16) << 8))
    path = root / "train" / "a" / "a.tif"
    np.testing.assert_array_equal(only(root, channels=1)[..., 0], GREY)
    tag = struct.pack("<HHIH", 262, 3, 1, 1)  # photometric interpretation: black is zero
    data = path.read_bytes()
    assert data.count(tag) == 1
    path.write_bytes(data.replace(tag, struct.pack("<HHIH", 262, 3, 1, 0)))
    with pytest.raises(DataError, match="16-bit grey values for which white is zero"):
        only(root)
