"""The examples in the docstrings give what they say."""

import doctest
import importlib
import os
from pathlib import Path

import pytest
import torch

import spcnn_lightning

PACKAGE = Path(__file__).parent.parent / "spcnn_lightning"


def modules_with_examples() -> list[str]:
    files = (
        Path(folder) / name
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for name in names
        if name.endswith(".py")
    )
    found = (file for file in files if ">>> " in file.read_text(encoding="utf-8"))
    return sorted(
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in found
    )


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    # Known to every reader, so no example repeats their imports.
    known = {public: getattr(spcnn_lightning, public) for public in spcnn_lightning.__all__}
    result = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"torch": torch, **known},
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    assert result.failed == 0
