"""Callback: write predictions as a table, one row per sample in the order of the data set."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.modules.tables import Columns, Table, table_type


class Prediction(NamedTuple):
    """What ``SparseClassifier.predict_step`` returns for a batch of B samples.

    Attributes:
        probabilities: Softmax of the scores, shape (B, C).
        predicted: The most probable class, int64 of shape (B,).
        target: The true class, int64 of shape (B,), or None where the data have none.
    """

    probabilities: Tensor
    predicted: Tensor
    target: Tensor | None


class PredictionWriter(BasePredictionWriter):
    """Writes what ``predict`` returns as a CSV or Parquet table.

    Columns: ``index`` (number of the sample in its data set; rows are in this order), ``name`` (of
    the sample, a file say, if the loader's data set has ``sample_names``),
    ``predicted``, ``predicted_name`` (if the data module has ``class_names``), ``target`` (empty
    where the data have none) and ``probability_<class>`` for each class.

    The file appears when it is complete; on several processes each writes a part beside it, so
    they need a common file system.

    Args:
        path: The table; the ending is ``.csv`` or ``.parquet``.

    Raises:
        ValueError: If the ending is another one.
        MissingExtraError: For Parquet, if pyarrow is not installed.
        SpcnnError: In ``predict``, if the numbers of the samples are unknown or out of order.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        super().__init__(write_interval="batch")
        self.path = Path(path)
        self._table_type = table_type(self.path)
        self._table: Table | None = None
        self._next_index = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what an interrupted run left behind."""
        self._next_index = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part(trainer.global_rank).unlink(missing_ok=True)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[Any] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append the rows of one batch to the part of this process."""
        if dataloader_idx > 0:
            raise SpcnnError(
                f"there is more than one predict dataloader and one table, {self.path}: predict "
                f"the data sets one after the other, each with a path of its own"
            )
        if not isinstance(prediction, Prediction):
            raise SpcnnError(
                f"predict_step returned a {type(prediction).__name__}; PredictionWriter needs a "
                f"spcnn_lightning.modules.Prediction"
            )
        index = self._sample_numbers(batch_indices, len(prediction.predicted), trainer.world_size)
        columns = prediction_columns(
            index, prediction, _class_names(trainer), _sample_names(trainer)
        )
        if self._table is None:
            self._table = self._table_type(self._part(trainer.global_rank), columns)
        self._table.write(columns)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the parts together."""
        self._close()
        trainer.strategy.barrier("spcnn_predictions_written")
        if trainer.is_global_zero:
            parts = [self._part(rank) for rank in range(trainer.world_size)]
            parts = [part for part in parts if part.exists()]
            if len(parts) > 1:
                merged = self.path.with_name(self.path.name + ".merged")
                self._table_type.merge(parts, merged)
                for part in parts:
                    part.unlink()
                parts = [merged]
            if parts:
                os.replace(parts[0], self.path)
            rank_zero_info(f"predictions: {self.path if parts else 'there was no sample'}")
        trainer.strategy.barrier("spcnn_predictions_merged")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the file, also after an error."""
        self._close()

    def _close(self) -> None:
        if self._table is not None:
            self._table.close()
            self._table = None

    def _part(self, rank: int) -> Path:
        return self.path.with_name(f"{self.path.name}.part{rank}")

    def _sample_numbers(
        self, batch_indices: Sequence[Any] | None, count: int, world_size: int
    ) -> list[int]:
        """Return the numbers of the samples in the data set, strictly ascending over batches."""
        if batch_indices is None or len(batch_indices) != count:
            if world_size > 1:
                raise SpcnnError(
                    f"Lightning does not know which {count} samples are in this batch, so the "
                    f"tables of {world_size} processes cannot be put in order: predict with a "
                    f"torch DataLoader, or with devices=1"
                )
            index = list(range(self._next_index, self._next_index + count))
        else:
            # Our samplers yield keys (epoch, index).
            index = [int(key[-1]) if isinstance(key, tuple) else int(key) for key in batch_indices]
        for number in index:
            if number < self._next_index:
                raise SpcnnError(
                    f"sample {number} comes after sample {self._next_index - 1}: rows are written "
                    f"in the order of the data set, so predict without shuffling"
                )
            self._next_index = number + 1
        return index


def prediction_columns(
    index: Sequence[int],
    prediction: Prediction,
    class_names: Sequence[str] | None = None,
    sample_names: Sequence[str] | None = None,
) -> Columns:
    """Return the columns of the table for B samples.

    Args:
        index: Numbers of the samples, B of them.
        prediction: Probabilities, predicted classes and, where known, targets.
        class_names: C names, or None.
        sample_names: Those of all samples of the data set, or None.

    Raises:
        ValueError: If the number of names is not C.
    """
    probabilities = prediction.probabilities.detach().cpu()
    predicted = prediction.predicted.tolist()
    columns: Columns = {"index": list(index)}
    if sample_names is not None:
        columns["name"] = [str(sample_names[number]) for number in index]
    columns["predicted"] = predicted
    if class_names is not None:
        if len(class_names) != probabilities.shape[1]:
            raise ValueError(
                f"there are {len(class_names)} class names for {probabilities.shape[1]} classes"
            )
        columns["predicted_name"] = [str(class_names[number]) for number in predicted]
    columns["target"] = _known_targets(prediction.target, len(predicted))
    for number, column in enumerate(probabilities.unbind(1)):
        columns[f"probability_{number}"] = column.numpy()
    return columns


def _known_targets(target: Tensor | None, count: int) -> list[int | None]:
    if target is None:
        return [None] * count
    known: list[int | None] = target.tolist()
    return known


def _sample_names(trainer: Trainer) -> Sequence[str] | None:
    # Of the loader at hand: predict may have been given another one than the data module's.
    loader: Any = trainer.predict_dataloaders
    if isinstance(loader, (list, tuple)) and len(loader) == 1:
        loader = loader[0]
    return getattr(getattr(loader, "dataset", None), "sample_names", None)


def _class_names(trainer: Trainer) -> Sequence[str] | None:
    return getattr(getattr(trainer, "datamodule", None), "class_names", None)
