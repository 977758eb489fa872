"""Fixtures of the backend tests."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

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
