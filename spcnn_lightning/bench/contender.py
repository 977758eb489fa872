"""Contender: one network on one engine, ready to run and to be taken apart into layers."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spcnn_lightning.core.backend import Backend
from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.networks import SparseNetwork


class UnavailableError(SpcnnError):
    """An engine cannot run the workload; ``reasons`` says why, one sentence each."""

    def __init__(self, name: str, reasons: list[str]) -> None:
        super().__init__(f"{name}: {'; '.join(reasons)}")
        self.reasons = reasons


QUESTIONS = (
    *("availability", "unsupported_reasons", "version"),
    *("takes_ground", "prefers_full"),
)
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
        whole: The network as one. It may leave out work that its layers alone do, as that on
            features which dropout drops.
        fresh: Returns the input of one repetition, with nothing cached on it.
        setting: Where it runs.
        spies: Around the backends that it uses; none if it is dense.
    """

    name: str
    engine: str
    network: nn.Module
    stages: list[Stage]
    whole: Callable[[Any], Any]
    fresh: Callable[[], Any]
    setting: Setting
    spies: list[BackendSpy]

    def forward(self, value: Any) -> Any:
        """Return the network's result."""
        with self.setting.context():
            return self.whole(value)

    def calls(self) -> dict[str, int]:
        """Return how often each verb of the backends was called."""
        total: Counter[str] = Counter()
        for spy in self.spies:
            total.update(spy.calls)
        return dict(total)


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
