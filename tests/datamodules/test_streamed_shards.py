"""Prepared strokes as chunks of litdata: the same characters and batches as from plain shards."""

import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path

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
    preparing_chunks,
)
from spcnn_lightning.datamodules.manifest import FIELDS
from spcnn_lightning.datamodules.preparing import alone_at, prepare
from spcnn_lightning.datamodules.preparing_chunks import prepare_chunks

PACKAGE = Path(__file__).resolve().parents[2]


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
    """The same characters as shards and as chunks, several for each file."""
    folder = tmp_path_factory.mktemp("chunks")
    prepare(Timed(), folder / "plain", {"class": "Timed"})
    prepare_chunks(Timed(), folder / "chunks", {"class": "Timed"}, piece=500)
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
    source = StreamedShards(f"{prefix}{folders / 'chunks'}", cache_dir=str(tmp_path))
    source.check()
    assert source.manifest == plain.manifest
    for part in ("train", "test"):
        same(getattr(source, part)(), getattr(plain, part)())
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path], "nothing else stays"
    assert len(list((folders / "chunks").glob("*.bin"))) > len(list(source.root.iterdir()))


def test_they_are_copied_once(folders, tmp_path, monkeypatch):
    address = str(folders / "chunks")
    first = StreamedShards(address, cache_dir=str(tmp_path)).root
    monkeypatch.setattr(StreamedShards, "_copy", None)
    second = StreamedShards(address, cache_dir=str(tmp_path))
    assert second.root == first
    text = pickle.dumps(second.train())
    assert len(text) < 2_000, "workers map the copy"


