"""What is measured: a network, a batch for it and targets."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spcnn_lightning import networks
from spcnn_lightning import nn as layers
from spcnn_lightning.bench.fields import make_field
from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import NotationNetwork, SparseNetwork

LAYER_CLASSES = (layers.SparseConv, layers.SubmanifoldConv, layers.NetworkInNetwork)
NETWORK_CLASSES = (networks.DeepCNet, networks.DeepCNiN)
SINGLE_LAYER_FIELD = 64
"""Width of the field of a single layer, in sites, if it is not given."""


class WorkloadError(SpcnnError, ValueError):
    """A network or field that cannot be built as asked."""


@dataclass(frozen=True)
class Workload:
    """A network from `SparseBatch` to logits or to `SparseBatch`, and a batch for it.

    Attributes:
        title: For headings.
        network: Float32, on the CPU.
        batch: Float32, on the CPU, B samples.
        targets: int64, shape (B,); None where the network returns a `SparseBatch`.
    """

    title: str
    network: nn.Module
    batch: SparseBatch
    targets: Tensor | None

    def facts(self) -> dict[str, Any]:
        """Return what the workload is, in plain types."""
        return {
            "title": self.title,
            "batch_size": self.batch.batch_size,
            "spatial_shape": list(self.batch.spatial_shape),
            "in_channels": self.batch.num_channels,
            "sites": self.batch.num_sites,
            "parameters": sum(p.numel() for p in self.network.parameters()),
        }


def named_workload(
    network: str,
    *,
    field: str = "strokes",
    batch_size: int = 32,
    in_channels: int = 9,
    num_classes: int = 10,
    dimensions: int = 2,
    field_width: int | None = None,
    box: int | None = None,
    num_sites: int | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> Workload:
    """Return a network by name on synthetic fields.

    Args:
        network: ``"DeepCNet(5, 100)"``, ``"DeepCNiN(5, 100)"``, the paper's shorthand
            (``"100C3-MP2-200C2-output"``), or a single layer with its arguments, such as
            ``"SubmanifoldConv(64, 64, (3, 3, 3))"``.
        field: A kind of `spcnn_lightning.bench.fields.make_field`.
        batch_size: Samples B.
        in_channels: Features of an input site; a single layer states its own.
        num_classes: For networks.
        dimensions: Spatial axes; a single layer with a window states its own.
        field_width: Sites along each axis; what the network shrinks to one site if not given.
        box: Width of the drawing, in sites; a third of the field if not given.
        num_sites: Active sites of all samples, for ``"random"``.
        dropout: As in the networks.
        seed: Of weights, sites, features and targets.

    Raises:
        WorkloadError: If the name cannot be read or the field does not fit.
    """
    # A generator of its own would not reach the layers' initialisation.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            built, shape, channels = _build(
                network, in_channels, num_classes, dimensions, field_width, dropout
            )
            batch = make_field(
                field, shape, batch_size, channels, box=box, num_sites=num_sites, seed=seed
            )
        except (TypeError, ValueError) as error:
            raise WorkloadError(f"{network!r} on {field!r} cannot be built: {error}") from error
        has_classes = isinstance(built, SparseNetwork)
        targets = torch.randint(num_classes, (batch_size,)) if has_classes else None
    sizes = " x ".join(map(str, shape))
    return Workload(f"{network} on {field} in {sizes} sites", built, batch, targets)


def _build(
    text: str,
    in_channels: int,
    num_classes: int,
    dimensions: int,
    field_width: int | None,
    dropout: float,
) -> tuple[nn.Module, Sequence[int], int]:
    """Return the network, its field and its input channels."""
    if "(" not in text:
        shape = None if field_width is None else (field_width,) * dimensions
        notation = NotationNetwork(text, in_channels, num_classes, dimensions, shape, dropout)
        return notation, notation.spatial_shape, in_channels
    name, args, kwargs = _parse_call(text)
    for cls in NETWORK_CLASSES:
        if cls.__name__ == name:
            shape = None if field_width is None else (field_width,) * dimensions
            given = {"dimensions": dimensions, "spatial_shape": shape, "dropout": dropout}
            built = cls(
                *args, **(given | {"in_channels": in_channels, "num_classes": num_classes} | kwargs)
            )
            return built, built.spatial_shape, built.in_channels
    for layer_class in LAYER_CLASSES:
        if layer_class.__name__ == name:
            layer: Any = layer_class(*args, **kwargs)
            axes = layer.geometry.dimensions if hasattr(layer, "geometry") else dimensions
            single = (field_width or SINGLE_LAYER_FIELD,) * axes
            return nn.Sequential(layer), single, layer.in_channels
    known = ", ".join(cls.__name__ for cls in (*NETWORK_CLASSES, *LAYER_CLASSES))
    raise WorkloadError(
        f"there is no network {name!r}: known are {known} and the paper's shorthand"
    )


def _parse_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Read ``Name(1, (2, 3), key=4)``; the arguments are literals."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            args = [ast.literal_eval(node) for node in call.args]
            kwargs = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
            return call.func.id, args, kwargs
    except (SyntaxError, ValueError):
        pass
    raise WorkloadError(
        f"network {text!r} cannot be read: write it like DeepCNet(5, 100), with plain numbers"
    )
