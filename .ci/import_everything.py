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
# The test class for people's own tests is made of pytest; numba is the extra fast.
needing = {
    "pytest": ["spcnn_lightning.testing.conformance"],
    "numba": [
        "spcnn_lightning.datamodules.raster.compiled",
        *(
            f"spcnn_lightning.compiled.{name}"
            for name in ("adding", "arrays", "gathering", "pairs", "pooling", "sites")
        ),
    ],
}
skipped = {
    name
    for extra, names in needing.items()
    if not importlib.util.find_spec(extra)
    for name in names
}
for name in names:
    if not name.endswith("__main__") and name not in skipped:
        importlib.import_module(name)
strays = [name for name in ("adapters", "configs", "datamodules") if importlib.util.find_spec(name)]
if strays:
    sys.exit(f"importable at the top level, where other distributions own the name: {strays}")
print(f"imported {len(names)} modules from {Path(spcnn_lightning.__file__).parent}")
