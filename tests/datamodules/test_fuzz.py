"""Damaged files of every format: right data or a `DataError`, soon and in little memory.

SPCNN_FUZZ=10000 sets the number of damaged files for each format (300 if not set).
"""

import gzip

import numpy as np
import pytest

from spcnn_lightning.datamodules import Shards, StrokeSet, StrokeTemplates
from spcnn_lightning.datamodules.manifest import FIELDS
from spcnn_lightning.datamodules.preparing import prepare
from spcnn_lightning.datamodules.sources.pendigits_text import parse_unipen_digits

UNIPEN = b'.SEGMENT DIGIT 0-1 ? "8"\n.COMMENT 8 12 224\n.PEN_DOWN\n 267 333\n 266 342\n.PEN_UP\n'
UNIPEN += b".PEN_DOWN\n 1 2\n.PEN_UP\n.DT 100\n"
TEMPLATES = {
    "chars": np.array([0x4E00, 0x4E8C], np.uint32),
    "strokes_per_char": np.array([1, 2], np.uint8),
    "points_per_stroke": np.array([2, 2, 3], np.uint16),
    "xy": np.arange(14, dtype=np.int16).reshape(7, 2),
    "canvas": np.array([256, 256], np.int16),
}


def read(source):
    """Read the training part, whose labels must be those of classes."""
    return sound(source.train(), source.num_classes)


def sound(strokes, num_classes):
    """Return characters if they are what a `StrokeSet` may hold, and of known classes."""
    StrokeSet(**{field: getattr(strokes, field) for field in FIELDS})
    assert strokes.labels.max() < num_classes
    return strokes


def test_damaged_files_of_every_format(format_name, read_sample, sample_files, fuzzing):
    data = sample_files.SAMPLES[format_name].data
    fuzzing.check(data, lambda data: read(read_sample(format_name, data)), format_name)


def test_damaged_unipen_text(fuzzing):
    def read_bytes(data):
        errors = []
        kept = parse_unipen_digits(data.decode("latin-1"), "a", errors.append)
        StrokeSet(**{field: getattr(kept, field) for field in FIELDS})
        if errors:
            raise errors[0]
        return sound(kept, 10)

    fuzzing.check(UNIPEN, read_bytes, "UNIPEN")


def test_a_damaged_gz_file(sample_files, tmp_path, fuzzing):
    lines = sample_files.SAMPLES["canvas lines"]
    target = tmp_path / "train" / "a.ndjson.gz"
    target.parent.mkdir()

    def read_bytes(data):
        target.write_bytes(data)
        return read(lines.source(tmp_path))

    fuzzing.check(gzip.compress(lines.data), read_bytes, "packed")


def test_damaged_templates(tmp_path, fuzzing):
    target = tmp_path / "a.npz"
    np.savez(target, **TEMPLATES)

    def read_bytes(data):
        target.write_bytes(data)
        (piece,) = StrokeTemplates(target).pieces("train")
        (kept,) = piece.read(lambda _: None)
        StrokeSet(**{field: getattr(kept, field) for field in FIELDS})
        return read(StrokeTemplates(target))

    fuzzing.check(target.read_bytes(), read_bytes, "templates")


@pytest.mark.parametrize("file", ["manifest.json", "train.labels.npy"])
def test_damaged_shards(file, read_sample, tmp_path, fuzzing):
    prepare(read_sample("canvas lines"), tmp_path / "out", {}, parts=["train"])
    target = tmp_path / "out" / file

    def read_bytes(data):
        target.write_bytes(data)
        return read(Shards(tmp_path / "out"))

    fuzzing.check(target.read_bytes(), read_bytes, file)
