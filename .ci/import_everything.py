"""Import every module of the installed package, and check that none stands outside of it."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

import spcnn_lightning

names = [
    module.name for module in pkgutil.walk_packages(spcnn_lightning.__path__, "spcnn_lightning.")
]
# The test class for people's own tests is the one module made of pytest.
skipped = () if importlib.util.find_spec("pytest") else ("spcnn_lightning.testing.conformance",)
for name in names:
    if not name.endswith("__main__") and name not in skipped:
        importlib.import_module(name)
strays = [name for name in ("adapters", "configs", "datamodules") if importlib.util.find_spec(name)]
if strays:
    sys.exit(f"importable at the top level, where other distributions own the name: {strays}")
print(f"imported {len(names)} modules from {Path(spcnn_lightning.__file__).parent}")
