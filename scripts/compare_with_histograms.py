"""A network against an SVM or an LDA on direction histograms of the same strokes, in one run.

    python scripts/compare_with_histograms.py omniglot_deepcnin --seeds 1 2 3 --data.source.root=...
    python scripts/compare_with_histograms.py hanzi_deepcnet --classifier lda \
        --other data/kanjivg/kanjivg_strokes.npz
    python scripts/compare_with_histograms.py pendigits_deepcnin --folds 5 \
        --data.source=WriterFold --data.source.source=Pendigits --data.source.source.root=...

Both learn from all characters of the training part. ``--folds`` runs all folds of a `WriterFold`:
training and test part are joined, and each writer is held out once. ``--other`` is a file of
templates: other hands, as a second test. ``--ckpt_path`` reads a network in place of training it;
in it ``{seed}`` and ``{fold}`` stand for their numbers.
``--passes 10`` averages the network's answers over 10 augmented copies too.
All other options are those of ``spcnn fit``. The interval of the difference comes from resampling
writers, whose characters succeed or fail together (characters, where writers are not known).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from direction_histograms import CLASSIFIERS, fit, histograms
from intervals import difference_interval
from numpy.typing import NDArray
from trained import Trained, load, train

from spcnn_lightning.datamodules import StrokeTemplates
from spcnn_lightning.datamodules.characters import Characters

ALL_CHARACTERS = "--data.train_on_all=true"


def main() -> None:
    """Train, fit, and print a line for each test."""
    asked, overrides = _options()
    results: dict[str, list[tuple[NDArray, NDArray, NDArray]]] = {}
    for seed in asked.seeds:
        for fold in range(asked.folds or 1):
            words = [*overrides, ALL_CHARACTERS, f"--seed_everything={seed}"]
            if asked.folds:
                words += [f"--data.source.fold={fold}", f"--data.source.folds={asked.folds}"]
            folder = asked.out / f"{Path(asked.config).stem}_{seed}_{fold}"
            if asked.ckpt_path:
                checkpoint = asked.ckpt_path.format(seed=seed, fold=fold)
                trained = load(asked.config, words, checkpoint)
            else:
                trained = train(asked.config, words, folder)
            print(f"seed {seed}, fold {fold}: trained in {trained.minutes:.1f} min", flush=True)
            for name, outcome in _compare(trained, asked).items():
                _print_line(f"seed {seed}, fold {fold}, {name}", *outcome)
                results.setdefault(name, []).append(outcome)
    for name, outcomes in results.items():
        if len(outcomes) > 1:
            _print_line(f"all, {name}", *map(np.concatenate, zip(*outcomes, strict=True)))


def _options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--classifier", choices=sorted(CLASSIFIERS), default="svm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--other", type=Path, help="npz file of templates, as a second test")
    parser.add_argument("--passes", type=int, default=1, help="augmented copies to average over")
    parser.add_argument("--ckpt_path")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    return parser.parse_known_args()


def _compare(
    trained: Trained, asked: argparse.Namespace
) -> dict[str, tuple[NDArray, NDArray, NDArray]]:
    """Return, for each test, who wrote what and where the network and the classifier are wrong."""
    source = trained.data.source
    fitted = fit(asked.classifier, source.characters("train"))
    tests: dict[str, Characters] = {"test": source.characters("test")}
    if asked.other:
        tests[asked.other.stem] = StrokeTemplates(asked.other, list(source.class_names)).test()
    outcomes = {}
    for name, characters in tests.items():
        wrong = fitted.predict(histograms(characters)) != characters.labels
        writers = characters.writers
        groups = np.arange(len(wrong)) if writers is None else writers
        outcomes[name] = (groups, trained.errors(characters), wrong)
        if asked.passes > 1:
            several = trained.errors(characters, asked.passes)
            outcomes[f"{name}, {asked.passes} passes"] = (groups, several, wrong)
    return outcomes


def _print_line(name: str, groups: NDArray, network: NDArray, classifier: NDArray) -> None:
    low, high = difference_interval(groups, network, classifier)
    print(
        f"{name}: {len(network)} characters of {len(np.unique(groups))} groups; errors: network "
        f"{network.sum()} ({100 * network.mean():.2f} %), histograms {classifier.sum()} "
        f"({100 * classifier.mean():.2f} %); difference {low:+.2f} to {high:+.2f} points",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
