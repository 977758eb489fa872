"""The file in which self-tests leave their results."""

import json

import pytest
import torch

from spcnn_lightning.adapters.check_results import (
    CheckResult,
    cache_file,
    check_key,
    read_results,
    source_digest,
    write_results,
)
from spcnn_lightning.adapters.torch_backend import TorchBackend

PASSED = CheckResult(True, "125 checks passed", "2026-01-01T12:00:00")
FAILED = CheckResult(False, "dilating_3x3: values", "2026-01-02T12:00:00")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SPCNN_CACHE_DIR", str(tmp_path / "new" / "folder"))
    return tmp_path / "new" / "folder"


def test_the_place_can_be_chosen(monkeypatch, tmp_path, folder):
    assert cache_file() == folder / "backend_checks.json"
    monkeypatch.delenv("SPCNN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file() == tmp_path / "spcnn_lightning" / "backend_checks.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_file() == tmp_path / ".cache" / "spcnn_lightning" / "backend_checks.json"


def test_results_are_added_to_earlier_ones(folder):
    keys = [check_key(TorchBackend(), "cpu", t) for t in (torch.float32, torch.float64)]
    assert read_results() == {}
    write_results({keys[0]: PASSED})
    write_results({keys[1]: FAILED})
    assert read_results() == {keys[0]: PASSED, keys[1]: FAILED}
    write_results({keys[0]: FAILED})
    assert read_results()[keys[0]] == FAILED
    assert [file.name for file in folder.iterdir()] == ["backend_checks.json"]


def test_a_key_holds_for_one_version_of_everything():
    key = check_key(TorchBackend(), "cpu", torch.float32)
    assert key.backend == "torch"
    assert key.version == f"torch {torch.__version__}"
    assert (key.torch, key.device, key.dtype) == (torch.__version__, "cpu", "float32")
    assert key.source == source_digest(TorchBackend)

    class Elsewhere(TorchBackend):
        """Its source lies in this file."""

    assert source_digest(Elsewhere) != key.source


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 2, "results": []}',
        '{"format": 1}',
        '{"format": 1, "results": [{"key": {}, "result": {}}]}',
        '{"format": 1, "results": [3]}',
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_file_is_ignored_with_a_message(folder, content, caplog):
    folder.mkdir(parents=True)
    file = folder / "backend_checks.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_results() == {}
    assert str(file) in caplog.text
    assert "`spcnn doctor --check`" in caplog.text
    key = check_key(TorchBackend(), "cpu", torch.float32)
    write_results({key: PASSED})
    assert read_results() == {key: PASSED}


def test_passed_has_to_be_a_truth_value(folder):
    key = check_key(TorchBackend(), "cpu", torch.float32)
    file = write_results({key: PASSED})
    content = json.loads(file.read_text())
    content["results"][0]["result"]["passed"] = "no"
    file.write_text(json.dumps(content))
    assert read_results() == {}


def test_a_write_that_fails_leaves_the_old_file(monkeypatch):
    key = check_key(TorchBackend(), "cpu", torch.float32)
    file = write_results({key: PASSED})

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(json, "dump", fail)
    with pytest.raises(OSError, match="no space left"):
        write_results({key: FAILED})
    monkeypatch.undo()
    assert read_results(file) == {key: PASSED}
    assert list(file.parent.iterdir()) == [file]
