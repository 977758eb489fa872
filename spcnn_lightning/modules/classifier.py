"""Training, evaluation and prediction of a network that maps a sparse batch to class scores."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torchmetrics import Metric

from spcnn_lightning.adapters.auto import agree_on_backends
from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.modules.engines import describe_engines
from spcnn_lightning.modules.metrics import ConfusionMatrix, MeanLoss, new_metrics
from spcnn_lightning.modules.prediction import Prediction
from spcnn_lightning.modules.resuming import close_epoch, move_to_processes
from spcnn_lightning.modules.target_mean import TargetMean
from spcnn_lightning.nn import set_dropout_seed, set_dropout_step, synchronise_batch_norm

_SPLITS = ("train", "val", "test")


class OptimizerError(SpcnnError, ValueError):
    """The optimiser or the schedule refuses its arguments."""


class NonFiniteLossError(SpcnnError, ArithmeticError):
    """The loss became NaN or infinite."""


class SparseClassifier(LightningModule):
    """Trains a network from ``SparseBatch`` to class scores with cross entropy.

    It does not know which network, data or backend it has. A batch is ``(SparseBatch, targets)``
    with targets int64 of shape (B,); prediction also takes a bare ``SparseBatch``.

    Logged for each split (train, val, test) over whole epochs, exactly, on any number of
    processes:

    - ``<split>/loss``: cross entropy, mean over targets.
    - ``<split>/accuracy``: share of right predictions.
    - ``<split>/error``: ``100 * (1 - accuracy)``, in percent.
    - ``<split>/top5_accuracy``: with more than 5 classes only.
    - ``train/loss_step``: the loss of a single batch of all processes, for the progress bar.

    ``confusion_matrix`` returns the counts of the last validation or test epoch. The engine that
    does the arithmetic is printed with the results.

    The gradient of an optimiser step is that of the mean loss over its targets, whatever the number
    and the sizes of the batches that processes and ``accumulate_grad_batches`` contribute, empty
    ones included: n processes do what one does with the joined batch.

    A resumed run continues with the same dropout masks, on another number of processes too. In an
    epoch that is resumed in the middle ``train/*`` covers the batches after the interruption;
    ``val/*`` is always complete.

    Args:
        network: Maps a ``SparseBatch`` of B samples to scores of shape (B, C).
        optimizer: Makes the optimiser from the parameters of the network.
        lr_scheduler: Makes the schedule from the optimiser. None keeps the learning rate.
        num_classes: C. None reads ``network.num_classes``.
        interval: The schedule moves on after each "epoch" (the paper's programs) or each "step".
        label_smoothing: Share of the training target that is spread over all classes. The loss of
            the other splits is never smoothed.
        warmup_steps: Over so many optimiser steps the learning rate rises linearly to what the
            schedule says. Networks with hundreds of classes may need some hundred to start.

    Raises:
        ValueError: If the number of classes is missing, or is not what the network has, the
            smoothing is no share, or the number of steps is negative.
        OptimizerError: When training begins, if the optimiser or the schedule refuses arguments.
        NonFiniteLossError: In training and evaluation, if the loss becomes NaN or infinite. On an
            accelerator it is looked at every ``log_every_n_steps`` batches, since each look makes
            the device wait.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        num_classes: int | None = None,
        interval: Literal["epoch", "step"] = "epoch",
        label_smoothing: float = 0.0,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps is {warmup_steps}: give 0 or a number of steps")
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing is {label_smoothing}: it is a share, from 0 to less than 1"
            )
        # No save_hyperparameters: a backend kept in a checkpoint would override the one asked for.
        self.network = network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.interval = interval
        self.label_smoothing = label_smoothing
        self.warmup_steps = warmup_steps
        self.num_classes = _checked_num_classes(network, num_classes)
        self.dropout_seed: int | None = None
        # Flat, since a ModuleDict cannot have a key "train".
        self._metrics = nn.ModuleDict(
            {
                f"{split}/{name}": metric
                for split in _SPLITS
                for name, metric in new_metrics(self.num_classes).items()
            }
        )
        self._confusion = nn.ModuleDict(
            {split: ConfusionMatrix(self.num_classes) for split in ("val", "test")}
        )
        self._mean = TargetMean()
        self._engines: str | None = None
        self._announced = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseClassifier":
        """Copy all but the two callables: a command line's lead to its trainer and processes."""
        memo |= {id(made): made for made in (self.optimizer, self.lr_scheduler)}
        memo[id(self)] = twin = type(self).__new__(type(self))
        twin.__dict__.update(deepcopy(self.__getstate__(), memo))
        return twin

    def forward(self, batch: SparseBatch) -> Tensor:
        """Return the scores of each class, shape (B, C)."""
        # Lightning's ``precision`` converts tensors, but does not look into a SparseBatch.
        dtype = next((p.dtype for p in self.network.parameters()), batch.dtype)
        scores: Tensor = self.network(batch if batch.dtype == dtype else batch.to(dtype))
        return scores

    def confusion_matrix(self, split: Literal["val", "test"]) -> Tensor:
        """Return how often each class (row) was taken for each other in the last epoch.

        On several processes all must call it.

        Returns:
            int64, shape (C, C).
        """
        return self._matrix(split).compute()

    def training_step(self, batch: tuple[SparseBatch, Tensor], batch_idx: int) -> Tensor:
        """Return the loss to differentiate, shape (): see `TargetMean`."""
        total, _ = self._step(batch, "train")
        size = batch[1].numel()
        loss, mean = self._mean.weigh(
            total, size, batch_idx, self.trainer.world_size, self._sum_over_processes
        )
        self._require_finite(mean, batch_idx, "train")
        self.log("train/loss_step", mean, prog_bar=True, batch_size=size)
        return loss

    def validation_step(self, batch: tuple[SparseBatch, Tensor], batch_idx: int) -> Tensor:
        """Return the scores, shape (B, C)."""
        return self._evaluation_step(batch, batch_idx, "val")

    def test_step(self, batch: tuple[SparseBatch, Tensor], batch_idx: int) -> Tensor:
        """Return the scores, shape (B, C)."""
        return self._evaluation_step(batch, batch_idx, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Prediction:
        """Return probabilities and predicted classes, and the targets if there are any."""
        sparse, target = (batch, None) if isinstance(batch, SparseBatch) else batch
        scores = self._scores(sparse)
        # Half precision would print as probabilities that do not add up to 1.
        dtype = torch.promote_types(scores.dtype, torch.float32)
        probabilities = scores.softmax(dim=1, dtype=dtype)
        return Prediction(probabilities, probabilities.argmax(dim=1), target)

    def configure_optimizers(self) -> Any:
        """Return what Lightning expects, from the two callables."""
        try:
            optimizer = self.optimizer(self.network.parameters())
            if self.lr_scheduler is None:
                return optimizer
            scheduler = self.lr_scheduler(optimizer)
        except ValueError as error:
            raise OptimizerError(
                f"the optimiser or its schedule can't be built: {error}"
            ) from error
        monitor = getattr(scheduler, "monitor", "val/loss")
        schedule = {"scheduler": scheduler, "interval": self.interval, "monitor": monitor}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step, with a smaller learning rate while it warms up.

        The optimiser keeps the rate of the schedule, so that a checkpoint holds no other.
        """
        share = min(1.0, (self.trainer.global_step + 1) / max(self.warmup_steps, 1))
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = share * group["lr"]

        def closure() -> Any:
            result = None if optimizer_closure is None else optimizer_closure()
            self._mean.correct(self.parameters(), self.trainer.accumulate_grad_batches)
            return result

        try:
            super().optimizer_step(epoch, batch_idx, optimizer, closure)
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def setup(self, stage: str) -> None:
        """Look at the engine afresh: device or precision may be others than before."""
        self._engines, self._announced = None, False
        agree_on_backends()
        # The trainer's sync_batchnorm, which it tells nobody but torch's own layers.
        if getattr(self.trainer.strategy, "_layer_sync", None) is not None:
            synchronise_batch_norm(self.network)

    def on_fit_start(self) -> None:
        """Give all processes the dropout seed of the first one."""
        seed = torch.initial_seed() if self.dropout_seed is None else self.dropout_seed
        self.dropout_seed = int(self.trainer.strategy.broadcast(seed))
        set_dropout_seed(self.network, self.dropout_seed)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Key the dropout masks by the number of optimiser steps, which survives a resume."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._mean.start_step()
        set_dropout_step(self.network, self.trainer.global_step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Say once which engine trains."""
        if not self._announced:
            self._announce_engines()

    def on_validation_epoch_start(self) -> None:
        """Start a new confusion matrix."""
        self._matrix("val").reset()

    def on_test_epoch_start(self) -> None:
        """Start a new confusion matrix."""
        self._matrix("test").reset()

    def on_validation_end(self) -> None:
        """Say which engine the results come from, above Lightning's table of them."""
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._announce_engines()

    def on_test_end(self) -> None:
        """Say which engine the results come from, above Lightning's table of them."""
        self._announce_engines()

    def on_predict_end(self) -> None:
        """Say which engine the predictions come from."""
        self._announce_engines()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the dropout seed, so that a resumed run draws the same masks."""
        checkpoint["dropout_seed"] = self.dropout_seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the dropout seed of the interrupted run, and its place in the epoch."""
        # Without a trainer only the weights are wanted.
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            close_epoch(checkpoint)
            move_to_processes(checkpoint, self.trainer.world_size)
        self.dropout_seed = checkpoint.get("dropout_seed")
        if self.dropout_seed is not None:
            set_dropout_seed(self.network, self.dropout_seed)

    def _announce_engines(self) -> None:
        self._announced = True
        # Not self.print, which writes into the progress bar: that is closed when results come.
        rank_zero_info(f"backend: {self._engines or 'none ran, there was no batch'}")

    def _scores(self, batch: SparseBatch) -> Tensor:
        # Not in forward: the layer table calls that outside of autocast, which may decide.
        if self._engines is None:
            self._engines = describe_engines(self.network)
        scores: Tensor = self(batch)
        return scores

    def _matrix(self, split: str) -> ConfusionMatrix:
        return cast(ConfusionMatrix, self._confusion[split])

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        return cast(Tensor, self.trainer.strategy.reduce(values, reduce_op="sum"))

    def _evaluation_step(
        self, batch: tuple[SparseBatch, Tensor], batch_idx: int, split: str
    ) -> Tensor:
        total, scores = self._step(batch, split)
        self._require_finite(total / max(batch[1].numel(), 1), batch_idx, split)
        return scores

    def _step(self, batch: tuple[SparseBatch, Tensor], split: str) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses of all targets, and the scores."""
        sparse, target = batch
        scores = self._scores(sparse)
        smoothing = self.label_smoothing if split == "train" else 0.0
        total = functional.cross_entropy(scores, target, label_smoothing=smoothing, reduction="sum")
        size, detached = target.numel(), scores.detach()
        for name, metric in self._metrics_of(split):
            if isinstance(metric, MeanLoss):
                metric.update(total.detach(), size)
            else:
                metric.update(detached, target)
            shown = name == "val/error"
            self.log(name, metric, shown, on_step=False, on_epoch=True, batch_size=size)
        if split in self._confusion:
            self._matrix(split).update(detached.argmax(dim=1), target)
        return total, scores

    def _metrics_of(self, split: str) -> Iterator[tuple[str, Metric]]:
        for name, metric in self._metrics.items():
            if name.startswith(f"{split}/"):
                yield name, cast(Metric, metric)

    def _require_finite(self, loss: Tensor, batch_idx: int, split: str) -> None:
        trainer = self.trainer
        every = max(trainer.log_every_n_steps, 1)  # type: ignore[attr-defined]
        looks = batch_idx % every == 0 or trainer.is_last_batch
        if (loss.device.type != "cpu" and not looks) or torch.isfinite(loss):
            return
        raise NonFiniteLossError(
            f"{split}/loss is {loss.item()} in epoch {trainer.current_epoch}, batch {batch_idx} "
            f"(optimiser step {trainer.global_step}): lower the learning rate, set "
            f"trainer.gradient_clip_val, or look for NaN and huge numbers in the input features; "
            f"then start afresh or from a checkpoint of an earlier step"
        )


def _checked_num_classes(network: nn.Module, num_classes: int | None) -> int:
    """Return the number of classes that was asked for or that the network states."""
    stated = getattr(network, "num_classes", None)
    if num_classes is None and stated is None:
        raise ValueError(
            f"num_classes is not given and {type(network).__name__} has no attribute num_classes: "
            f"pass num_classes (in a config: model.num_classes)"
        )
    if stated is not None and num_classes not in (None, stated):
        raise ValueError(
            f"num_classes is {num_classes}, but {type(network).__name__} has {stated} classes: "
            f"leave num_classes out, or build the network with the same number"
        )
    return int(stated if num_classes is None else num_classes)  # type: ignore[arg-type]
