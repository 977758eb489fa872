"""Layers that hold weights: convolution, submanifold convolution, network in network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spcnn_lightning.adapters import check_name
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry, PerAxis
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional
from spcnn_lightning.nn.initialisation import initialise


class SparseConv(nn.Module):
    """Convolution, equal to the dense one: a site is active if its window holds an active site.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: In sites; one integer per axis (this fixes the number of dimensions).
        stride: In sites.
        padding: Extends the field with the ground state, not with zeros as `torch.nn` does;
            one integer, one per axis, or one (low, high) pair per axis.
        dilation: Distance of the taps, in sites.
        bias: Whether to add one.
        backend: Name of the engine, one algorithm of it ("spconv:native"), or "auto". It is no
            part of the ``state_dict``.
        geometry: The window as data, in place of ``kernel_size`` to ``dilation``.

    Attributes:
        weight: Shape (K, C_in, C_out), taps in row-major order.
        bias: Shape (C_out,), or None.

    Raises:
        BackendNotFoundError: If nothing goes by the name ``backend``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int] = (),
        stride: PerAxis = 1,
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        dilation: PerAxis = 1,
        bias: bool = True,
        backend: str = "auto",
        geometry: ConvGeometry | None = None,
    ) -> None:
        super().__init__()
        check_name(backend)  # a mistyped word is to show here, and not in the first batch
        self.geometry = geometry or ConvGeometry(kernel_size, stride, padding, dilation)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(self.geometry.num_taps, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        initialise(self.weight, "he")

    def forward(
        self, batch: SparseBatch, inputs: Tensor | None = None, outputs: Tensor | None = None
    ) -> SparseBatch:
        """Return the convolved batch; see `spcnn_lightning.nn.functional.sparse_conv`.

        Args:
            batch: Of C_in channels, or of those in ``inputs``.
            inputs: int64: the input channels that the batch has; all if not given.
            outputs: int64: the output channels to compute; all if not given.
        """
        weight, bias = _part_of(self, inputs, outputs)
        return functional.sparse_conv(batch, weight, bias, self.geometry, self.backend)

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        g = self.geometry
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={g.kernel_size}, "
            f"stride={g.stride}, padding={g.padding}, dilation={g.dilation}, "
            f"activity={g.activity.value}, bias={self.bias is not None}, backend={self.backend!r}"
        )


class SubmanifoldConv(SparseConv):
    """Convolution that computes the active sites of its input alone, so that none are added.

    Tap ``(k - 1) // 2`` lies on the site. Arguments as in `SparseConv`.

    Source:
        B. Graham, L. van der Maaten, Submanifold sparse convolutional networks, arXiv:1706.01307.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        dilation: PerAxis = 1,
        bias: bool = True,
        backend: str = "auto",
    ) -> None:
        geometry = ConvGeometry.submanifold(kernel_size, dilation)
        super().__init__(in_channels, out_channels, bias=bias, backend=backend, geometry=geometry)


class InverseConv(SparseConv):
    """Transposed convolution back to the sites that a convolution or pooling came from.

    Arguments as in `SparseConv`, of the window that led from the finer sites to the coarser
    ones; ``in_channels`` are those of the coarser field.
    """

    def forward(self, batch: SparseBatch, fine: ActiveSet) -> SparseBatch:  # type: ignore[override]
        """Return the batch on the sites ``fine``; see `spcnn_lightning.nn.functional`."""
        return functional.inverse_conv(
            batch, self.weight, self.bias, self.geometry, fine, self.backend
        )


class NetworkInNetwork(nn.Module):
    """1x1 convolution: one matrix for every site, the ground state included.

    Attributes:
        weight: Shape (C_in, C_out).
        bias: Shape (C_out,), or None.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        initialise(self.weight, "he")

    def forward(
        self, batch: SparseBatch, inputs: Tensor | None = None, outputs: Tensor | None = None
    ) -> SparseBatch:
        """Return the batch with C_out channels, on the same sites; arguments as `SparseConv`."""
        return functional.linear(batch, *_part_of(self, inputs, outputs))

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"{self.in_channels}, {self.out_channels}, bias={self.bias is not None}"


def _part_of(
    layer: SparseConv | NetworkInNetwork, inputs: Tensor | None, outputs: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return weights and bias of some channels."""
    weight: Tensor = layer.weight
    bias: Tensor | None = layer.bias
    if inputs is not None:
        weight = weight.index_select(-2, inputs)
    if outputs is not None:
        weight = weight.index_select(-1, outputs)
        bias = None if bias is None else bias.index_select(0, outputs)
    return weight, bias
