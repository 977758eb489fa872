"""One network on regions, on rectangular crops, and on crops with the mask as a channel: a table.

    python scripts/compare_regions.py --scenes 3000 --epochs 10 --seeds 1 2 3 \
        --data.source.scenes.digits.root=data/mnist

All three see the same regions of the same scenes, with the same augmentation, in the same order,
at the same place in the field. All other options are those of ``spcnn fit``. The interval of a
difference (95 %) comes from resampling test scenes, whose regions succeed or fail together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from intervals import difference_interval
from numpy.typing import NDArray
from trained import Trained, train

from spcnn_lightning.datamodules import ImagePaddingDataModule, PictureDataset, Regions
from spcnn_lightning.datamodules.pictures.regions import View

VIEWS: tuple[str, ...] = get_args(View)


class Outcome(NamedTuple):
    """How a network did on the regions of the test scenes, one entry for each."""

    wrong: NDArray[np.bool_]
    scenes: NDArray[np.int32]
    alone: NDArray[np.bool_]
    """Whether there is nothing of a neighbour in its box."""
    sites: float
    minutes: float


def main() -> None:
    """Train the three networks of each seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="scenes_regions")
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--test-scenes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    asked, overrides = parser.parse_known_args()
    found: dict[str, list[Outcome]] = {view: [] for view in VIEWS}
    for seed in asked.seeds:
        for view in VIEWS:
            words = [
                f"--data.source.view={view}",
                f"--data.source.scenes.scenes={asked.scenes}",
                f"--data.source.scenes.test_scenes={asked.test_scenes}",
                "--data.train_on_all=true",
                f"--trainer.max_epochs={asked.epochs}",
                f"--model.lr_scheduler.init_args.T_max={asked.epochs}",
                f"--seed_everything={seed}",
                *overrides,
            ]
            outcome = test(train(asked.config, words, asked.out / f"{view}_{seed}"))
            found[view].append(outcome)
            errors = f"{outcome.wrong.sum()} errors of {len(outcome.wrong)}"
            print(f"seed {seed}, {view}: {errors}, {outcome.minutes:.1f} min", flush=True)
    print_table(found)


def test(trained: Trained) -> Outcome:
    """Return how the network does on the test scenes."""
    data = trained.data
    assert isinstance(data, ImagePaddingDataModule)
    assert isinstance(data.source, Regions)
    regions = data.source.test()
    padded = PictureDataset(regions, data.evaluation_padder).pad(range(len(regions)))
    return Outcome(
        trained.errors(regions),
        regions.writers,
        neighbours_absent(data.source.scenes),
        len(padded.coords) / len(regions),
        trained.minutes,
    )


def neighbours_absent(scenes: object) -> NDArray[np.bool_]:
    """Return whether a region's box shows nothing outside of its mask, for each test region."""
    seen = Regions(scenes, "rectangle_and_mask").test()
    background = np.asarray(scenes.background)
    return np.array(
        [
            not ((picture[..., :-1] != background).any(-1) & (picture[..., -1] == 0)).any()
            for picture in seen.pictures
        ]
    )


def print_table(found: dict[str, list[Outcome]]) -> None:
    """Print a line for each view: errors of all seeds, and the difference from regions."""
    joined = {
        view: Outcome(
            *(np.concatenate([getattr(o, name) for o in outcomes]) for name in Outcome._fields[:3]),
            sites=outcomes[0].sites,
            minutes=float(np.mean([o.minutes for o in outcomes])),
        )
        for view, outcomes in found.items()
    }
    ours = joined["region"]
    print(
        "| input | errors | % | with neighbours in the box | alone | points more than regions | "
        "fewer by region | sites | minutes |\n|" + "---|" * 9
    )
    for view, theirs in joined.items():
        low, high = difference_interval(theirs.scenes, theirs.wrong, ours.wrong)
        fewer = 1 - ours.wrong.sum() / max(theirs.wrong.sum(), 1)
        alone = 100 * theirs.wrong[theirs.alone].mean()
        with_neighbours = 100 * theirs.wrong[~theirs.alone].mean()
        against = ("", "") if view == "region" else (f"{low:+.2f} to {high:+.2f}", f"{fewer:.0%}")
        print(
            f"| {view} | {theirs.wrong.sum()} of {len(theirs.wrong)} "
            f"| {100 * theirs.wrong.mean():.2f} | {with_neighbours:.2f} | {alone:.2f} "
            f"| {against[0]} | {against[1]} | {theirs.sites:.0f} | {theirs.minutes:.1f} |"
        )
    print(f"{(~ours.alone).mean():.0%} of the regions have neighbours in their box")


if __name__ == "__main__":
    main()
