"""Pooling layers and the readout at the top of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from spcnn_lightning.core.geometry import ConvGeometry, PerAxis
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional

ReadoutMode = Literal["site", "mean", "max"]


class _Pool(nn.Module):
    def __init__(
        self,
        kernel_size: Sequence[int],
        stride: PerAxis | None = None,
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
    ) -> None:
        super().__init__()
        self.geometry = ConvGeometry(
            kernel_size, tuple(kernel_size) if stride is None else stride, padding
        )

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        g = self.geometry
        return f"kernel_size={g.kernel_size}, stride={g.stride}, padding={g.padding}"


class MaxPool(_Pool):
    """Maximum over windows, in which absent sites hold the ground state.

    Args:
        kernel_size: In sites, one integer per axis.
        stride: In sites; the kernel size if not given. Windows may overlap.
        padding: Slots outside the field never win.
    """

    def forward(self, batch: SparseBatch) -> SparseBatch:
        """Return the pooled batch; see `spcnn_lightning.nn.functional.max_pool`."""
        return functional.max_pool(batch, self.geometry)


class AvgPool(_Pool):
    """Mean over the slots of each window that lie inside the field; arguments as `MaxPool`."""

    def forward(self, batch: SparseBatch) -> SparseBatch:
        """Return the pooled batch; see `spcnn_lightning.nn.functional.avg_pool`."""
        return functional.avg_pool(batch, self.geometry)


class Readout(nn.Module):
    """One vector per sample, shape (B, C), from the field at the top of a network.

    Args:
        mode: ``"site"`` reads the one site of a field that has shrunk to it; ``"mean"`` and
            ``"max"`` run over all sites, active or not, of a larger field.
    """

    def __init__(self, mode: ReadoutMode = "site") -> None:
        super().__init__()
        modes = {
            "site": functional.site_values,
            "mean": functional.field_mean,
            "max": functional.field_max,
        }
        if mode not in modes:
            raise ValueError(f"readout is {mode!r}, expected one of {', '.join(modes)}")
        self.mode, self._read = mode, modes[mode]

    def forward(self, batch: SparseBatch) -> Tensor:
        """Return shape (B, C); a sample without active sites reads the ground state."""
        return self._read(batch)

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return repr(self.mode)
