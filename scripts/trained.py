"""What the comparisons of this folder share: train by a config, predict any samples."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray

from spcnn_lightning.cli import SpcnnCLI
from spcnn_lightning.commands.experiment import load_experiment
from spcnn_lightning.core.collate import collate
from spcnn_lightning.datamodules import BatchDataset, HandwritingDataset, PictureDataset
from spcnn_lightning.datamodules.characters import LabelledSamples
from spcnn_lightning.datamodules.handwriting import HandwritingDataModule
from spcnn_lightning.datamodules.image_padding import ImagePaddingDataModule

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")


class Trained(NamedTuple):
    """A network after its training.

    Attributes:
        module: Holds the network.
        data: What it was trained on.
        minutes: How long the training took; 0 if it was read from a checkpoint.
    """

    module: LightningModule
    data: HandwritingDataModule | ImagePaddingDataModule
    minutes: float = 0.0

    def errors(self, samples: LabelledSamples, passes: int = 1) -> NDArray[np.bool_]:
        """Return whether the network is wrong about each character or picture, shape (B,).

        With several passes, its probabilities are averaged over so many augmented copies.
        """
        prepare = self._dataset(samples, augmented=passes > 1)
        self.module.eval()
        wrong = []
        with torch.inference_mode():
            for start in range(0, len(prepare), 100):
                places = range(start, min(start + 100, len(prepare)))
                total = torch.zeros(len(places), self.data.num_classes)
                for number in range(passes):
                    keys = [(number, place) for place in places]
                    batch, targets = collate([prepare.prepare(keys)])
                    total += self.module(batch).softmax(dim=1)
                wrong.append(total.argmax(dim=1) != targets)
        return torch.cat(wrong).numpy()

    def _dataset(self, samples: LabelledSamples, augmented: bool) -> BatchDataset:
        data = self.data
        if isinstance(data, ImagePaddingDataModule):
            padder = data.training_padder if augmented else data.evaluation_padder
            return PictureDataset(samples, padder)
        rasteriser = data.training_rasteriser if augmented else data.evaluation_rasteriser
        return HandwritingDataset(samples, rasteriser, data.feature_scale)


def train(config: str, overrides: Sequence[str], folder: Path) -> Trained:
    """Train as ``spcnn fit --config CONFIG OVERRIDES`` does; logs and checkpoints go to folder."""
    start = time.perf_counter()
    words = ["fit", "--config", config, f"--trainer.default_root_dir={folder}", *QUIET]
    cli = SpcnnCLI("spcnn", [*words, *overrides])
    assert isinstance(cli.datamodule, (HandwritingDataModule, ImagePaddingDataModule))
    return Trained(cli.model, cli.datamodule, (time.perf_counter() - start) / 60)


def load(config: str, overrides: Sequence[str], checkpoint: str) -> Trained:
    """Read a checkpoint of a run with this config."""
    found = load_experiment(config, overrides, checkpoint)
    assert isinstance(found.data, (HandwritingDataModule, ImagePaddingDataModule))
    return Trained(found.module, found.data)
