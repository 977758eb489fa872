"""Prepared strokes as chunks of litdata: the same characters and batches as from plain shards."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch

from spcnn_lightning.commands import data
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    HandwritingDataModule,
    PenDigits8,
    Shards,
    StreamedShards,
    Strokes,
    StrokeSet,
    StrokeSource,
)
from spcnn_lightning.datamodules.manifest import FIELDS
from spcnn_lightning.datamodules.preparing import alone_at, prepare
from spcnn_lightning.datamodules.preparing_chunks import prepare_chunks

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def library():
    os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"
    if os.environ.get("SPCNN_TEST_LITDATA"):  # where CI names it, it has to be there
        import litdata
    else:
        litdata = pytest.importorskip("litdata")
    return litdata


class Timed(StrokeSource):
    """Characters of several strokes with everything that can be known of them."""

    class_names, citation, licence_text = ("a", "b"), "made up", "free"

    def train(self):
        return self.of(40, 1)

    def test(self):
        return self.of(9, 2)

    def of(self, count, seed):
        random = np.random.default_rng(seed)
        return StrokeSet.from_strokes([self.character(n, random) for n in range(count)])

    def character(self, number, random):
        lengths = random.integers(1, 5, size=1 + number % 3)
        total = int(lengths.sum())
        return Strokes(
            random.normal(size=(total, 2)).astype(np.float32),
            np.concatenate([[0], np.cumsum(lengths)]),
            number % 2,
            writer=number,
            time=np.arange(total, dtype=np.float32),
            pressure=random.random(total).astype(np.float32),
        )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same characters as shards and as chunks, some of which hold one character alone."""
    folder = tmp_path_factory.mktemp("chunks")
    prepare(Timed(), folder / "plain", {"class": "Timed"})
    prepare_chunks(Timed(), folder / "chunks", {"class": "Timed"}, chunk_bytes=3_000)
    prepare(PenDigits8(), folder / "digits", {"class": "PenDigits8"})
    prepare_chunks(
        PenDigits8(), folder / "digit_chunks", {"class": "PenDigits8"}, chunk_bytes=2**15
    )
    return folder


def same(one, other):
    for name in FIELDS:
        here, there = getattr(one, name), getattr(other, name)
        assert (here is None) == (there is None), name
        if here is not None:
            assert here.dtype == there.dtype
            np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("prefix", ["", "local:"], ids=["in place", "copied"])
def test_characters_are_those_of_the_shards(folders, tmp_path, prefix):
    plain = Shards(folders / "plain")
    chunks = StreamedShards(f"{prefix}{folders / 'chunks'}/", cache_dir=str(tmp_path))
    chunks.check()
    for name in ("class_names", "citation", "licence_text"):
        assert getattr(chunks, name) == getattr(plain, name)
    assert chunks.manifest == plain.manifest
    assert len(list((folders / "chunks" / "train").glob("*.bin"))) > 1
    for part in ("train", "test"):
        wanted = getattr(plain, part)()
        same(getattr(chunks, part)(), wanted)
        characters = chunks.characters(part)
        assert len(characters) == len(wanted)
        order = [2, 0, 2, 1]
        same(characters.select(order), wanted.select(order))
        assert len(characters.select([])) == 0
        pieces = [strokes for piece in chunks.pieces(part) for strokes in piece.read(None)]
        same(pieces[0], wanted)
    copied = list(tmp_path.rglob("*.bin"))
    assert bool(copied) is bool(prefix)
    with pytest.raises(IndexError, match="40 asked of a set of 40"):
        chunks.characters("train").select([40])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_shards(folders, tmp_path, workers):
    """Also in workers, forked when this process has read some of it."""

    def batches(source):
        module = HandwritingDataModule(source, num_workers=workers, seed=3)
        module.setup("fit")
        found = [next(iter(module.train_dataloader())), next(iter(module.val_dataloader()))]
        module.teardown()
        return found

    wanted = batches(Shards(folders / "digits"))
    source = StreamedShards(f"local:{folders / 'digit_chunks'}", cache_dir=str(tmp_path))
    for (one, targets), (other, others) in zip(wanted, batches(source), strict=True):
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.coords, other.coords)
        assert torch.equal(targets, others)


def test_a_pickle_holds_labels_and_no_strokes(folders):
    characters = StreamedShards(str(folders / "digit_chunks")).characters("train")
    wanted = characters.select([5, 4])
    text = pickle.dumps(characters)
    assert len(text) < characters.labels.nbytes + 5_000
    same(pickle.loads(text).select([5, 4]), wanted)


def test_the_command_writes_them_and_training_reads_them(tmp_path, capsys):
    out = tmp_path / "chunks"
    words = ["prepare", "--source", "PenDigits8", "--parts", "train", "--out", str(out)]
    assert data.main("data", [*words, "--format", "litdata"], "spcnn") == 0
    printed = capsys.readouterr().out
    assert f"class_path: StreamedShards, init_args: {{root: {out}}}" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chunks"]
    assert sorted(path.name for path in out.iterdir()) == ["about", "train"]
    with pytest.raises(DataError, match="no test part, only train"):
        StreamedShards(str(out)).test()
    with pytest.raises(DataError, match="holds something already"):
        data.main("data", [*words, "--format", "litdata"], "spcnn")
    with pytest.raises(DataError, match="--source StreamedShards"):
        Shards(out).check()


def test_a_folder_that_is_not_there(tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="prepare --format litdata"):
            StreamedShards(str(folder)).check()


def test_one_process_at_a_time(tmp_path):
    with alone_at(tmp_path / "out"), pytest.raises(DataError, match="another process"):
        prepare_chunks(Timed(), tmp_path / "out", {})


def test_what_is_left_of_a_broken_run_is_not_used(tmp_path):
    prepare(PenDigits8(), tmp_path / "out.shards", {})
    (tmp_path / "out.partial" / "train").mkdir(parents=True)
    (tmp_path / "out.partial" / "train" / "chunk-0-0.bin").write_bytes(b"half")
    prepare_chunks(Timed(), tmp_path / "out", {})
    same(StreamedShards(str(tmp_path / "out")).train(), Timed().train())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_the_library_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litdata", None)
    with pytest.raises(DataError, match=r"spcnn-lightning\[litdata\]"):
        prepare_chunks(Timed(), tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"spcnn-lightning\[litdata\]"):
        StreamedShards("s3://somewhere/chunks").check()