def test_a_relative_folder_is_found_from_elsewhere(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(folders)
    source = StreamedShards("chunks", cache_dir=str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert len(pickle.loads(pickle.dumps(source)).test()) == 9


def test_other_data_at_the_same_address_are_copied_anew(tmp_path):
    cache = str(tmp_path / "cache")
    prepare_chunks(Timed(), tmp_path / "out", {})
    assert len(StreamedShards(str(tmp_path / "out"), cache).train()) == 40
    shutil.rmtree(tmp_path / "out")
    prepare_chunks(PenDigits8(), tmp_path / "out", {})
    assert len(StreamedShards(str(tmp_path / "out"), cache).train()) == 7494


READ = """
import sys, torch, torch.distributed as dist
from spcnn_lightning.datamodules import StreamedShards
dist.init_process_group("gloo")
print("read", len(StreamedShards(sys.argv[1], sys.argv[2]).train()), flush=True)
dist.destroy_process_group()
"""


def test_several_processes_read_them_at_once(folders, tmp_path):
    """Each as a rank that a launcher started."""
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    words = [sys.executable, "-c", READ, f"local:{folders / 'chunks'}", str(tmp_path / "cache")]
    started = [
        subprocess.Popen(
            words,
            env={**os.environ, **rendezvous, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=PACKAGE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        printed, errors = process.communicate(timeout=120)
        assert "read 40" in printed, errors


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_preparing_waits_for_no_process_of_a_launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    prepare_chunks(Timed(), tmp_path / "out", {})
    assert os.environ["WORLD_SIZE"] == "2"
    same(StreamedShards(str(tmp_path / "out"), str(tmp_path / "cache")).train(), Timed().train())


@pytest.fixture
def damaged(folders, tmp_path):
    shutil.copytree(folders / "chunks", tmp_path / "chunks")
    return tmp_path / "chunks"


def unreadable(folder, tmp_path, **match):
    source = StreamedShards(str(folder), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(DataError, match="prepare --format litdata"):
        source.check()
    assert not list((tmp_path / "cache").glob("*/manifest.json"))


@pytest.mark.parametrize("place", [40, 300])
def test_a_bit_that_fell_over_is_noticed(place, damaged, tmp_path):
    """In whichever file of the data."""
    for number in range(1, 6):
        chunk = damaged / f"chunk-0-{number}.bin"
        text = bytearray(chunk.read_bytes())
        whole = bytes(text)
        text[-place] ^= 4
        chunk.write_bytes(bytes(text))
        unreadable(damaged, tmp_path)
        chunk.write_bytes(whole)
    StreamedShards(str(damaged), cache_dir=str(tmp_path / "cache")).check()


def test_a_chunk_that_is_missing_or_cut_is_noticed(damaged, tmp_path):
    (damaged / "chunk-0-2.bin").write_bytes((damaged / "chunk-0-2.bin").read_bytes()[:-50])
    unreadable(damaged, tmp_path)
    (damaged / "chunk-0-2.bin").unlink()
    unreadable(damaged, tmp_path)
    (damaged / "index.json").write_text("{}")
    unreadable(damaged, tmp_path)


def test_a_folder_that_is_not_there(folders, tmp_path):
    for folder in (tmp_path / "none", folders / "plain"):
        unreadable(folder, tmp_path)


def test_the_command_writes_them_and_training_reads_them(tmp_path, capsys):
    out = tmp_path / "chunks"
    words = ["prepare", "--source", "PenDigits8", "--out", str(out), "--format", "litdata"]
    assert data.main("data", words, "spcnn") == 0
    printed = capsys.readouterr().out
    assert f"class_path: StreamedShards, init_args: {{address: {out}}}" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["chunks"]
    with pytest.raises(DataError, match="holds something already"):
        data.main("data", words, "spcnn")
    with pytest.raises(DataError, match="--source StreamedShards"):
        Shards(out).check()

    def batches(source):
        module = HandwritingDataModule(source, num_workers=1, seed=3)
        module.prepare_data()
        module.setup("fit")
        found = [next(iter(module.train_dataloader())), next(iter(module.val_dataloader()))]
        module.teardown()
        return found

    prepare(PenDigits8(), tmp_path / "plain", {})
    found = batches(StreamedShards(f"local:{out}", cache_dir=str(tmp_path / "cache")))
    for (one, targets), (other, others) in zip(
        batches(Shards(tmp_path / "plain")), found, strict=True
    ):
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.coords, other.coords)
        assert torch.equal(targets, others)


def test_an_address_is_no_folder_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["prepare", "--source", "PenDigits8", "--out", "s3://bucket/x", "--format", "litdata"]
    with pytest.raises(DataError, match="is an address: give a folder"):
        data.main("data", words, "spcnn")
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(tmp_path):
    with alone_at(tmp_path / "out"), pytest.raises(DataError, match="another process"):
        prepare_chunks(Timed(), tmp_path / "out", {})


def test_a_run_that_was_broken_off_goes_on(tmp_path, monkeypatch):
    """With its shards, if it has them; with other arguments it is refused, and nothing deleted."""

    def broken(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparing_chunks, "_write", broken)
        with pytest.raises(KeyboardInterrupt):
            prepare_chunks(Timed(), tmp_path / "out", {})
    shards = tmp_path / "out.partial" / "shards"
    assert len(Shards(shards).train()) == 40
    with pytest.raises(DataError, match="begun with another source"):
        prepare_chunks(PenDigits8(), tmp_path / "out", {})
    with pytest.raises(DataError, match="another --format"):
        prepare(Timed(), tmp_path / "out", {})
    monkeypatch.setattr(preparing_chunks, "prepare", None)
    prepare_chunks(Timed(), tmp_path / "out", {})
    same(StreamedShards(str(tmp_path / "out"), str(tmp_path / "cache")).train(), Timed().train())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]


def test_what_lies_beside_is_left_alone(tmp_path):
    for name in ("out.shards", "out.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="begun with another source"):
        prepare_chunks(Timed(), tmp_path / "out", {})
    with pytest.raises(DataError, match="holds something else"):
        prepare(Timed(), tmp_path / "out", {})
    assert all((tmp_path / n / "thesis.txt").exists() for n in ("out.shards", "out.partial"))


def test_without_the_library_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litdata", None)
    with pytest.raises(DataError, match=r"spcnn-lightning\[litdata\]"):
        prepare_chunks(Timed(), tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"spcnn-lightning\[litdata\]"):
        StreamedShards("s3://somewhere/chunks", str(tmp_path)).check()
