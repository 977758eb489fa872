"""``spcnn data`` on small files."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch

from spcnn_lightning.commands.data_show import png
from spcnn_lightning.commands.main import main

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


def test_a_source_is_described_without_preparing(folder, capsys):
    assert run("info", "--source=CanvasJson", "--root=ink", "--parts", "train") == 0
    out = capsys.readouterr().out
    assert "train: 9 characters" in out
    assert "test:" not in out


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
    assert run("show", "--source", "PenDigits8", "--samples", "0") == 2
    assert "--samples is 0" in capsys.readouterr().err


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
