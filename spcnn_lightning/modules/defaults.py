"""The callbacks that a run has unless its config says otherwise."""

from collections.abc import Sequence

from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
)

from spcnn_lightning.modules.checkpoints import LastCheckpoint
from spcnn_lightning.modules.pictures import PictureLogger
from spcnn_lightning.modules.prediction import PredictionWriter
from spcnn_lightning.modules.rank_watch import RankWatch
from spcnn_lightning.modules.sparsity import SparseModelSummary
from spcnn_lightning.modules.warm_up import WarmUp


def best_and_last(monitor: str = "val/error", mode: str = "min") -> list[Callback]:
    """Return callbacks that keep the checkpoint with the best ``monitor``, and the last one."""
    # Two, for ``save_last`` would write only when the best one improves. The last one comes last,
    # so that it knows the best one when training resumes from it.
    return [
        # At the end of validation: a run without validation data has no best one.
        ModelCheckpoint(
            filename="best-{epoch}", monitor=monitor, mode=mode, save_on_train_epoch_end=False
        ),
        LastCheckpoint(),
    ]


def default_callbacks(
    configured: Sequence[Callback] = (), *, logging: bool = True, checkpointing: bool = True
) -> list[Callback]:
    """Return the callbacks of a `SparseClassifier` that ``configured`` does not replace.

    These are: best and last checkpoint, learning rate curve, layer table, pictures, table of
    predictions, the watch over other processes, their first use of an engine. One of the same kind
    in ``configured`` takes the place of ours.

    Args:
        configured: What the config asks for; it is not part of the result.
        logging: Whether the trainer has a logger.
        checkpointing: Whether the trainer may write checkpoints.
    """
    callbacks: list[tuple[type[Callback], Callback]] = [
        (ModelSummary, SparseModelSummary()),
        (PredictionWriter, PredictionWriter()),
        (RankWatch, RankWatch()),
        (WarmUp, WarmUp()),
    ]
    if logging:
        # Lightning refuses a curve without a logger, and so would pictures have no place.
        callbacks.append((LearningRateMonitor, LearningRateMonitor(logging_interval="epoch")))
        callbacks.append((PictureLogger, PictureLogger()))
    if checkpointing:
        callbacks.extend((ModelCheckpoint, callback) for callback in best_and_last())
    return [
        callback
        for kind, callback in callbacks
        if not any(isinstance(given, kind) for given in configured)
    ]
