"""Run a workload on several engines, interleaved, and collect what each of them did."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from spcnn_lightning.bench.accuracy import dense_reference
from spcnn_lightning.bench.contender import Setting
from spcnn_lightning.bench.contenders import check_names
from spcnn_lightning.bench.entry import Entry
from spcnn_lightning.bench.facts import layer_facts
from spcnn_lightning.bench.machine import gemm_rate, machine_facts
from spcnn_lightning.bench.results import BenchReport
from spcnn_lightning.bench.workload import Workload, WorkloadError

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        backends: Names of backends, "auto", "dense", "dense_channels_last" or "spconv_layers";
            times are given in relation to the first that runs.
        device: "cpu", "cuda", ...
        dtype: Of parameters and features.
        autocast: Dtype of ``torch.autocast``; None for none.
        training: A training step without the optimiser, or inference.
        repeats: Warm repetitions of each engine.
        layers: Whether to time layers one by one as well.
        memory: Whether to measure peak memory, in processes of their own.
        check_samples: Samples on which errors against float64 dense are taken; 0 for none.
        gemm: Whether to time the best matrix product as well.
    """

    backends: Sequence[str]
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    training: bool = True
    repeats: int = 7
    layers: bool = True
    memory: bool = True
    check_samples: int = 2
    gemm: bool = False

    def facts(self) -> dict[str, Any]:
        """Return the options in plain types."""
        return {
            name: str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value
            for name, value in vars(self).items()
        } | {"backends": list(self.backends)}


def run_bench(
    workload: Workload, options: Options, command: str = "", progress: Progress | None = None
) -> BenchReport:
    """Measure the workload on each engine, in turns: A B C A B C ...

    Each repetition builds its kernel maps anew. The first one of each engine is reported as cold;
    it contains what libraries do once, and for the first engine also what torch does once.

    Args:
        workload: Network and batch.
        options: Engines and how to measure.
        command: What the user typed; stands in the report.
        progress: Is told what happens, if given.

    Raises:
        BackendNotFoundError: If nothing goes by one of the names.
        WorkloadError: If the device is not there, or ``repeats`` is less than 1.
    """
    say = progress or (lambda text: None)
    check_names(list(options.backends))
    setting = _setting(options)
    machine = machine_facts(setting.device)
    entries = [Entry.enter(name, workload, setting) for name in dict.fromkeys(options.backends)]
    _run_rounds(entries, workload, options, say)
    for entry in entries:
        entry.attempt("being watched", entry.count_calls)
    if options.check_samples > 0 and any(entry.contender for entry in entries):
        say("comparing with the dense network in float64")
        _compare(entries, workload, options.check_samples)
    for entry in entries:
        if options.memory and entry.contender is not None:
            say(f"measuring the memory of {entry.name}")
            entry.attempt("its memory was measured", entry.weigh, workload)
    rate = gemm_rate(setting.device, options.autocast or options.dtype) if options.gemm else None
    first = next((entry for entry in entries if entry.contender), None)
    layers = layer_facts(workload.network, workload.batch)
    paths = [layer.name for layer in layers]
    return BenchReport(
        workload.title,
        command,
        machine,
        workload.facts(),
        options.facts(),
        layers,
        tuple(entry.result(first, paths) for entry in entries),
        rate,
    )


def _setting(options: Options) -> Setting:
    if options.repeats < 1:
        raise WorkloadError(f"repeats is {options.repeats}, expected at least 1")
    try:
        device = torch.device(options.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise WorkloadError(f"device {options.device!r} cannot be used: {first_line}") from error
    return Setting(device, options.dtype, options.autocast, options.training)


def _run_rounds(entries: list[Entry], workload: Workload, options: Options, say: Progress) -> None:
    targets = None if workload.targets is None else workload.targets.to(options.device)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for number in range(options.repeats + 1):
            say(f"repetition {number} of {options.repeats}" if number else "first, cold run")
            gc.collect()
            for entry in entries:
                entry.attempt("running", entry.step, targets)
            for entry in entries if options.layers else []:
                entry.attempt("running layer by layer", entry.step_by_layer)
    finally:
        if was_enabled:
            gc.enable()


def _compare(entries: list[Entry], workload: Workload, samples: int) -> None:
    network, batch, targets = workload.network, workload.batch, workload.targets
    try:
        reference = dense_reference(network, batch, targets, samples)
    except (TypeError, ValueError, RuntimeError) as error:
        for entry in entries:
            entry.error_note = f"no dense reference: {error}"
        return
    for entry in entries:
        entry.attempt("being compared with dense", entry.compare, workload, reference)
