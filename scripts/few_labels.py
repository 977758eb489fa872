"""Test errors from few labels, with and without augmentation, beside an SVM: a table and a plot.

    python scripts/few_labels.py pendigits_deepcnin --per-class 5 10 20 50 --seeds 1 2 3 \
        --plot docs/few_labels.png --data.source=Pendigits --data.source.root=data/pendigits
    python scripts/few_labels.py digits_quick --data.source=MNIST --data.source.root=data/mnist \
        --data.spatial_shape='[96, 96]' --model.network.levels=5

The SVM (RBF kernel, C = 10) sees direction histograms of strokes, or the pixels of pictures of one
size. A seed chooses the samples, the start values and the order. Every network takes equally many
steps, and its learning rate goes down to zero along half a cosine. All other options are those of
``spcnn fit``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import yaml
from direction_histograms import CLASSIFIERS, histograms
from numpy.typing import NDArray
from trained import train

from spcnn_lightning.commands.configs import find_config
from spcnn_lightning.datamodules import FewLabels, FewPictures
from spcnn_lightning.datamodules.characters import LabelledSamples

KINDS = ("augmented", "not augmented", "SVM")


def main() -> None:
    """Train, print the table and draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--per-class", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    asked, overrides = parser.parse_known_args()
    table = np.zeros((len(asked.per_class), len(KINDS), len(asked.seeds)))
    for row, per_class in enumerate(asked.per_class):
        for column, seed in enumerate(asked.seeds):
            table[row, :, column] = errors(asked, overrides, per_class, seed)
        means = ", ".join(
            f"{kind} {rates.mean():.2f} ({' '.join(f'{rate:.2f}' for rate in rates)})"
            for kind, rates in zip(KINDS, table[row], strict=True)
        )
        print(f"{per_class} of each class, test error in %: {means}", flush=True)
    if asked.plot:
        draw(asked.per_class, table, asked.plot)


def errors(
    asked: argparse.Namespace, overrides: list[str], per_class: int, seed: int
) -> list[float]:
    """Return the test errors in percent, one for each of `KINDS`."""
    rates = []
    with open(find_config(asked.config), encoding="utf-8") as file:
        pictures = yaml.safe_load(file)["data"]["class_path"] == "ImagePaddingDataModule"
    for augment in (True, False):
        words = [
            *_around_the_source(overrides, "FewPictures" if pictures else "FewLabels"),
            f"--data.source.per_class={per_class}",
            f"--data.source.seed={seed}",
            f"--seed_everything={seed}",
            f"--data.augment={augment}",
            "--data.train_on_all=true",
            f"--trainer.max_steps={asked.steps}",
            "--trainer.max_epochs=-1",
            "--model.interval=step",
            f"--model.lr_scheduler.init_args.T_max={asked.steps}",
        ]
        trained = train(asked.config, words, asked.out / f"few_{per_class}_{seed}_{augment}")
        few = trained.data.source
        assert isinstance(few, (FewLabels, FewPictures))
        training, test = few.train(), few.test()
        rates.append(100 * trained.errors(test).mean())
    svm = CLASSIFIERS["svm"]().fit(_features(training, pictures), training.labels)
    wrong = svm.predict(_features(test, pictures)) != test.labels
    return [*rates, 100 * wrong.mean()]


def _features(samples: LabelledSamples, pictures: bool) -> NDArray[np.float32]:
    """Return what the SVM sees, shape (B, features)."""
    if not pictures:
        return histograms(samples)
    return np.stack(samples.select(range(len(samples)))).reshape(len(samples), -1) / np.float32(255)


def _around_the_source(overrides: list[str], few: str) -> list[str]:
    """Put a source of few samples around the source that the options name."""
    inner = [word.replace("--data.source", "--data.source.source", 1) for word in overrides]
    return [f"--data.source={few}", *inner]


def draw(per_class: list[int], table: np.ndarray, path: Path) -> None:
    """Draw means over the seeds, and all seeds as dots."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure, axes = plt.subplots(figsize=(6, 4))
    for kind, colour, rates in zip(KINDS, ("C0", "C1", "C7"), table.swapaxes(0, 1), strict=True):
        axes.plot(per_class, rates.mean(axis=1), color=colour, label=kind)
        axes.plot(per_class, rates, "o", color=colour, markersize=3)
    axes.set(xscale="log", yscale="log", xlabel="training samples of each class")
    axes.set(ylabel="test error in %", xticks=per_class, xticklabels=per_class)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.legend()
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
