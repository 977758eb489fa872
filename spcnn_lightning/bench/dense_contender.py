"""The dense twin of a network as a contender."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from spcnn_lightning.bench.contender import (
    Contender,
    Setting,
    Stage,
    UnavailableError,
    stages_of,
)
from spcnn_lightning.bench.values import activity_mask
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import SparseNetwork
from spcnn_lightning.reference.dense import TORCH_DIMENSIONS
from spcnn_lightning.reference.dense_field import DenseField
from spcnn_lightning.reference.export import ExportError
from spcnn_lightning.reference.twin import DenseTwin, dense_twin, export_dense

DENSE_NAMES = ("dense", "dense_channels_last")
"""The dense twin as a contender, in torch's default and in its channels-last memory format."""


def make_dense_contender(
    name: str, network: nn.Module, batch: SparseBatch, setting: Setting
) -> Contender:
    """Return the dense twin of ``network``: plain torch modules where these can express it.

    Raises:
        UnavailableError: If it has no dense form, or torch no such dimension or memory format.
    """
    if len(batch.spatial_shape) > TORCH_DIMENSIONS:
        raise UnavailableError(
            name, [f"torch has no dense convolution in {len(batch.spatial_shape)} dimensions"]
        )
    layout = _memory_format(name, len(batch.spatial_shape))
    field = batch.to_dense().to(setting.device, setting.dtype)
    plain: nn.Module
    try:
        plain = export_dense(cast(SparseNetwork, network))
        stages = list(_groups(plain))
        mask = None
        engine = f"torch {torch.__version__}, plain torch.nn modules"
    except ExportError:
        plain, stages, mask = _twin(name, network, batch, setting)
        engine = f"torch {torch.__version__}, dense twin"
    plain = plain.to(setting.device, setting.dtype).train(setting.training)
    if layout is not torch.contiguous_format:
        plain = cast(nn.Module, plain.to(memory_format=layout))  # type: ignore[call-overload]
        field = field.contiguous(memory_format=layout)
    if isinstance(plain, nn.Sequential):
        return Contender(name, engine, plain, stages, plain, field.detach, setting, [])
    ground = batch.ground_state.to(setting.device, setting.dtype)
    twin = cast(DenseTwin, plain)
    return Contender(
        name,
        engine,
        plain,
        stages,
        lambda x: twin.run(x.values, x.ground_state, x.mask),
        lambda: DenseField(field, ground, mask),
        setting,
        [],
    )


def _twin(
    name: str, network: nn.Module, batch: SparseBatch, setting: Setting
) -> tuple[nn.Module, list[Stage], Tensor | None]:
    try:
        twin = dense_twin(copy.deepcopy(network))
    except TypeError as error:
        raise UnavailableError(name, [str(error)]) from error
    twin.train(setting.training)
    mask = activity_mask(batch).to(setting.device) if twin.needs_mask else None
    paths = [path for path, _ in stages_of(network)]
    if paths == ["network"]:
        return twin, [("network", lambda x: twin.run(x.values, x.ground_state, x.mask))], mask
    return twin, [(path, twin.get_submodule(path)) for path in paths], mask


def _groups(plain: nn.Module) -> Iterator[Stage]:
    """Yield the plain modules by the layer that they stand for; dropout has none."""
    groups: dict[str, list[nn.Module]] = {}
    for name, module in plain.named_children():
        layer = name.partition("_")[0]
        path = f"layers.{layer.removeprefix('layer')}" if layer.startswith("layer") else layer
        groups.setdefault(path, []).append(module)
    for path, modules in groups.items():
        yield path, nn.Sequential(*modules)


def _memory_format(name: str, dimensions: int) -> torch.memory_format:
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    if name == "dense_channels_last":
        if dimensions not in formats:
            raise UnavailableError(
                name, [f"torch has no channels-last format in {dimensions} dimensions"]
            )
        return formats[dimensions]
    return torch.contiguous_format
