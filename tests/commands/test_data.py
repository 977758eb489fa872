"""``spcnn data`` on small files."""

import importlib.util
import itertools
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spcnn_lightning.commands import data_show, data_show_config
from spcnn_lightning.commands.data_info import describe_part
from spcnn_lightning.commands.data_info_pictures import describe_pictures
from spcnn_lightning.commands.data_show import png
from spcnn_lightning.commands.main import main
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    CanvasJson,
    ImagePaddingDataModule,
    PictureAugmentation,
    StrokeSet,
    StrokeSource,
)
from spcnn_lightning.datamodules.pictures import PictureSource
from spcnn_lightning.datamodules.pictures.base import PictureArray, PictureList
from spcnn_lightning.datamodules.preparing import prepare
from spcnn_lightning.datamodules.sources.base import Piece
from spcnn_lightning.modules.drawing import draw_samples

DRAWING = [[[1, 2], [30, 40]], [[40, 2], [1, 30]]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Canvas files of three classes; the test part has a damaged line."""
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        (tmp_path / "ink" / part).mkdir(parents=True)
        lines = [
            json.dumps({"label": c, "writer": n, "strokes": DRAWING})
            for n in range(3)
            for c in "abé"
        ]
        if part == "test":
            lines[4] = lines[4][:20]
        (tmp_path / "ink" / part / "x.ndjson").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def run(*words):
    return main(["data", *map(str, words)])


def test_damaged_data_stop_and_name_the_place(folder, capsys):
    assert run("prepare", "--source", "CanvasJson", "--root", "ink", "--out", "out") == 2
    assert "x.ndjson: line 5 (byte 329): no JSON" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_prepared_data_are_described_and_drawn(folder, capsys):
    arguments = ["--source", "CanvasJson", "--root", "ink", "--out", "out"]
    assert run("prepare", *arguments, "--source.keep_time", "false", "--skip-damaged") == 0
    printed = capsys.readouterr()
    assert "left out: " in printed.err
    assert "train ############################## 100%  9 characters" in printed.err
    assert "test: 8 characters, 32 points" in printed.out
    assert "left out as damaged: 1 records" in printed.out

    assert run("info", "out") == 0
    out = capsys.readouterr().out
    assert "3 classes: a, b, é" in out
    assert "train: 9 characters of 3 classes (3 to 3 each), 2.00 strokes and 4.0 points" in out
    assert "3 writers" in out
    assert "line 5 (byte 329)" in out

    assert run("show", "out", "--samples", "5", "--out", "some.png") == 0
    assert "5 characters of the train part" in capsys.readouterr().out
    assert (folder / "some.png").read_bytes().startswith(b"\x89PNG")


def size_of(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    return struct.unpack(">II", path.read_bytes()[16:24])


def test_pictures_of_a_source_are_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("show", "--source", "Digits", "--part", "test", "--samples", "4") == 0
    assert "4 pictures of the test part: samples.png" in capsys.readouterr().out
    assert size_of(tmp_path / "samples.png")[0] == 400


def test_pictures_of_a_source_are_described(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("info", "--source", "Digits") == 0
    printed = capsys.readouterr()
    assert "10 classes: 0, 1, 2" in printed.out
    assert (
        "train: 1,437 pictures of 10 classes (141 to 146 each), 8 x 8 pixels of 1 channels, "
        in (printed.out)
    )
    assert "100%  1,437 pictures" in printed.err

    images = [np.full((4, 5, 1), 9, np.uint8), *(np.zeros((n, 5, 1), np.uint8) for n in (4, 6))]

    class Some(PictureSource):
        class_names, citation, channels, background = ("a", "b", "c"), "mine", 1, 0.0

        def train(self):
            return PictureList(images, [0, 2, 2])

        def test(self):
            return PictureArray(np.zeros((0, 4, 4, 1), np.uint8), [])

    found = describe_pictures(source := Some(), "train")
    assert found == (
        "3 pictures of 2 classes (1 to 2 each), 4 x 5 to 6 x 5 pixels of 1 channels, writers not "
        "known, 2 of background alone"
    )
    with pytest.raises(DataError, match="the test part holds no picture"):
        describe_pictures(source, "test")
    # Of a picture with a mask what lies inside counts, whatever its pixels hold.
    inside = np.zeros((4, 5, 2), np.uint8)
    inside[1, 1, 1] = 255
    images[:] = [inside, inside[..., ::-1]]
    monkeypatch.setattr(Some, "masked", True)
    monkeypatch.setattr(Some, "train", lambda self: PictureList(images, [0, 2]))
    assert describe_pictures(source, "train").endswith("not known, 1 of background alone")


def test_regions_of_a_source_in_a_source_are_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = ["--source", "Regions", "--source.scenes", "DigitScenes", "--source.scenes.scenes=3"]
    assert run("show", *source, "--samples", "5") == 0
    assert "5 pictures of the train part" in capsys.readouterr().out
    few = ["--source", "FewLabels", "--source.per_class=2", "--source.source=PenDigits8"]
    assert run("info", *few, "--parts", "train") == 0
    assert "train: 20 characters" in capsys.readouterr().out


SMALL = ("--data.num_workers=0", "--data.batch_size=7", "--model.network.width=3")


def test_what_a_config_feeds_to_its_network_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn = []
    monkeypatch.setattr(data_show, "draw_gallery", lambda *args: drawn.append(args) or args[0][0])
    for part in ("train", "val", "test"):
        words = ["--config", "digits_quick", "--part", part, "--samples", "9", *SMALL]
        assert run("show", *words, "--data.seed=5") == 0
        assert f"9 samples of the {part} part, " in capsys.readouterr().out
    data = ImagePaddingDataModule(
        box=8, batch_size=7, seed=5, augmentation=PictureAugmentation(0.1, 0.1, 0.1, shift=1)
    )
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    for (pictures, captions), loader in zip(drawn, loaders, strict=True):
        expected, labels = [], []
        for batch, targets in itertools.islice(loader, 2):
            expected += draw_samples(batch, range(len(targets)))
            labels += targets.tolist()
        assert captions == [str(label) for label in labels[:9]]
        assert all(map(torch.equal, pictures, expected))


def test_a_picture_in_colour_is_drawn_in_colour(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    red = np.full((8, 8, 3), (255, 128, 0), np.uint8)
    for part in ("train", "test"):
        (tmp_path / "photos" / part / "red").mkdir(parents=True)
        for number in range(4):
            Image.fromarray(red).save(tmp_path / "photos" / part / "red" / f"{number}.png")
    drawn = []
    for module in (data_show, data_show_config):
        monkeypatch.setattr(module, "draw_samples", _keeping(drawn, module.draw_samples))
    root = ["--data.source=ImageFolder", "--data.source.root=photos"]
    root += ["--data.source.background=128"]
    words = ["--config", "cifar10_deepcnin", *SMALL, *root, "--samples", "2"]
    assert run("show", *words, "--data.augment=false") == 0
    assert run("show", *words, "--channel=1") == 0
    source = ["--source", "ImageFolder", "--root", "photos", "--source.background", "128"]
    assert run("show", *source, "--samples", "2") == 0
    middles = [picture[:, picture.shape[1] // 2, picture.shape[2] // 2] for picture in drawn]
    assert middles[0].tolist() == [254, 128, 0] == middles[4].tolist()
    assert middles[2].tolist() != [254, 128, 0]  # one channel, zero everywhere
    assert "2 pictures of the train part" in capsys.readouterr().out


def _keeping(drawn, draw):
    def kept(*args):
        pictures = draw(*args)
        drawn.extend(pictures)
        return pictures

    return kept


def test_a_source_is_described_without_preparing(folder, capsys):
    assert run("info", "--source=CanvasJson", "--root=ink", "--parts", "train") == 0
    printed = capsys.readouterr()
    assert "train: 9 characters" in printed.out
    assert "test:" not in printed.out
    assert printed.err == "train ############################## 100%  9 characters\n"


def test_a_class_of_the_user_is_found_beside_the_command(folder, capsys):
    (folder / "my_strokes.py").write_text(
        "from spcnn_lightning.datamodules import PenDigits8\n"
        "class Tens(PenDigits8):\n"
        "    def __init__(self, count: int = 10):\n"
        "        self.count = count\n"
        "    def train(self):\n"
        "        return super().train().select(range(self.count))\n"
    )
    source = ["--source", "my_strokes.Tens", "--source.count", "20"]
    assert run("info", *source, "--parts", "train") == 0
    assert "train: 20 characters" in capsys.readouterr().out


def test_wrong_words_are_explained(folder, capsys):
    assert run() == 2
    assert "no action given" in capsys.readouterr().err
    assert run("--help") == 0
    assert "prepare  Convert a source" in capsys.readouterr().out
    assert run("info", "ink") == 2
    assert "ink holds no manifest.json" in capsys.readouterr().err
    assert run("info", "--source", "QuickDraw", "--root", "ink", "--source.folds", "1") == 2
    assert "QuickDraw: test_fold is 0 and folds 1" in capsys.readouterr().err
    assert run("show", "--config", "digits_quick", "--samples", "0") == 2
    assert "--samples is 0" in capsys.readouterr().err
    nothing = ["--part", "val", "--data.train_on_all=true", *SMALL]
    assert run("show", "--config", "digits_quick", *nothing) == 2
    assert "the val part of digits_quick holds no sample" in capsys.readouterr().err
    assert run("show", "--source", "PenDigits8", "--samples", "0") == 2
    assert "--samples is 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("info --source CanvasJsom", "no class CanvasJsom (is it 'CanvasJson'?); known are Array"),
        ("prepare --source Digits --out x", "source: Digits is of another kind; known are Assam"),
        ("show --source Digit", "(is it 'Digits'?); known are ArrayPictures"),
        ("info --source CanvasJson", "CanvasJson needs root: give --source.root VALUE"),
        ("info --source CanvasJson --root x --part y", "(is it 'parts'?); there are source, parts"),
        ("prepare --source PenDigits8 --out x --skip-damage", "(is it 'skip-damaged'?)"),
        ("info --source CanvasJson --source.folder x", "CanvasJson has no argument 'folder'"),
        ("info --source mine.Strokes", "source: there is no class mine.Strokes: No module named"),
        ("prepare --source PenDigits8", "required: out (spcnn data prepare --help shows the opt"),
        ("show --source PenDigits8 --samples x", "samples is 'x': it needs to be of type int"),
        ("show --source PenDigits8 --part val", "invalid choice: 'val'"),
        ("show --source FewLabels --source.source X", "source.source: there is no class X"),
    ],
)
def test_mistyped_options_are_answered_in_a_sentence(words, message, capsys):
    assert run(*words.split()) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 2
    assert "usage" not in printed


@pytest.mark.parametrize("place", ["file/x", "missing/x.png", "folder", "/proc/x"])
def test_an_out_that_can_not_be_written_is_named(tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    shows = [["show", "--source", "Digits"], ["show", "--config", "digits_quick", *SMALL]]
    prepares = [["prepare", "--source", "PenDigits8", "--parts", "test"]]
    for words in shows if place == "missing/x.png" else shows + prepares:
        assert run(*words, "--out", place) == 2
        assert place in capsys.readouterr().err


OWN = """
from spcnn_lightning.datamodules import Strokes, StrokeSet, StrokeSource

class Nameless(StrokeSource):
    citation, label = "mine", 0
    def train(self):
        return StrokeSet.from_strokes([Strokes.from_lists([[(0, 0), (2, 3)]], self.label)])
    test = train

class Beyond(Nameless):
    class_names, label = ("a", "b"), 2

class Below(Nameless):
    class_names, label = ("a", "b"), -1

class Uncited(StrokeSource):
    class_names, train, test = ("a", "b"), Nameless.train, Nameless.train
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nameless", "Nameless has no class_names"),
        ("Uncited", "Uncited has no citation"),
        ("Below", "Below: labels[0] is -1: class numbers start at 0"),
        ("Beyond", "label 2"),
    ],
)
def test_what_is_wrong_with_a_source_of_the_user_is_said(
    tmp_path, monkeypatch, capsys, name, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_own.py").write_text(OWN, encoding="utf-8")
    for words in (["info"], ["show"], ["prepare", "--out", "out"]):
        assert run(*words, "--source", f"my_own.{name}") == 2
        assert message in capsys.readouterr().err


def test_without_matplotlib_classes_are_printed_in_the_order_of_the_pictures(
    folder, monkeypatch, capsys
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "matplotlib" else find_spec(n, *a)
    )
    words = ["show", "--source", "CanvasJson", "--root", "ink", "--samples", "5"]
    assert run(*words) == 0
    labels = data_show.choose(CanvasJson("ink"), "train", 5, seed=0).labels
    names = ["abé"[label] for label in labels]
    printed = capsys.readouterr().out
    assert "pip install 'spcnn-lightning[viz]'" in printed
    assert f"\n   {'  '.join(names[:3])}\n   {'  '.join(names[3:])}\n" in printed


class Mixed(StrokeSource):
    """A piece with writers and time, and one without."""

    class_names, citation = ("a", "b"), "mine"

    def train(self):
        raise AssertionError("read piece by piece")

    test = train

    def pieces(self, part):
        plain = StrokeSet(np.float32([[0, 0], [3, 2]]), [0, 2], [0, 1], [1])
        timed = replace(plain, labels=[0], writers=[7], time=[0, 9])
        return [Piece(str(some), lambda _, some=some: iter([some])) for some in (timed, plain)]


def test_what_only_some_characters_record_is_said_and_not_in_the_way_of_drawing(tmp_path):
    described = describe_part(Mixed(), "train")
    assert described.endswith("1 writers (of 1 of 2 characters), time (of 1 of 2 characters)")
    strokes = data_show.choose(Mixed(), "train", 2, seed=0)
    assert sorted(strokes.labels.tolist()) == [0, 1]
    assert strokes.time is None
    with pytest.raises(DataError, match="only some characters .* have time and writers"):
        prepare(Mixed(), tmp_path / "out", {})


def test_a_png_holds_the_pixels():
    picture = torch.arange(3 * 2 * 5, dtype=torch.uint8).reshape(3, 2, 5)
    data = png(picture)
    assert struct.unpack(">II", data[16:24]) == (5, 2)
    place, chunks = 8, {}
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length]) == (
            zlib.crc32(body),
        )
        chunks[body[:4]] = body[4:]
        place += 12 + length
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(2, 16)
    assert (rows[:, 0] == 0).all()
    np.testing.assert_array_equal(rows[:, 1:].reshape(2, 5, 3), picture.permute(1, 2, 0).numpy())
