"""Test errors of a config with other encodings, one line for each encoding and seed.

    python scripts/compare_encodings.py pendigits_deepcnin octogram signature curvature \
        --seeds 1 2 3 --data.source.root=data/pendigits

All other options are those of ``spcnn fit``. The networks learn from all training characters. To
choose between encodings without a look at the test part, hold out writers of the training part:

    python scripts/compare_encodings.py pendigits_deepcnin signature signature3 \
        --data.source=WriterFold --data.source.fold=1 --data.source.training_only=true \
        --data.source.source=Pendigits --data.source.source.root=data/pendigits
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from trained import train

ENCODINGS = {
    "bitmap": ["Bitmap"],
    "octogram": ["Octogram"],
    "undirected": ["UndirectedOctogram"],
    "signature": [("Signature", {"level": 2})],
    "signature3": [("Signature", {"level": 3})],
    "logsignature": [("LogSignature", {"level": 2})],
    "curvature": ["Octogram", "Curvature"],
    "bends": ["Bitmap", "Curvature"],
    "speed": ["Octogram", "Speed"],
    "space_time": [("SpaceTime", {"encoder": {"class_path": "Octogram"}, "by": "time"})],
}


def encoder_words(name: str) -> list[str]:
    """Return the options of ``spcnn fit`` that select an encoding."""
    parts = [(part, {}) if isinstance(part, str) else part for part in ENCODINGS[name]]
    classes = [{"class_path": part, "init_args": arguments} for part, arguments in parts]
    whole = {"class_path": "Encodings", "init_args": {"encoders": classes}}
    return [f"--data.encoder={json.dumps(classes[0] if len(classes) == 1 else whole)}"]


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("encodings", nargs="+", choices=ENCODINGS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    asked, overrides = parser.parse_known_args()
    for name in asked.encodings:
        rates = []
        for seed in asked.seeds:
            words = [*overrides, *encoder_words(name)]
            words += ["--data.train_on_all=true", f"--seed_everything={seed}"]
            trained = train(
                asked.config, words, asked.out / f"{Path(asked.config).stem}_{name}_{seed}"
            )
            wrong = trained.errors(trained.data.source.characters("test"))
            rates.append(100 * wrong.mean())
            print(
                f"{name:12} seed {seed}: {wrong.sum()} of {len(wrong)} wrong, {rates[-1]:.2f} %, "
                f"{trained.minutes:.1f} min",
                flush=True,
            )
        print(f"{name:12} mean {np.mean(rates):.2f} %", flush=True)


if __name__ == "__main__":
    main()
