"""Entry: a contender's row of figures while it is being filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spcnn_lightning.bench.accuracy import Errors, Reference, errors_of
from spcnn_lightning.bench.contender import Contender, Setting, UnavailableError
from spcnn_lightning.bench.contenders import make_contender
from spcnn_lightning.bench.dense_contender import DENSE_NAMES
from spcnn_lightning.bench.memory import MemoryUnknownError, peak_memory
from spcnn_lightning.bench.passes import run_layers, run_step
from spcnn_lightning.bench.results import (
    ContenderResult,
    LayerResult,
    Memory,
    Spread,
    Spreads,
    Timing,
)
from spcnn_lightning.bench.workload import Workload
from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.nn import SparseConv


@dataclass
class Entry:
    """What is known of one engine so far; ``contender`` is None once it is out."""

    name: str
    contender: Contender | None = None
    reasons: list[str] = field(default_factory=list)
    steps: list[Timing] = field(default_factory=list)
    layers: list[dict[str, Timing]] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    errors: Errors | None = None
    error_note: str = ""
    memory: Memory | None = None
    memory_note: str = ""

    @staticmethod
    def enter(name: str, workload: Workload, setting: Setting) -> Entry:
        """Return the entry of an engine, with the reasons if it cannot run the workload."""
        entry = Entry(name)
        try:
            entry.contender = make_contender(name, workload.network, workload.batch, setting)
        except UnavailableError as error:
            entry.reasons = error.reasons
        return entry

    def attempt(self, doing: str, work: Callable[..., None], *arguments: Any) -> None:
        """Do a piece of work with the contender; an engine that fails in it is out."""
        if self.contender is None:
            return
        try:
            work(self.contender, *arguments)
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            self.reasons.append(f"failed while {doing}: {type(error).__name__}: {first_line}")
            self.contender = None

    def step(self, contender: Contender, targets: Tensor | None) -> None:
        """Time a whole step."""
        self.steps.append(run_step(contender, targets))

    def step_by_layer(self, contender: Contender) -> None:
        """Time a step layer by layer."""
        self.layers.append(run_layers(contender))

    def count_calls(self, contender: Contender) -> None:
        """Keep the spies' counts; refuse figures that are not those of the engine they stand for.

        Raises:
            SpcnnError: If the network has convolutions and the backend was never called.
        """
        self.calls = contender.calls()
        convolves = any(isinstance(module, SparseConv) for module in contender.network.modules())
        if self.name not in DENSE_NAMES and convolves and not self._convolved():
            raise SpcnnError("the network ran without one call of this backend")

    def _convolved(self) -> bool:
        return any(name.startswith("convolve") for name in self.calls)

    def compare(self, contender: Contender, workload: Workload, reference: Reference) -> None:
        """Take the errors."""
        self.errors = errors_of(self.name, workload.network, contender.setting, reference)

    def weigh(self, contender: Contender, workload: Workload) -> None:
        """Take the peak memory."""
        try:
            self.memory = peak_memory(self.name, workload, contender.setting)
        except MemoryUnknownError as error:
            self.memory_note = str(error)

    def result(self, first: Entry | None, paths: Sequence[str]) -> ContenderResult:
        """Return the figures, with times in relation to those of ``first``."""
        if self.contender is None or first is None:
            return ContenderResult(self.name, reasons=tuple(self.reasons))
        cold, *warm = [self._with_maps(number) for number in range(len(self.steps))]
        time = Spreads.of(warm)
        pairs = zip(self.steps[1:], first.steps[1:], strict=True)
        return ContenderResult(
            self.name,
            self.contender.engine,
            (),
            self.calls,
            cold,
            time,
            Spread.of([mine.step / theirs.step for mine, theirs in pairs]),
            time.step.median / Spreads.of(first.steps[1:]).step.median,
            None if self.errors is None else self.errors.result,
            None if self.errors is None else self.errors.gradient,
            self.error_note,
            self.memory,
            self.memory_note,
            tuple(map(self._layer_result, paths)) if self.layers else (),
        )

    def _with_maps(self, number: int) -> Timing:
        """Return a step with the kernel maps of its layers, timed in the same repetition."""
        timing = self.steps[number]
        if not self.layers:
            return timing
        maps = sum(layer.kernel_maps for layer in self.layers[number].values())
        return Timing(timing.forward, timing.backward, maps)

    def _layer_result(self, path: str) -> LayerResult:
        timings = [repetition[path] for repetition in self.layers[1:] if path in repetition]
        error = None if self.errors is None else self.errors.stages.get(path)
        return LayerResult(path, Spreads.of(timings) if timings else None, error)
