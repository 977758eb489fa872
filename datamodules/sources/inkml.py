"""InkML: digital ink as XML, among others CROHME's and MathWriting's formulas and symbols.

``<ink>`` holds ``<trace>`` elements, one a stroke, and says what they are in ``<annotation>``s.
``<traceGroup>`` elements gather traces, by ``<traceView traceDataRef="id"/>`` or inside them, and
have annotations of their own: so CROHME labels the symbols of a formula. What the numbers of a
trace mean stands in ``<traceFormat>``; without one they are x and y. y grows downwards.

Source:
    W3C Recommendation Ink Markup Language (InkML), 20 September 2011; CROHME 2011 to 2023, truth in
    annotations ``truth``; P. Gervais, A. Fadeeva, A. Maksai, MathWriting, 2024, arXiv:2404.10690,
    truth in annotations ``label``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.bounded_xml import read_elements
from spcnn_lightning.datamodules.sources.class_table import Classes
from spcnn_lightning.datamodules.sources.inkml_traces import TraceFormat, TraceView
from spcnn_lightning.datamodules.sources.parsing import (
    Doubles,
    build_character,
    shortened,
    writer_number,
)
from spcnn_lightning.datamodules.sources.user_files import UserFiles
from spcnn_lightning.datamodules.strokes import Strokes

LABEL_ANNOTATIONS = ("truth", "label")


class _Labelled(NamedTuple):
    label: str
    element: Element  # <ink> or a <traceGroup>
    where: str


class InkML(UserFiles):
    """Ink in InkML files: each file, or each labelled group of traces in it, is a character.

    Writers are numbered by the CRC-32 of the annotation ``writer``; a file without one has no
    writer, as MathWriting's. MathWriting's isolated symbols, cut out of its formulas, lie in its
    folder ``symbols``, which is all one part. Traces of ``type="penUp"`` are no ink.

    Args:
        root: Folder of the data.
        train: Folder or file of the training part in it; "." for all of ``root``.
        test: The same for the test part.
        unit: "file": all traces of a file with the file's label; "group": each innermost traceGroup
            with its own label, as the symbols of CROHME's formulas.
        classes: Which labels to read. None: all that the training part holds, sorted.
        keep_time: False leaves out time (channel T), if only some files have it.
        keep_pressure: The same for pressure (channel F).
        keep_writers: The same for writers.
    """

    patterns = ("**/*.inkml", "**/*.inkml.gz")
    what = "InkML files"
    files_per_piece = 500

    def __init__(
        self,
        root: str | Path,
        train: str = "train",
        test: str = "test",
        unit: Literal["file", "group"] = "file",
        classes: Classes = None,
        keep_time: bool = True,
        keep_pressure: bool = True,
        keep_writers: bool = True,
    ) -> None:
        super().__init__(root, train, test, classes, keep_time, keep_pressure, keep_writers)
        if unit not in ("file", "group"):
            raise ValueError(f"unit is {unit!r}, expected 'file' or 'group'")
        self.unit = unit

    def read_labels(self, path: Path, on_damage: OnDamage) -> Iterator[str]:
        """Yield the labels of a file."""
        for where, ink in read_elements(path, "ink", on_damage):
            try:
                yield from (item.label for item in self._labelled(ink, where))
            except DataError as error:
                on_damage(error)

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the characters of a file."""
        for where, ink in read_elements(path, "ink", on_damage):
            try:
                contents = _Ink(ink, where)
                labelled = self._labelled(ink, where)
            except DataError as error:
                on_damage(error)
                continue
            for item in labelled:
                try:
                    label = self.table.number(item.label, item.where)
                    if label is not None:
                        yield self._character(item, label, contents)
                except DataError as error:
                    on_damage(error)

    def _labelled(self, ink: Element, where: str) -> list[_Labelled]:
        if self.unit == "file":
            if not (label := _annotation(ink, LABEL_ANNOTATIONS)):
                raise DataError(
                    f"{where}: no annotation {' or '.join(LABEL_ANNOTATIONS)} in <ink>: unit="
                    "'group' takes the labels of groups"
                )
            return [_Labelled(label, ink, where)]
        found = []
        for number, group in enumerate(ink.iter("traceGroup")):
            label = _annotation(group, LABEL_ANNOTATIONS)
            if group.find(".//traceGroup") is None and label:
                found.append(_Labelled(label, group, f"{where}: traceGroup {number}"))
        if not found:
            raise DataError(
                f"{where}: no innermost traceGroup with an annotation "
                f"{' or '.join(LABEL_ANNOTATIONS)}: unit='file' takes the label of the file"
            )
        return found

    def _character(self, item: _Labelled, label: int, ink: _Ink) -> Strokes:
        views = [view for view in ink.views(item) if view.is_ink()]
        layouts = {ink.format_of(view.trace) for view in views}
        if len(layouts) != 1:
            raise DataError(f"{item.where}: ink of {len(layouts)} trace formats, expected one")
        layout = layouts.pop()
        strokes = [
            view.values(layout, f"{item.where}: trace {shortened(view.trace.get('id', number))}")
            for number, view in enumerate(views)
        ]

        def channel(name: str, wanted: bool, scale: float) -> list[Doubles] | None:
            if not wanted or name not in layout.regular:
                return None
            column = layout.regular.index(name)
            return [stroke[:, column] * scale for stroke in strokes]

        places = [layout.regular.index("Y"), layout.regular.index("X")]
        return build_character(
            [stroke[:, places] for stroke in strokes],
            label,
            ink.writer if self.keep_writers else None,
            time=channel("T", self.keep_time, layout.time_scale),
            pressure=channel("F", self.keep_pressure, 1.0),
            where=item.where,
        )


class _Ink:
    """Writer, traces and formats of an ``<ink>``."""

    def __init__(self, ink: Element, where: str) -> None:
        name = _annotation(ink, ("writer",))
        self.writer = writer_number(name) if name else None
        self.traces = {trace.get("id", ""): trace for trace in ink.iter("trace")}
        self.by_context: dict[str, TraceFormat] = {}
        self.first: TraceFormat | None = None
        for context in [*ink.iter("context"), ink]:
            for element in context.iter("traceFormat"):
                layout = TraceFormat.from_element(element, where)
                self.first = self.first or layout
                self.by_context.setdefault(f"#{context.get('id')}", layout)

    def format_of(self, trace: Element) -> TraceFormat:
        """Return the format of its context, or the first in the file."""
        default = self.first or TraceFormat()
        return self.by_context.get(trace.get("contextRef", ""), default)

    def views(self, item: _Labelled) -> list[TraceView]:
        """Return the traces inside, and for a group those that it refers to."""
        inside = [TraceView(trace) for trace in item.element.iter("trace")]
        if item.element.tag == "ink":  # its groups refer to what is inside already
            return inside
        references = item.element.iter("traceView")
        return inside + [TraceView.from_element(r, self.traces, item.where) for r in references]


def _annotation(element: Element, kinds: tuple[str, ...]) -> str | None:
    """Return the text of the first annotation of one of these kinds."""
    for annotation in element.findall("annotation"):
        if annotation.get("type") in kinds and (text := (annotation.text or "").strip()):
            return text
    return None
