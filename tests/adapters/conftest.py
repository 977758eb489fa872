"""Fixtures of the backend tests."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import torch

DOUBLE = Path(__file__).with_name("torchsparse_double.py")


def forget_torchsparse():
    """Take the package out of sys.modules and return what was there."""
    names = [name for name in sys.modules if name.split(".")[0] == "torchsparse"]
    return {name: sys.modules.pop(name) for name in names}


def write_double(folder):
    """Make a package ``torchsparse`` of the test double in a folder, and return it."""
    package = folder / "torchsparse"
    package.mkdir()
    shutil.copy(DOUBLE, package / "backend.py")
    init = DOUBLE.read_text().split("INIT = '''", 1)[1].split("\n'''\n", 1)[0]
    (package / "__init__.py").write_text(init + "\n")
    return package


@pytest.fixture(scope="session")
def torchsparse_path(tmp_path_factory):
    """The folder to put on the path of another process: of the double, or "" for the library."""
    if importlib.util.find_spec("torchsparse"):
        return ""
    return str(write_double(tmp_path_factory.mktemp("path")).parent)


@pytest.fixture(scope="class")
def torchsparse_double(tmp_path_factory):
    """A package ``torchsparse`` made of the test double, importable and not imported yet."""
    package = write_double(tmp_path_factory.mktemp("double"))
    real = forget_torchsparse()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package.parent)
        yield package
    forget_torchsparse()
    sys.modules.update(real)


@pytest.fixture
def close():
    """Return what asserts that two tensors are equal but for rounding."""

    def assert_close(actual, expected):
        tolerance = {torch.float32: 2e-6, torch.float64: 1e-13}[expected.dtype]
        scale = float(expected.detach().abs().max())
        torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)

    return assert_close


@pytest.fixture
def same_function(close):
    """Return what asserts that two results and their gradients in the sources are equal."""

    def assert_same(out, expected, sources, seed):
        close(out, expected)
        pairs = (torch.autograd.grad(result, sources, seed) for result in (out, expected))
        for ours, theirs in zip(*pairs, strict=True):
            close(ours, theirs)

    return assert_same
