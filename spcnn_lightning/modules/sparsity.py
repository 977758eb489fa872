"""Callback: what sparsity saves in each layer, measured on the first batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.modules.counting import LayerCount, count_layers, format_counts, total_macs


class SparseModelSummary(ModelSummary):
    """Prints active sites, parameters and multiply-adds of each layer, sparse against dense.

    Takes the place of Lightning's model summary, which cannot see inside sparse layers. The
    figures are measured, on the first batch of ``fit``, ``validate`` and ``test``, as means per
    sample. The same figures go to the loggers: ``sparsity/sparse_mmac``, ``sparsity/dense_mmac``,
    ``sparsity/ratio`` and ``sparsity/active_share/<layer>``.

    It serves any LightningModule whose ``forward`` takes a ``SparseBatch``.

    Args:
        log: Whether the figures also go to the loggers.
    """

    def __init__(self, log: bool = True) -> None:
        super().__init__()
        self.log = log
        self._waits = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Measure again in each stage."""
        self._waits = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the first batch."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Report on the first training batch."""
        self._report_once(trainer, pl_module, batch)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Report on the first batch of ``validate``; within ``fit`` training comes first."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._report_once(trainer, pl_module, batch)

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Report on the first test batch."""
        self._report_once(trainer, pl_module, batch)

    def _report_once(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        if not self._waits:
            return
        self._waits = False
        sparse = find_sparse_batch(batch)
        if sparse is None or sparse.batch_size == 0:
            rank_zero_info(f"no layer table: the batch, a {type(batch).__name__}, has no samples")
            return
        if sparse.num_sites == 0:
            rank_zero_warn(
                "no site of the first batch is active, so that there is nothing to learn from: "
                "look at the samples (`spcnn data show --config ...`), thresholds and background"
            )
        # On every rank, since the parameters may be spread over them.
        counts = [
            replace(count, name=count.name.removeprefix("network."))
            for count in count_layers(pl_module, sparse)
        ]
        trainable = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in pl_module.parameters()) - trainable
        rank_zero_info(
            f"\n{format_counts(counts, sparse.batch_size)}\n"
            f"means per sample over a batch of {sparse.batch_size}; ratio: dense to sparse "
            f"multiply-adds; {trainable:,} trainable parameters, {frozen:,} frozen"
        )
        if self.log:
            for logger in trainer.loggers:
                logger.log_metrics(_figures(counts, sparse.batch_size), step=trainer.global_step)


def find_sparse_batch(batch: Any) -> SparseBatch | None:
    """Return the first ``SparseBatch`` in a batch: itself, or an entry of a tuple, list or dict."""
    entries = batch.values() if isinstance(batch, dict) else batch
    if not isinstance(entries, SparseBatch) and not hasattr(entries, "__iter__"):
        return None
    candidates = [entries] if isinstance(entries, SparseBatch) else entries
    return next((entry for entry in candidates if isinstance(entry, SparseBatch)), None)


def _figures(counts: Sequence[LayerCount], batch_size: int) -> dict[str, float]:
    sparse, dense = total_macs(counts)
    shares = {
        f"sparsity/active_share/{count.name}": count.active_share
        for count in counts
        if count.spatial_shape and not count.elementwise
    }
    return shares | {
        "sparsity/sparse_mmac": sparse / batch_size / 1e6,
        "sparsity/dense_mmac": dense / batch_size / 1e6,
        "sparsity/ratio": dense / max(sparse, 1),
    }
