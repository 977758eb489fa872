"""Two runs of ``spcnn data prepare`` on one folder, as real processes."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spcnn_lightning.datamodules import Shards
from spcnn_lightning.datamodules.file_lock import locked

PACKAGE = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 120
SOURCE = """
import os, time
from pathlib import Path
from spcnn_lightning.datamodules import Strokes, StrokeSet, StrokeSource
from spcnn_lightning.datamodules.sources.base import Piece


def of_one(number):
    return StrokeSet.from_strokes([Strokes.from_lists([[(number, 1), (2, 3)]], label=0)])


class Waiting(StrokeSource):
    "Four characters; the third is there as soon as the file go is."

    class_names, citation = ("tick",), "made up"

    def train(self):
        raise AssertionError("pieces are asked for")

    test = train

    def pieces(self, part):
        return [Piece(f"piece {n}", lambda _, n=n: self.read(n)) for n in range(4)]

    def read(self, number):
        if number == 2:
            Path("waits").touch()
            while not Path("go").exists():
                time.sleep(0.02)
        yield of_one(number)
"""


@pytest.fixture
def start(tmp_path):
    """A function that starts a run; those that still run at the end of the test are killed."""
    (tmp_path / "waiting.py").write_text(SOURCE)
    runs = []

    def begin():
        words = ["data", "prepare", "--source=waiting.Waiting", "--out=out"]
        run = subprocess.Popen(
            [sys.executable, "-m", "spcnn_lightning", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        runs.append(run)
        return run

    yield begin
    for run in runs:
        run.kill()
        run.communicate()


def until_it_waits(run, folder):
    """Wait until the run has come to the third character."""
    end = time.monotonic() + WAIT_SECONDS
    while not (folder / "waits").exists():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    (folder / "waits").unlink()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_second_run_says_so_and_harms_nothing(start, tmp_path):
    first = start()
    until_it_waits(first, tmp_path)
    before = contents(tmp_path / "out.partial")
    second = start()
    _, errors = second.communicate(timeout=WAIT_SECONDS)
    assert second.returncode == 2
    assert "out is being prepared by another process" in errors
    assert "Traceback" not in errors
    assert contents(tmp_path / "out.partial") == before
    (tmp_path / "go").touch()
    _, errors = first.communicate(timeout=WAIT_SECONDS)
    assert first.returncode == 0, errors
    assert Shards(tmp_path / "out").train().points[::2, 0].tolist() == [0, 1, 2, 3]
    assert not list(tmp_path.glob("out.*")), "neither the lock nor the half-written folder stays"


def test_a_killed_run_locks_nobody_out(start, tmp_path):
    killed = start()
    until_it_waits(killed, tmp_path)
    killed.kill()
    killed.wait()
    assert (tmp_path / "out.lock").exists()
    (tmp_path / "go").touch()
    last = start()
    _, errors = last.communicate(timeout=WAIT_SECONDS)
    assert last.returncode == 0, errors
    assert Shards(tmp_path / "out").train().points[::2, 0].tolist() == [0, 1, 2, 3]


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with contextlib.suppress(RuntimeError), locked(tmp_path / "lock"):
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").exists(), "who is locked out does not remove it"
        raise RuntimeError
    assert not (tmp_path / "lock").exists()
    with locked(tmp_path / "lock"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
def test_a_lock_on_a_file_that_was_removed_does_not_count(tmp_path, monkeypatch):
    from spcnn_lightning.datamodules import file_lock

    def removed_meanwhile(file, lock=file_lock._try_lock):
        lock(file)
        (tmp_path / "lock").unlink()

    monkeypatch.setattr(file_lock, "_try_lock", removed_meanwhile)
    with pytest.raises(BlockingIOError), locked(tmp_path / "lock"):
        pass
