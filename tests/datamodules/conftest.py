import importlib.util
import os
from pathlib import Path

import pytest

from spcnn_lightning.datamodules import StrokeSet, StrokeSource
from spcnn_lightning.datamodules.sources import PenDigits8

REPOSITORY = Path(__file__).resolve().parents[2]


def load(name):
    """Import a module that lies beside this file and not on the path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAMPLE_FILES = load("samples")


@pytest.fixture(scope="session")
def pendigits_root():
    """Folder of the original files, which are not in the repository."""
    data = Path(os.environ.get("SPCNN_DATA_DIR", REPOSITORY.parent / "shared" / "data"))
    root = data / "pendigits"
    if not any(root.glob("pendigits-orig.tra*")):
        pytest.skip(f"no pendigits-orig.tra in {root}: set SPCNN_DATA_DIR to a folder that has it")
    return root


@pytest.fixture(scope="session")
def per_point():
    """The module of encodings point by point."""
    return load("per_point")


@pytest.fixture(scope="session")
def per_picture():
    """The module of pictures padded one at a time."""
    return load("per_picture")


@pytest.fixture(scope="session")
def fuzzing():
    """The module that damages files."""
    return load("fuzzing")


@pytest.fixture(scope="session")
def picture_files():
    """The module picture_samples.py."""
    return load("picture_samples")


class FewDigits(StrokeSource):
    """60 training and 20 test digits."""

    class_names = tuple("0123456789")
    citation = "as PenDigits8"

    def train(self) -> StrokeSet:
        return PenDigits8().train().select(range(60))

    def test(self) -> StrokeSet:
        return PenDigits8().test().select(range(20))


@pytest.fixture
def few_digits():
    return FewDigits()


@pytest.fixture(scope="session")
def sample_files():
    """The module samples.py."""
    return SAMPLE_FILES


@pytest.fixture
def read_sample(tmp_path):
    """Write the valid file of a format, or other bytes in its place, and return its source."""
    return lambda name, data=None: SAMPLE_FILES.SAMPLES[name].write(tmp_path, data)


def pytest_generate_tests(metafunc):
    """Run a test that takes ``format_name`` for every format."""
    if "format_name" in metafunc.fixturenames:
        metafunc.parametrize("format_name", sorted(SAMPLE_FILES.SAMPLES))
