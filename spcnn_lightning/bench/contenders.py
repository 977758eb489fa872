"""Contenders: one network on one engine, ready to run and to be taken apart into layers."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from spcnn_lightning.adapters import backend_names, get_backend, resolve_backend
from spcnn_lightning.bench.values import activity_mask, with_fresh_sites
from spcnn_lightning.core.backend import Backend, OpRequest
from spcnn_lightning.core.errors import BackendNotFoundError, SpcnnError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import SparseNetwork
from spcnn_lightning.nn import InverseConv, SparseConv
from spcnn_lightning.reference.dense import TORCH_DIMENSIONS
from spcnn_lightning.reference.dense_field import DenseField
from spcnn_lightning.reference.export import ExportError
from spcnn_lightning.reference.twin import dense_twin, export_dense

DENSE_NAMES = ("dense", "dense_channels_last")
"""The dense twin as a contender, in torch's default and in its channels-last memory format."""


class UnavailableError(SpcnnError):
    """An engine cannot run the workload; ``reasons`` says why, one sentence each."""

    def __init__(self, name: str, reasons: list[str]) -> None:
        super().__init__(f"{name}: {'; '.join(reasons)}")
        self.reasons = reasons


QUESTIONS = ("availability", "unsupported_reasons", "version")
"""What is asked of a backend without giving it work."""


class BackendSpy:
    """Stands in for a backend and counts the calls of its verbs."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.backend, name)
        if name.startswith("_") or name in QUESTIONS or not callable(value):
            return value

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return value(*args, **kwargs)

        return counted


@dataclass(frozen=True)
class Setting:
    """Where and in what numbers the work is done.

    Attributes:
        device: Of network and batch.
        dtype: Of parameters and features.
        autocast: Dtype of ``torch.autocast``, or None for none.
        training: Forward and backward in training mode, or forward in evaluation mode.
    """

    device: torch.device
    dtype: torch.dtype
    autocast: torch.dtype | None = None
    training: bool = True

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """Return the autocast context of forward passes."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.autocast)


Stage = tuple[str, Callable[[Any], Any]]
"""Path of a layer in the network, and its forward."""


@dataclass
class Contender:
    """One network on one engine.

    Attributes:
        name: The name of the engine, as asked for.
        engine: The library, for people.
        network: Holds the parameters.
        stages: The network in pieces, in order.
        fresh: Returns the input of one repetition, with nothing cached on it.
        setting: Where it runs.
        spies: Around the backends that it uses; none if it is dense.
    """

    name: str
    engine: str
    network: nn.Module
    stages: list[Stage]
    fresh: Callable[[], Any]
    setting: Setting
    spies: list[BackendSpy]

    def forward(self, value: Any) -> Any:
        """Return the network's result."""
        with self.setting.context():
            for _, stage in self.stages:
                value = stage(value)
        return value

    def calls(self) -> dict[str, int]:
        """Return how often each verb of the backends was called."""
        total: Counter[str] = Counter()
        for spy in self.spies:
            total.update(spy.calls)
        return dict(total)


def contender_names() -> list[str]:
    """Return all names that `make_contender` knows, dense last."""
    return [*backend_names(), *DENSE_NAMES]


def check_names(names: list[str]) -> None:
    """Raise BackendNotFoundError for a name that nothing goes by."""
    for name in names:
        if name not in ("auto", *contender_names()):
            raise BackendNotFoundError(
                f"there is no backend {name!r}; known: auto, {', '.join(contender_names())}"
            )


def make_contender(
    name: str, network: nn.Module, batch: SparseBatch, setting: Setting
) -> Contender:
    """Return a copy of ``network`` that runs on the engine ``name``.

    Raises:
        UnavailableError: If the engine cannot run the network in this setting.
        BackendNotFoundError: If there is no engine of that name.
    """
    check_names([name])
    if name in DENSE_NAMES:
        return _dense(name, network, batch, setting)
    own = copy.deepcopy(network).to(setting.device, setting.dtype).train(setting.training)
    spies = _put_spies(name, own, setting)
    ready = batch.to(setting.device, setting.dtype)
    engines = {spy.backend.name: describe(spy.backend) for spy in spies}
    return Contender(
        name,
        ", ".join(engines.values()),
        own,
        stages_of(own),
        lambda: with_fresh_sites(ready),
        setting,
        spies,
    )


def stages_of(network: nn.Module) -> list[Stage]:
    """Return the layers of a network that is a row of layers, else the network as one."""
    if isinstance(network, SparseNetwork) and (
        type(network).forward is SparseNetwork.forward
        and type(network).forward_features is SparseNetwork.forward_features
    ):
        rows: list[Stage] = [(f"layers.{n}", layer) for n, layer in enumerate(network.layers)]
        return [*rows, ("readout", network.readout), ("classifier", network.classifier)]
    if isinstance(network, nn.Sequential):
        return list(network.named_children())
    return [("network", network)]


def describe(backend: Backend) -> str:
    """Return the distribution and version of a backend's library, or its name."""
    # A backend written before the protocol had a version is a backend, too.
    version = getattr(backend, "version", lambda: None)()
    return version or backend.name


def _put_spies(name: str, network: nn.Module, setting: Setting) -> list[BackendSpy]:
    """Give every convolution its backend, watched; refuse before anything runs."""
    dtype = setting.autocast or setting.dtype
    spies: dict[str, BackendSpy] = {}
    reasons: list[str] = []
    for layer in network.modules():
        if not isinstance(layer, SparseConv):
            continue
        transposed = isinstance(layer, InverseConv)
        request = OpRequest(layer.geometry, setting.device.type, dtype, transposed)
        try:
            backend = resolve_backend("auto", request) if name == "auto" else get_backend(name)
            reasons += backend.unsupported_reasons(request)
        except (SpcnnError, ImportError, OSError) as error:
            raise UnavailableError(name, [str(error)]) from error
        spy = spies.setdefault(backend.name, BackendSpy(backend))
        layer.backend = spy  # type: ignore[assignment]  # functional takes backends and names
    if reasons:
        raise UnavailableError(name, list(dict.fromkeys(reasons)))
    return list(spies.values())


def _dense(name: str, network: nn.Module, batch: SparseBatch, setting: Setting) -> Contender:
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
        return Contender(name, engine, plain, stages, field.detach, setting, [])
    ground = batch.ground_state.to(setting.device, setting.dtype)
    return Contender(
        name, engine, plain, stages, lambda: DenseField(field, ground, mask), setting, []
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
