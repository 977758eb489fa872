"""SparseNetwork: layers in a row, a readout and a linear classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spcnn_lightning.adapters import check_name
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import Readout, SparseConv
from spcnn_lightning.nn.filling import filling_steps
from spcnn_lightning.nn.pooling import ReadoutMode
from spcnn_lightning.nn.thinning import Step, without_dropped


class SparseNetwork(nn.Module):
    """Sparse layers in a row, then one vector per sample, then a linear classifier.

    Args:
        layers: Modules from `SparseBatch` to `SparseBatch`, in order.
        num_features: Channels after the last layer.
        num_classes: C.
        in_channels: Features of an input site.
        spatial_shape: Sizes of the input field, in sites. Checked against the layers.
        readout: How the field at the top becomes one vector; see `Readout`.
        checkpoint_levels: Keep only what enters each level, from one pooling to the next, and
            compute the rest again in the backward pass: the same results in up to a third more
            time, from less memory where activations and not weights fill it, as in large batches.
            Kernel maps are kept. The last level is not computed again, since the backward pass
            begins with it.

    Attributes:
        layers: ``nn.ModuleList`` of the sparse layers.
        readout: The `Readout`.
        classifier: ``nn.Linear``, on the readout.
        compute_dropped: Whether features that a `FeatureDropout` drops are computed and masked,
            as by the layers alone; False. Only rounding and speed differ.
        fills: Whether `forward` computes fields that are nearly full as if all of their sites were
            active, where the engine is faster so and no layer behind asks which are; True. Only
            rounding and speed differ.
    """

    compute_dropped = False
    fills = True

    def __init__(
        self,
        layers: Iterable[nn.Module],
        num_features: int,
        num_classes: int,
        in_channels: int,
        spatial_shape: Sequence[int],
        readout: ReadoutMode = "site",
        checkpoint_levels: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint_levels = checkpoint_levels
        self.layers = nn.ModuleList(layers)
        self.readout = Readout(readout)
        self.classifier = nn.Linear(num_features, num_classes)
        self.in_channels, self.num_classes = in_channels, num_classes
        self.spatial_shape = tuple(spatial_shape)
        self._check_field()

    def _check_field(self) -> None:
        shape = self.spatial_shape
        for number, layer in enumerate(self.layers):
            if (geometry := getattr(layer, "geometry", None)) is None:
                continue
            try:
                shape = geometry.output_shape(shape)
            except ValueError as error:
                raise ValueError(
                    f"the field {self.spatial_shape} is too small for this network: it has shrunk "
                    f"to {shape} at layer {number}, {layer}: {error}"
                ) from None
        if self.readout.mode == "site" and any(size != 1 for size in shape):
            raise ValueError(
                f"the field {self.spatial_shape} shrinks to {shape}, but one site should be left: "
                "change the levels or the field (3 * 2**levels for DeepCNet), or set "
                "readout='mean' or 'max'"
            )

    @property
    def backend(self) -> str:
        """Name of the engine that the convolutions ask for; settable for the whole network.

        Raises:
            BackendNotFoundError: When set to a name that nothing goes by.
        """
        names = {layer.backend for layer in self.modules() if isinstance(layer, SparseConv)}
        return names.pop() if len(names) == 1 else "mixed"

    @backend.setter
    def backend(self, name: str) -> None:
        check_name(name)
        for layer in self.modules():
            if isinstance(layer, SparseConv):
                layer.backend = name

    def forward_features(self, batch: SparseBatch) -> SparseBatch:
        """Return the field at the top, before the readout.

        Raises:
            TypeError: If ``batch`` is a dense tensor.
            ValueError: If it has other channels or another field than the network.
        """
        return self._features(batch, fill=False)

    def _features(self, batch: SparseBatch, fill: bool) -> SparseBatch:
        _refuse_dense(batch)
        if batch.spatial_shape != self.spatial_shape or batch.num_channels != self.in_channels:
            raise ValueError(
                f"the network takes {self.in_channels} channels on a field {self.spatial_shape}, "
                f"the batch has {batch.num_channels} on {batch.spatial_shape}"
            )
        layers = list(self.layers)
        # The dense twin runs this, too, and masks.
        if type(batch) is not SparseBatch:
            return _run(layers, batch)
        steps = layers if self.compute_dropped else without_dropped(layers)
        if fill:
            steps = filling_steps(layers, steps)
        first = 0
        for start in _starts_of_levels(layers) if self._recomputes() else []:
            batch = _run_again_in_backward(steps[first:start], batch)
            first = start
        return _run(steps[first:], batch)

    def _recomputes(self) -> bool:
        return self.checkpoint_levels and torch.is_grad_enabled()

    def forward(self, batch: SparseBatch) -> Tensor:
        """Return logits, shape (B, num_classes)."""
        own = type(self).forward_features is not SparseNetwork.forward_features
        # Another readout may ask which sites are active.
        if self.fills and not own and type(self.readout) is Readout:
            field = self._features(batch, fill=True)
        else:
            field = self.forward_features(batch)
        logits: Tensor = self.classifier(self.readout(field))
        return logits


@contextmanager
def without_filling(module: nn.Module) -> Iterator[None]:
    """Have all networks in a module compute active sites alone, to find out which these are."""
    networks = [part for part in module.modules() if isinstance(part, SparseNetwork)]
    before = [vars(network).get("fills") for network in networks]
    for network in networks:
        network.fills = False
    try:
        yield
    finally:
        for network, own in zip(networks, before, strict=True):
            if own is None:
                del network.fills
            else:
                network.fills = own


def _run(steps: Sequence[Step], batch: SparseBatch) -> SparseBatch:
    for step in steps:
        batch = step(batch)
    return batch


def _run_again_in_backward(steps: Sequence[Step], batch: SparseBatch) -> SparseBatch:
    # Tensors one by one: torch takes devices from the arguments, and does not look into a batch.
    def run(features: Tensor, ground_state: Tensor) -> SparseBatch:
        given = SparseBatch(batch.active_set, features, ground_state, validate=False)
        return _run(steps, given)

    result: SparseBatch = checkpoint(run, batch.features, batch.ground_state, use_reentrant=False)
    return result


def _starts_of_levels(layers: Sequence[nn.Module]) -> Iterator[int]:
    """Yield the place of each level but the first: of the first weights behind a stride."""
    coarser = False
    for place, layer in enumerate(layers):
        if coarser and any(True for _ in layer.parameters()):
            yield place
            coarser = False
        geometry = getattr(layer, "geometry", None)
        coarser |= geometry is not None and max(geometry.stride) > 1


def _refuse_dense(batch: object) -> None:
    # Tensors alone: the dense twin runs the same network on its dense fields.
    if isinstance(batch, Tensor):
        raise TypeError(
            "the network takes a SparseBatch, not a dense tensor: "
            "SparseBatch.from_dense makes one of a dense field (B, C, *sizes)"
        )
