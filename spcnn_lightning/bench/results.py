"""What a bench finds, as plain data: seconds, bytes and counts."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

FORMAT = "spcnn-bench 1"
"""Stands in the JSON; the number grows when the meaning of a field changes."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    lower: float
    upper: float
    count: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Return the spread of at least one value.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, lower=1.5, upper=2.5, count=3)
        """
        if len(values) == 1:
            return Spread(values[0], values[0], values[0], 1)
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, lower, upper, len(values))


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one part of the work in one repetition; forward includes the kernel maps."""

    forward: float
    backward: float = 0.0
    kernel_maps: float = 0.0

    @property
    def step(self) -> float:
        """Forward and backward together."""
        return self.forward + self.backward


@dataclasses.dataclass(frozen=True)
class Spreads:
    """Spreads of the parts of `Timing`, in seconds."""

    step: Spread
    forward: Spread
    backward: Spread
    kernel_maps: Spread

    @staticmethod
    def of(timings: Sequence[Timing]) -> Spreads:
        """Return the spreads of repeated timings."""
        names = [field.name for field in dataclasses.fields(Spreads)]
        return Spreads(*(Spread.of([getattr(t, name) for t in timings]) for name in names))


@dataclasses.dataclass(frozen=True)
class Memory:
    """Peak memory of one step in a process of its own, in bytes.

    Attributes:
        step: Most that the step needed beyond what lay there before it: activations, kernel
            maps, buffers and gradients.
        process: Most that the process held, with network, batch and libraries; on CUDA what
            torch had allocated on the device.
        layers: The same as ``step`` for each layer alone, in their order; empty where the
            system cannot tell.
    """

    step: int
    process: int
    layers: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """What a layer is and does with the batch, whichever engine runs it.

    Attributes:
        name: Path in the network.
        kind: Its class, and its window if it has one.
        channels: Features of an output site.
        spatial_shape: Output field in sites; empty behind the readout.
        sites: Active output sites of the batch.
        volume: All output sites of the batch.
        macs: Multiply-adds of the forward pass between active sites.
        dense_macs: Multiply-adds of the dense network.
    """

    name: str
    kind: str
    channels: int
    spatial_shape: tuple[int, ...]
    sites: int
    volume: int
    macs: int
    dense_macs: int


@dataclasses.dataclass(frozen=True)
class LayerResult:
    """One layer on one engine; `None` where the engine has no such layer or nobody asked."""

    name: str
    time: Spreads | None
    error: float | None


@dataclasses.dataclass(frozen=True)
class ContenderResult:
    """What one engine did, or why it did not run.

    Attributes:
        name: As asked for.
        engine: The library and its version.
        reasons: Why it did not run; empty if it did.
        calls: How often each verb of the backend was called, by a spy around it.
        cold: The first step in this process.
        time: The other steps.
        ratio: Time of a step over that of the first engine in the same round.
        ratio_of_medians: The same of the two medians.
        error: Largest error of the result against float64 dense, over the largest entry.
        gradient_error: The same, the worst of all parameters.
        error_note: Why there is no error, if so.
        memory: Peak of a step in a process of its own.
        memory_note: Why there is none, if so.
        layers: In the order of `BenchReport.layers`; empty if layers were not timed.
    """

    name: str
    engine: str = ""
    reasons: tuple[str, ...] = ()
    calls: dict[str, int] = dataclasses.field(default_factory=dict)
    cold: Timing | None = None
    time: Spreads | None = None
    ratio: Spread | None = None
    ratio_of_medians: float | None = None
    error: float | None = None
    gradient_error: float | None = None
    error_note: str = ""
    memory: Memory | None = None
    memory_note: str = ""
    layers: tuple[LayerResult, ...] = ()


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """All of one bench: what ran where, on what, and each engine's figures."""

    title: str
    command: str
    machine: dict[str, Any]
    workload: dict[str, Any]
    options: dict[str, Any]
    layers: tuple[LayerFacts, ...]
    contenders: tuple[ContenderResult, ...]
    gemm_rate: float | None = None
    """Multiply-adds per second of the best matrix product, if measured."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain types for JSON; times in seconds, memory in bytes."""
        return {"format": FORMAT, **dataclasses.asdict(self)}
