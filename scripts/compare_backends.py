"""Compare backends on the standing workloads, one `spcnn bench` each, into one folder.

    python scripts/compare_backends.py --out results --backends torch,spconv,dense
    python scripts/compare_backends.py --out results --workloads a,e --repeats 3 --device cuda

For each workload the folder receives <letter>_<mode>.json, .md and .png. Every other option goes
to `spcnn bench` as it is. The exit status is that of the worst bench.
"""

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from spcnn_lightning.commands import bench
from spcnn_lightning.core.errors import SpcnnError

STANDING = {
    "a": "--network 'DeepCNet(5, 100)' --field strokes --classes 3755",
    "b": "--network 'DeepCNet(6, 100)' --field strokes --classes 3755",
    # A picture of 32 x 32 sites fills its square; three colours.
    "c": "--network 'DeepCNiN(5, 100)' --field square --box 32 --in-channels 3",
    "d": "--network 'DeepCNet(6, 32)' --dimensions 3 --in-channels 1 --batch-size 8",
    "e": "--network 'SubmanifoldConv(64, 64, (3, 3, 3))' --field random --field-width 128 "
    "--sites 100000 --batch-size 1",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--workloads", default=",".join(STANDING), help="letters; default: all")
    parser.add_argument("--modes", default="train,infer", help="default: train,infer")
    asked, rest = parser.parse_known_args(arguments)
    letters = asked.workloads.split(",")
    if unknown := [letter for letter in letters if letter not in STANDING]:
        parser.error(f"no workload {', '.join(unknown)}: there are {', '.join(STANDING)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    worst = 0
    for letter in letters:
        for mode in asked.modes.split(","):
            worst = max(worst, compare(letter, mode, asked.out, rest))
    return worst


def compare(letter: str, mode: str, folder: Path, rest: list[str]) -> int:
    name = f"{letter}_{mode}"
    print(f"\n== {name}: {STANDING[letter]}", flush=True)
    outputs = ["--json", str(folder / f"{name}.json"), "--markdown", str(folder / f"{name}.md")]
    if importlib.util.find_spec("matplotlib"):
        outputs += ["--plot", str(folder / f"{name}.png")]
    try:
        return bench.main(
            "bench", [*shlex.split(STANDING[letter]), "--mode", mode, *rest, *outputs], "spcnn"
        )
    except SpcnnError as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
