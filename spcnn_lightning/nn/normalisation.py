"""Batch normalisation of sparse rows and of the ground state."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional


class BatchNorm(nn.Module):
    """Batch normalisation; the ground state goes through the same affine map as the rows.

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
        self.statistics = statistics
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, batch: SparseBatch) -> SparseBatch:
        """Return the normalised batch."""
        mean, var = self.running_mean, self.running_var
        if self.training:
            inactive = 0
            if self.statistics == "all":
                inactive = batch.batch_size * batch.active_set.volume - batch.num_sites
            if batch.num_sites + inactive > 0:
                mean, var = self._batch_statistics(batch, inactive)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return functional.elementwise(batch, lambda rows: rows * scale + shift)

    def _batch_statistics(self, batch: SparseBatch, inactive: int) -> tuple[Tensor, Tensor]:
        count = batch.num_sites + inactive
        # Sums over many sites leave the range of half precision.
        rows = batch.features.to(self.weight.dtype)
        ground = batch.ground_state.to(self.weight.dtype)
        mean = (rows.sum(0) + inactive * ground) / count
        squares = (rows - mean).square().sum(0) + inactive * (ground - mean).square()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            if count > 1:
                self.running_var.lerp_(squares / (count - 1), self.momentum)
        return mean, squares / count

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"statistics={self.statistics!r}"
        )
