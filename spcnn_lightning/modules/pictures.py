"""Callback: pictures of the input, of the confusion matrix and of the worst errors."""

import heapq
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from spcnn_lightning.modules.classifier import SparseClassifier
from spcnn_lightning.modules.drawing import draw_confusion, draw_gallery, draw_samples, grid
from spcnn_lightning.modules.sparsity import find_sparse_batch


class _Mistake(NamedTuple):
    """A wrong prediction; the order is that of the loss, ties by place in the data."""

    loss: float
    place: int
    target: int
    predicted: int
    picture: Tensor


class PictureLogger(Callback):
    """Sends pictures to the loggers that take them, TensorBoard for one.

    - ``pictures/samples``: the first training batch as the network sees it. Active sites are
      tinted, the rest is white.
    - ``pictures/val_confusion``, ``pictures/test_confusion``: the confusion matrix, at the end of
      training (last validation) and of testing.
    - ``pictures/val_mistakes``, ``pictures/test_mistakes``: wrong predictions with the largest
      loss, as "true > predicted". On several processes those of the first.

    The last two need a `SparseClassifier`. Captions and numbers are drawn with matplotlib, and left
    out where it is not installed (``pip install 'spcnn-lightning[viz]'``).

    Args:
        num_samples: Most samples in a picture.
        channel: The channel to draw; in the encodings of this package channel 0 is "touched". None:
            the first three as red, green and blue.
    """

    def __init__(self, num_samples: int = 25, channel: int | None = 0) -> None:
        self.num_samples = num_samples
        self.channel = channel
        self._mistakes: list[_Mistake] = []
        self._seen = 0
        self._drew_samples = False
        self._told: set[str] = set()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw the first training batch."""
        if self._drew_samples or not trainer.is_global_zero:
            return
        self._drew_samples = True
        sparse = find_sparse_batch(batch)
        if sparse is not None and sparse.batch_size > 0:
            shown = range(min(self.num_samples, sparse.batch_size))
            self._send(trainer, "samples", grid(draw_samples(sparse, shown, self.channel)))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the mistakes of the last epoch."""
        self._forget()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the mistakes of the last epoch."""
        self._forget()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the worst mistakes."""
        self._keep_mistakes(pl_module, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the worst mistakes."""
        self._keep_mistakes(pl_module, outputs, batch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last validation epoch."""
        self._draw_results(trainer, pl_module, "val")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if validation is all that was asked for."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._draw_results(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test results."""
        self._draw_results(trainer, pl_module, "test")

    def _forget(self) -> None:
        self._mistakes.clear()
        self._seen = 0

    def _keep_mistakes(self, pl_module: LightningModule, scores: Any, batch: Any) -> None:
        if not isinstance(pl_module, SparseClassifier):
            return
        sparse, target = batch
        losses = torch.nn.functional.cross_entropy(scores.float(), target, reduction="none")
        predicted = scores.argmax(dim=1)
        losses = losses.masked_fill(predicted == target, -1.0)
        worst, samples = losses.topk(min(self.num_samples, len(losses)))
        for loss, sample in zip(worst.tolist(), samples.tolist(), strict=True):
            full = len(self._mistakes) == self.num_samples
            if loss < 0 or (full and loss <= self._mistakes[0].loss):
                break
            picture = draw_samples(sparse, [sample], self.channel)[0]
            place, wrong = self._seen + sample, int(predicted[sample])
            mistake = _Mistake(loss, -place, int(target[sample]), wrong, picture)
            (heapq.heappushpop if full else heapq.heappush)(self._mistakes, mistake)
        self._seen += len(target)

    def _draw_results(
        self, trainer: Trainer, pl_module: LightningModule, split: Literal["val", "test"]
    ) -> None:
        if not isinstance(pl_module, SparseClassifier) or self._seen == 0:
            return
        # On every rank: the processes add up their matrices.
        matrix = pl_module.confusion_matrix(split)
        if not trainer.is_global_zero:
            return
        names = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        self._send(trainer, f"{split}_confusion", draw_confusion(matrix, names))
        if self._mistakes:
            worst = sorted(self._mistakes, reverse=True)
            captions = [_caption(mistake, names) for mistake in worst]
            gallery = draw_gallery([mistake.picture for mistake in worst], captions)
            self._send(trainer, f"{split}_mistakes", gallery)

    def _send(self, trainer: Trainer, name: str, picture: Tensor) -> None:
        for logger in trainer.loggers:
            tag, step = f"pictures/{name}", trainer.global_step
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(experiment, "add_image"):
                experiment.add_image(tag, picture, step)
            elif hasattr(logger, "log_image"):
                logger.log_image(tag, [picture.permute(1, 2, 0).numpy()], step=step)
            elif type(logger).__name__ not in self._told:
                self._told.add(type(logger).__name__)
                rank_zero_info(
                    f"pictures: {type(logger).__name__} takes none; install TensorBoard with "
                    f"pip install 'spcnn-lightning[viz]', or configure a logger that does"
                )
        if not trainer.loggers and "" not in self._told:
            self._told.add("")
            rank_zero_info("pictures: there is no logger, so none are kept")


def _caption(mistake: _Mistake, names: Sequence[str] | None) -> str:
    def name(number: int) -> str:
        return str(number if names is None else names[number])

    return f"{name(mistake.target)} > {name(mistake.predicted)}"
