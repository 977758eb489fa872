"""Readers on real files, which are not in the repository: see the fixture data_dir."""

import tarfile
import zipfile

import numpy as np
import pytest

from spcnn_lightning.datamodules import Omniglot, QuickDraw, SimulatedHanzi, StrokeTemplates, Tomoe
from spcnn_lightning.datamodules.sources.class_table import level1_characters


@pytest.fixture
def real_file(data_dir):
    def find(name):
        if not (path := data_dir / name).is_file():
            pytest.skip(f"no {path}")
        return path

    return find


@pytest.mark.slow
def test_omniglot_small1_is_read_completely(real_file, tmp_path):
    with zipfile.ZipFile(real_file("omniglot/strokes_background_small1.zip")) as archive:
        archive.extractall(tmp_path)
    source = Omniglot(tmp_path / "strokes_background_small1")
    train, test = source.train(), source.test()
    assert source.num_classes == 136
    assert np.bincount(train.labels).tolist() == [15] * 136
    assert np.bincount(test.labels).tolist() == [5] * 136
    assert not set(train.writers) & set(test.writers)
    # As many lines BREAK and lines with commas as the files have.
    assert len(train.point_offsets) + len(test.point_offsets) - 2 == 6_170
    assert len(train.points) + len(test.points) == 375_709
    assert len(train.time) == len(train.points)


@pytest.mark.slow
def test_raw_and_simplified_quick_draw_are_the_same_drawings(real_file, tmp_path):
    with tarfile.open(real_file("quickdraw/quickdraw_raw_ndjson.tar.xz")) as archive:
        # Older patch releases of Python know no filter; the newest ask for one.
        archive.extractall(
            tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    raw = QuickDraw(tmp_path / "sketches")
    simplified = QuickDraw(real_file("quickdraw/quickdraw_simplified.ndjson.gz"))
    assert raw.class_names == simplified.class_names
    assert raw.num_classes == 345
    for part, count in {"train": 7_662, "test": 1_908}.items():
        long, short = getattr(raw, part)(), getattr(simplified, part)()
        assert len(long) == len(short) == count
        np.testing.assert_array_equal(np.bincount(long.labels), np.bincount(short.labels))
        assert len(long.time) == len(long.points)
        assert short.time is None
        assert (short.points.min(), short.points.max()) == (0, 255)


def test_tomoe_is_read_completely(real_file):
    source = Tomoe(real_file("tomoe/handwriting-ja.xml.gz"))
    strokes = source.test()
    assert (len(strokes), len(strokes.points)) == (6_646, 184_311)
    arrays = StrokeTemplates(real_file("tomoe/tomoe_ja_strokes.npz"))
    assert set(arrays.class_names) <= set(source.class_names)
    stored = arrays.train()
    for name in "あ一龍":
        drawings = np.flatnonzero(strokes.labels == source.class_names.index(name))
        expected = stored[arrays.class_names.index(name)].points
        np.testing.assert_array_equal(strokes[drawings[0]].points, expected)


def test_other_hands_of_the_simulated_classes(real_file):
    kanji = StrokeTemplates(real_file("kanjivg/kanjivg_strokes.npz"), classes=3755)
    assert kanji.class_names == SimulatedHanzi().class_names == level1_characters()
    assert len(np.unique(kanji.test().labels)) == len(kanji.test()) == 2_380
    medians = StrokeTemplates(real_file("hanzi/hanzi_medians_gb2312_level1.npz"))
    assert medians.class_names == level1_characters()
    assert medians.train().labels.tolist() == list(range(3755))
