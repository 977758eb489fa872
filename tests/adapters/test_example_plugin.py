"""The distribution in tests/example_plugin, which shows how others add a backend."""

import importlib.util
from pathlib import Path

import pytest
import torch

from spcnn_lightning.adapters import backend_names
from spcnn_lightning.testing.checks import CHECKS
from spcnn_lightning.testing.conformance import BackendConformance, usable_backend

PLUGIN = Path(__file__).parents[1] / "example_plugin"


class TestExample(BackendConformance):
    """Skips unless the distribution is installed, as CI does; required by name it fails."""

    backend = "example"


def test_it_is_found_by_its_entry_point():
    assert type(usable_backend("example")).__module__ == "spcnn_example_backend"
    assert "example" in backend_names()
    assert usable_backend("example").version() == "spcnn-example-backend 0.1.0"


@pytest.mark.parametrize("check", CHECKS[3:8], ids=lambda check: check.name)
def test_its_source_is_right(check):
    file = PLUGIN / "spcnn_example_backend.py"
    spec = importlib.util.spec_from_file_location("example_source", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    check.run(module.ExampleBackend(), "cpu", torch.float64)


def test_it_is_three_files_and_names_the_group():
    names = {file.name for file in PLUGIN.iterdir() if file.is_file()}
    assert names == {"pyproject.toml", "README.md", "spcnn_example_backend.py"}
    assert '"spcnn_lightning.backends"' in (PLUGIN / "pyproject.toml").read_text(encoding="utf-8")
