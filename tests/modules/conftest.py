"""A dozen samples and a network of one level: enough for everything a module does."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.modules import SparseClassifier
from spcnn_lightning.networks import DeepCNet

FIELD = (6, 6)
CLASSES = 7


class TinyData(LightningDataModule):
    """Random pictures, class numbers in turn."""

    def __init__(self, num_classes: int = CLASSES, size: int = 13, batch_size: int = 4) -> None:
        super().__init__()
        self.num_classes, self.in_channels, self.spatial_shape = num_classes, 1, FIELD
        self.class_names = tuple(f"class {number}" for number in range(num_classes))
        generator = torch.Generator().manual_seed(3)
        self.samples = []
        for number in range(size):
            picture = (torch.rand(1, 1, *FIELD, generator=generator) < 0.3).float()
            self.samples.append((SparseBatch.from_dense(picture), number % num_classes))
        self.batch_size = batch_size

    def loader(self) -> DataLoader[Any]:
        return DataLoader(self.samples, batch_size=self.batch_size, collate_fn=collate)  # type: ignore[arg-type]

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


@pytest.fixture
def data() -> TinyData:
    """13 samples of 7 classes, in batches of 4."""
    return TinyData()


@pytest.fixture
def make_data() -> type[TinyData]:
    """The data module class, for other sizes."""
    return TinyData


@pytest.fixture
def make_module() -> Callable[..., SparseClassifier]:
    """Build a classifier with a fixed seed."""

    def make(
        num_classes: int = CLASSES, dropout: float = 0.0, **arguments: Any
    ) -> SparseClassifier:
        torch.manual_seed(5)
        network = DeepCNet(1, 4, 1, num_classes, dropout=dropout)
        arguments.setdefault("optimizer", partial(torch.optim.SGD, lr=0.1, momentum=0.9))
        return SparseClassifier(network, **arguments)

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Build a silent trainer on the CPU that writes below ``tmp_path``."""

    def make(**arguments: Any) -> Trainer:
        silent = {
            "accelerator": "cpu",
            "devices": 1,
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "logger": False,
            "log_every_n_steps": 1,
            "max_epochs": 1,
            "num_sanity_val_steps": 0,
        }
        return Trainer(**(silent | arguments))

    return make
