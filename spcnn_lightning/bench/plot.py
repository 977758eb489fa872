"""A bench as a picture; needs matplotlib."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from spcnn_lightning.bench.machine import machine_line
from spcnn_lightning.bench.report import three_digits
from spcnn_lightning.bench.results import BenchReport, ContenderResult
from spcnn_lightning.core.errors import MissingExtraError

ENDINGS = (".png", ".svg", ".pdf")
ENGINE_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Told apart by most eyes (Paul Tol's bright scheme)."""
PART_COLOURS = {"kernel maps": "#222222", "forward": "#777777", "backward": "#bbbbbb"}


def check_plot(path: Path) -> None:
    """Raise early what `plot` would only raise after the measurement.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        WorkloadError: If the ending of the file is not one of `ENDINGS`.
    """
    from spcnn_lightning.bench.workload import WorkloadError

    if path.suffix.lower() not in ENDINGS:
        raise WorkloadError(f"cannot plot to {path}: name it {', '.join(ENDINGS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError(
            f"cannot plot to {path}: matplotlib is not installed; install it with "
            "pip install 'spcnn-lightning[viz]', or leave out --plot"
        )


def plot(report: BenchReport, path: Path) -> None:
    """Write the report as a picture: the whole step of each engine, and its layers if timed.

    Raises as `check_plot`; and WorkloadError if no engine ran.
    """
    check_plot(path)
    ran = [c for c in report.contenders if c.time is not None]
    if not ran:
        from spcnn_lightning.bench.workload import WorkloadError

        raise WorkloadError(f"there is nothing to plot to {path}: no backend ran")
    # By name, since matplotlib is optional. A figure of its own needs no display.
    figure_type: Any = importlib.import_module("matplotlib.figure").Figure
    has_layers = any(c.layers for c in ran)
    figure = figure_type(figsize=(12 if has_layers else 6, 4.8), layout="constrained", dpi=120)
    widths = {"width_ratios": [1, 2.4]} if has_layers else None
    axes = figure.subplots(1, 2 if has_layers else 1, squeeze=False, gridspec_kw=widths)[0]
    _plot_steps(axes[0], ran, report.options["training"])
    if has_layers:
        _plot_layers(axes[1], report, ran)
    work = "training step" if report.options["training"] else "inference"
    batch = report.workload["batch_size"]
    figure.suptitle(f"{report.title}, batch {batch}, {work}, {report.options['dtype']}")
    figure.supxlabel(machine_line(report.machine), fontsize=7)
    figure.savefig(path)


def _plot_steps(axes: Any, ran: list[ContenderResult], training: bool) -> None:
    for row, contender in enumerate(ran):
        time = contender.time
        assert time is not None  # `plot` has chosen those that ran
        maps = time.kernel_maps.median if contender.calls else 0.0
        backward = time.backward.median if training else 0.0
        heights = (maps, max(0.0, time.forward.median - maps), backward)
        bottom = 0.0
        for (part, colour), height in zip(PART_COLOURS.items(), heights, strict=True):
            label = part if row == 0 and height else None
            axes.bar(row, height * 1e3, 0.6, bottom * 1e3, color=colour, label=label)
            bottom += height
        median, lower, upper = (
            value * 1e3 for value in (time.step.median, time.step.lower, time.step.upper)
        )
        axes.errorbar(row, median, [[median - lower], [upper - median]], color="black", capsize=4)
        text = f"{three_digits(median)} ms\n{contender.ratio_of_medians:.2f}x"
        place = (row, max(upper, bottom * 1e3))
        axes.annotate(text, place, (0, 3), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(len(ran)), [c.name.replace("_", "\n") for c in ran])
    axes.set_ylabel("ms per batch: median, quartiles")
    axes.margins(y=0.2)
    _legend_above(axes)


def _plot_layers(axes: Any, report: BenchReport, ran: list[ContenderResult]) -> None:
    """Group bars by layer; layers that no engine needs a twentieth of the step for are left out."""
    largest = max(
        layer.time.step.median for c in ran for layer in c.layers if layer.time is not None
    )
    shown = [
        row
        for row in range(len(report.layers))
        if any(
            c.layers and (time := c.layers[row].time) and time.step.median > largest / 20
            for c in ran
        )
    ]
    width = 0.8 / len(ran)
    for number, contender in enumerate(ran):
        if not contender.layers:
            continue
        times = [contender.layers[row].time for row in shown]
        heights = [0.0 if time is None else time.step.median * 1e3 for time in times]
        places = [place + (number - (len(ran) - 1) / 2) * width for place in range(len(shown))]
        colour = ENGINE_COLOURS[number % len(ENGINE_COLOURS)]
        axes.bar(places, heights, width, color=colour, label=contender.name)
    labels = [f"{report.layers[row].name}\n{report.layers[row].kind}" for row in shown]
    axes.set_xticks(range(len(shown)), labels, rotation=45, ha="right", fontsize=8)
    axes.set_ylabel(f"ms per batch: layers above {three_digits(largest / 20 * 1e3)} ms")
    _legend_above(axes)


def _legend_above(axes: Any) -> None:
    """Put the legend above the axes, where it hides nothing."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, fontsize=8, frameon=False)
