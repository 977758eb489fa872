"""The traces of InkML: which of them are ink, what their values mean, the numbers in their text.

Source:
    W3C Recommendation Ink Markup Language (InkML), 20 September 2011, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.parsing import shortened

Doubles = NDArray[np.float64]

MILLISECONDS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_VALUE = re.compile(r"([!'\"]?)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[*?TF])\s*", re.ASCII)
_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_ORDER = {"!": 0, "'": 1, '"': 2}


class TraceFormat(NamedTuple):
    """Which value of a point is what.

    Args:
        regular: Names of the channels that each point has, in order.
        intermittent: Names of those that may follow.
        time_scale: What time is multiplied by to give milliseconds.
    """

    regular: tuple[str, ...] = ("X", "Y")
    intermittent: tuple[str, ...] = ()
    time_scale: float = 1.0

    @staticmethod
    def from_element(element: Element, where: str) -> TraceFormat:
        """Return the format that a ``<traceFormat>`` describes.

        Raises:
            DataError: If it lacks X or Y, or time has a unit that is not known.
        """
        optional = [c for group in element.iter("intermittentChannels") for c in group]
        channels = [c for c in element.iter("channel") if c not in optional]
        names = tuple(channel.get("name", "") for channel in channels)
        if not {"X", "Y"} <= set(names):
            raise DataError(
                f"{where}: a traceFormat of the channels {shortened(names)}, expected X and Y"
            )
        units = [c.get("units") or "ms" for c in channels if c.get("name") == "T"] or ["ms"]
        if units[0] not in MILLISECONDS:
            raise DataError(
                f"{where}: time in {shortened(units[0])}, expected one of {', '.join(MILLISECONDS)}"
            )
        others = tuple(channel.get("name", "") for channel in optional)
        return TraceFormat(names, others, MILLISECONDS[units[0]])


class TraceView(NamedTuple):
    """Consecutive points of a trace, or all of them.

    Args:
        trace: The element.
        first: The first point, counted from 1.
        last: The last; None: that of the trace.
    """

    trace: Element
    first: int = 1
    last: int | None = None

    @staticmethod
    def from_element(element: Element, traces: Mapping[str, Element], where: str) -> TraceView:
        """Return what a ``<traceView>`` shows.

        Raises:
            DataError: If it shows no trace of the file, or ``from`` or ``to`` is no whole number.
        """
        name = element.get("traceDataRef", "").removeprefix("#")
        if name not in traces:
            raise DataError(f"{where}: refers to trace {shortened(name)}, which is not in the file")
        for key in ("from", "to"):
            if not _INDEX.fullmatch(value := element.get(key, "1")):
                raise DataError(
                    f"{where}: a traceView {key}={shortened(value)}, expected the number of a point"
                )
        last = element.get("to")
        return TraceView(traces[name], int(element.get("from", "1")), int(last) if last else None)

    def is_ink(self) -> bool:
        """Return whether the pen touched the paper, as far as is known."""
        return self.trace.get("type") != "penUp"

    def values(self, layout: TraceFormat, where: str) -> Doubles:
        """Return the values of the regular channels of each point, shape (T, channels).

        Raises:
            DataError: If the numbers do not fit, or the trace has no such points.
        """
        values = trace_values(self.trace.text or "", layout, where)
        last = len(values) if self.last is None else self.last
        if (self.first, self.last) != (1, None) and not 1 <= self.first <= last <= len(values):
            raise DataError(
                f"{where}: points {self.first} to {last}, expected a range from 1 to {len(values)}"
            )
        return values[self.first - 1 : last]


def trace_values(text: str, layout: TraceFormat, where: str) -> Doubles:
    """Return the values of the regular channels of each point, shape (T, channels).

    Points are separated by commas. A value may be absolute (after ``!``, and at first), a
    difference (after ``'``) or a difference of differences (after ``"``), until a sign says
    otherwise; ``*`` repeats the last value.

    Raises:
        DataError: If a point has too few or too many values.
    """
    count = len(layout.regular)
    state = [_Channel() for _ in range(count)]
    rows = []
    for point in text.split(",") if text.strip() else []:
        tokens = _tokens(point.strip(), where)
        if not count <= len(tokens) <= count + len(layout.intermittent):
            raise DataError(
                f"{where}: point {shortened(point.strip())} of {len(tokens)} values, expected "
                f"{count}: {' '.join(layout.regular)}"
            )
        rows.append([channel.take(*token) for channel, token in zip(state, tokens, strict=False)])
    return np.array(rows, np.float64).reshape(-1, count)


class _Channel:
    """Turns differences into values."""

    def __init__(self) -> None:
        self.order = 0
        self.value = self.change = 0.0

    def take(self, sign: str, word: str) -> float:
        if sign:
            self.order = _ORDER[sign]
        if word in "?TF":  # unknown, or a switch: no number, which matters only where one is used
            return float("nan")
        if word == "*":
            return self.value
        number = float(word)
        if self.order == 2:
            self.change += number
        else:
            self.change = number if self.order == 1 else number - self.value
        self.value = number if self.order == 0 else self.value + self.change
        return self.value


def _tokens(point: str, where: str) -> list[tuple[str, str]]:
    place, tokens = 0, []
    while place < len(point):
        if not (match := _VALUE.match(point, place)):
            raise DataError(f"{where}: {shortened(point)}, expected numbers")
        tokens.append((match[1], match[2]))
        place = match.end()
    return tokens
