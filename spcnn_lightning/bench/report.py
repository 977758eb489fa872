"""A bench as tables, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from spcnn_lightning.bench.facts import train_macs
from spcnn_lightning.bench.machine import GEMM_SHAPE, machine_line
from spcnn_lightning.bench.results import BenchReport, ContenderResult, LayerFacts, Spread

Table = list[tuple[str, ...]]
TEXT_COLUMNS = frozenset(
    {"backend", "engine", "layer", "type", "output", "step ms", "paired [quartiles]"}
)
"""Columns that are aligned to the left."""


def as_text(report: BenchReport) -> str:
    """Return the report for a terminal."""
    parts = [_headline(report), _aligned(totals_table(report)), "\n".join(_notes(report))]
    for contender in report.contenders:
        if contender.layers:
            parts += [f"layers on {contender.name}", _aligned(layers_table(report, contender))]
    return "\n\n".join(parts)


def as_markdown(report: BenchReport) -> str:
    """Return the report as a section of a Markdown document."""
    title, machine, how = _headline(report).splitlines()
    parts = [f"### {title}", f"{machine}.", f"{how}."]
    if report.command:
        parts.append(f"    {report.command}")
    parts += [_piped(totals_table(report)), "\n".join(f"- {note}" for note in _notes(report))]
    for contender in report.contenders:
        if contender.layers:
            parts += [f"#### Layers on {contender.name}", _piped(layers_table(report, contender))]
    return "\n\n".join(parts) + "\n"


def totals_table(report: BenchReport) -> Table:
    """Return one row per engine that ran; times in ms, memory in MiB."""
    first = next((c.name for c in report.contenders if c.time is not None), "")
    head = ("backend", "engine", "step ms", "forward", "of it maps", "backward", "cold")
    table: Table = [(*head, f"x {first}", "paired [quartiles]", "MiB", "error", "gradients")]
    for c in report.contenders:
        if c.time is None or c.ratio is None or c.cold is None:
            continue
        has_maps = bool(c.layers) and bool(c.calls)
        table.append(
            (
                c.name,
                c.engine,
                _spread(c.time.step, 1e3),
                three_digits(c.time.forward.median * 1e3),
                three_digits(c.time.kernel_maps.median * 1e3) if has_maps else "",
                three_digits(c.time.backward.median * 1e3) if report.options["training"] else "",
                three_digits(c.cold.step * 1e3),
                f"{c.ratio_of_medians:.2f}",
                _spread(c.ratio, 1, "{:.2f}"),
                "" if c.memory is None else f"{c.memory.step / 2**20:.1f}",
                _error(c.error),
                _error(c.gradient_error),
            )
        )
    return table


def layers_table(report: BenchReport, contender: ContenderResult) -> Table:
    """Return one row per layer of one engine; sums of the batch, medians of times in ms."""
    head = ("layer", "type", "output", "sites", "active", "MMAC", "dense MMAC")
    table: Table = [(*head, "maps", "forward", "backward", "MiB", "error")]
    weighed = contender.memory.layers if contender.memory else ()
    # Where the engine has no such layer, dropout in a plain dense network, its row is empty.
    weights = iter(weighed)
    for facts, result in zip(report.layers, contender.layers, strict=True):
        if result.time is None:
            table.append((*_facts(facts), "", "", "", "", _error(result.error)))
            continue
        weight = next(weights, None)
        times = (result.time.kernel_maps, result.time.forward, result.time.backward)
        table.append(
            (
                *_facts(facts),
                *(three_digits(time.median * 1e3) if time.upper > 0 else "" for time in times),
                "" if weight is None else f"{weight / 2**20:.1f}",
                _error(result.error),
            )
        )
    sites = sum(layer.sites for layer in report.layers)
    macs, dense = (sum(getattr(f, n) for f in report.layers) for n in ("macs", "dense_macs"))
    table.append(("total", "", "", str(sites), "", *_mmacs(macs, dense), "", "", "", "", ""))
    return table


def _headline(report: BenchReport) -> str:
    """Return three lines: what, where, how."""
    options, workload = report.options, report.workload
    numbers = options["dtype"] + (
        f", autocast {options['autocast']}" if options["autocast"] else ""
    )
    work = "training step without optimiser" if options["training"] else "inference"
    return (
        f"{report.title}, batch {workload['batch_size']}, {workload['sites']} sites, {work}, "
        f"{numbers} on {options['device']}\n{machine_line(report.machine)}\n"
        f"{options['repeats']} repetitions of each in turns, a fresh active set in each; medians "
        f"[quartiles] in ms; MiB: peak of a step in a process of its own; errors against float64 "
        f"dense on {options['check_samples']} samples, over the largest entry"
    )


def _notes(report: BenchReport) -> list[str]:
    notes = []
    macs = sum(layer.macs for layer in report.layers)
    dense = sum(layer.dense_macs for layer in report.layers)
    if macs:
        notes.append(
            f"forward: {macs / 1e6:.4g} million multiply-adds, dense {dense / 1e6:.4g} "
            f"({dense / macs:.1f} times as many)"
        )
    for c in report.contenders:
        if c.reasons:
            notes.append(f"{c.name} did not run: {'; '.join(c.reasons)}")
        if c.calls:
            called = ", ".join(f"{verb} {count}" for verb, count in sorted(c.calls.items()))
            notes.append(f"{c.name} was called: {called}")
        notes += [f"{c.name}: {note}" for note in (c.error_note, c.memory_note) if note]
    return [*notes, *_rates(report)]


def _rates(report: BenchReport) -> list[str]:
    if report.gemm_rate is None:
        return []
    training = report.options["training"]
    work = train_macs(report.layers) if training else sum(layer.macs for layer in report.layers)
    shape = " x ".join(map(str, GEMM_SHAPE))
    notes = [f"best matrix product ({shape}): {report.gemm_rate / 1e9:.3g} billion multiply-adds/s"]
    for c in report.contenders:
        if c.time is not None and c.calls:
            rate = work / c.time.step.median
            notes.append(
                f"{c.name}: {rate / 1e9:.3g} billion useful multiply-adds/s in a step, "
                f"{rate / report.gemm_rate:.0%} of it"
            )
    return notes


def _facts(layer: LayerFacts) -> tuple[str, ...]:
    output = " x ".join(map(str, (layer.channels, *layer.spatial_shape)))
    active = f"{layer.sites / layer.volume:.1%}" if layer.volume else ""
    counts = _mmacs(layer.macs, layer.dense_macs)
    return (layer.name, layer.kind, output, str(layer.sites), active, *counts)


def _mmacs(macs: int, dense: int) -> tuple[str, str]:
    return (f"{macs / 1e6:.4g}", f"{dense / 1e6:.4g}") if dense else ("", "")


def _spread(spread: Spread, factor: float, form: str = "") -> str:
    def show(value: float) -> str:
        return form.format(value * factor) if form else three_digits(value * factor)

    return f"{show(spread.median)} [{show(spread.lower)}, {show(spread.upper)}]"


def three_digits(value: float) -> str:
    """Return three digits, without an exponent."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def _error(error: float | None) -> str:
    return "" if error is None else f"{error:.1e}"


def _aligned(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if name in TEXT_COLUMNS else cell.rjust(width)
            for name, cell, width in zip(table[0], row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _piped(table: Table) -> str:
    sides: Sequence[str] = [":--" if name in TEXT_COLUMNS else "--:" for name in table[0]]
    rows = [table[0], tuple(sides), *table[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
