"""Batch normalisation of sparse rows and of the ground state."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional
from spcnn_lightning.nn.processes import sum_over_processes


class BatchNorm(nn.Module):
    """Batch normalisation; the ground state goes through the same affine map as the rows.

    Where it is synchronised (`synchronise_batch_norm`) several processes take the statistics from
    the rows of all of them: values, gradients and running statistics are those of one process with
    the joined batch. A process may have no row, but all must run the layer equally often.

    Not a subclass of torch's: the statistics are updated once for each batch, and torch's
    converter to SyncBatchNorm leaves the layer alone.

    Args:
        num_features: C.
        eps: Added to the variance.
        momentum: Weight of the batch in the running statistics.
        statistics: Where the mean and variance of a training batch are taken. ``"active"``: from
            the active rows, the habit of sparse networks. ``"all"``: from all sites of all
            fields, the ground state counted once for each inactive site; this is dense batch
            normalisation exactly.

    With no row (or no site) to take statistics from, the running ones are used and kept. With a
    single one the variance is zero, and the running variance is kept.

    Attributes:
        synchronised: Whether statistics in training are those of all processes.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        statistics: Literal["active", "all"] = "active",
    ) -> None:
        super().__init__()
        if statistics not in ("active", "all"):
            raise ValueError(f"statistics is {statistics!r}, expected 'active' or 'all'")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.statistics, self.synchronised = statistics, False
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, batch: SparseBatch) -> SparseBatch:
        """Return the normalised batch."""
        statistics = self._batch_statistics(batch) if self.training else None
        mean, var = statistics or (self.running_mean, self.running_var)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return functional.elementwise(batch, lambda rows: rows * scale + shift)

    def _batch_statistics(self, batch: SparseBatch) -> tuple[Tensor, Tensor] | None:
        """Return mean and variance, or None if there is nothing to take them from."""
        inactive = 0
        if self.statistics == "all":
            inactive = batch.batch_size * batch.active_set.volume - batch.num_sites
        # Sums over many sites leave the range of half precision.
        rows = batch.features.to(self.weight.dtype)
        ground = batch.ground_state.to(self.weight.dtype)
        count, total = self._over_processes(
            batch.num_sites + inactive, rows.sum(0) + inactive * ground
        )
        if count == 0:
            return None
        mean = total / count
        deviations = (rows - mean).square().sum(0) + inactive * (ground - mean).square()
        squares = sum_over_processes(deviations) if self.synchronised else deviations
        if functional.is_recomputing():  # the first pass has updated them
            return mean, squares / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            if count > 1:
                self.running_var.lerp_(squares / (count - 1), self.momentum)
        return mean, squares / count

    def _over_processes(self, count: int, total: Tensor) -> tuple[int, Tensor]:
        """Return both added up over all processes, if these share their statistics."""
        if not self.synchronised:
            return count, total
        counts = sum_over_processes(torch.tensor(count, device=total.device))
        return int(counts), sum_over_processes(total)

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"statistics={self.statistics!r}"
        )


def synchronise_batch_norm(network: nn.Module, on: bool = True) -> None:
    """Let the `BatchNorm` layers of a network take their statistics from all processes.

    `SparseClassifier` calls it for a trainer with ``sync_batchnorm=True``. Works with every backend
    of torch.distributed, gloo on the CPU included; alone, a process has its own statistics.
    """
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.synchronised = on
