"""A small valid file of each format; loaded by conftest.py."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from spcnn_lightning.datamodules import (
    Assamese,
    CanvasJson,
    CasiaOLHWDB,
    HanziMedians,
    InkML,
    KanjiVG,
    Omniglot,
    QuickDraw,
    StrokeSource,
    Tegaki,
    Tomoe,
    Unipen,
)


class Sample(NamedTuple):
    """One file, where it lies below the root, and the source that reads it."""

    path: str
    data: bytes
    source: Callable[[Path], StrokeSource]

    def write(self, root: Path, data: bytes | None = None) -> StrokeSource:
        path = root / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data if data is None else data)
        return self.source(root)


def pot_record(code: int, strokes: list[list[tuple[int, int]]]) -> bytes:
    body = b"".join(
        b"".join(struct.pack("<hh", *point) for point in stroke) + b"\xff\xff\x00\x00"
        for stroke in strokes
    )
    size = 8 + len(body) + 4
    return struct.pack("<HHHH", size, code, 0, len(strokes)) + body + b"\xff\xff\xff\xff"


def binary_drawing(key: int, strokes: list[tuple[list[int], list[int]]]) -> bytes:
    head = struct.pack("<Q2sbIH", key, b"GB", 1, 1_489_240_424, len(strokes))
    return head + b"".join(struct.pack("<H", len(x)) + bytes(x + y) for x, y in strokes)


def quickdraw_line(key: int, word: str, strokes: list, recognised: bool = True) -> str:
    record = {"key_id": str(key), "word": word, "recognized": recognised, "drawing": strokes}
    return json.dumps({**record, "countrycode": "GB", "timestamp": "2017-03-11"}) + "\n"


CANVAS = [[[1, 2, 100, 0.5], [3, 5, 110, 0.25]], [[7, 7, 200, 1]]]

CROHME = """<ink xmlns="http://www.w3.org/2003/InkML">
<traceFormat><channel name="X" type="decimal"/><channel name="Y" type="decimal"/></traceFormat>
<annotation type="truth">$x=$</annotation>
<annotation type="writer">0042</annotation>
<trace id="0">10 1, 12 5</trace>
<trace id="1">12 1, 10 5, 9 6</trace>
<trace id="2">20 3</trace>
<traceGroup xml:id="A">
<annotation type="truth">Segmentation</annotation>
<traceGroup xml:id="B"><annotation type="truth">x</annotation>
<traceView traceDataRef="0"/><traceView traceDataRef="1"/></traceGroup>
<traceGroup xml:id="C"><annotation type="truth">=</annotation>
<traceView traceDataRef="2"/></traceGroup>
</traceGroup>
</ink>
"""

MATHWRITING = """<ink xmlns="http://www.w3.org/2003/InkML">
<annotation type="label">\\alpha</annotation>
<annotation type="splitTagOriginal">symbols</annotation>
<traceFormat><channel name="X" type="decimal"/><channel name="Y" type="decimal"/>
<channel name="T" type="decimal" units="ms"/></traceFormat>
<trace id="0">50.5 60 0, 52 61.25 17</trace>
<trace id="1">53 62 40</trace>
</ink>
"""

TEGAKI = """<?xml version="1.0" encoding="UTF-8"?>
<character-collection><set name="a"><character><utf8>一</utf8>
<strokes><stroke><point x="100" y="510" pressure="0.5" timestamp="0"/>
<point x="900" y="500" pressure="0.75" timestamp="250"/></stroke></strokes></character></set>
</character-collection>
"""

TOMOE = """<?xml version="1.0" standalone="no"?>
<!DOCTYPE dictionary SYSTEM "dict.dtd">
<dictionary name="Tomoe Handwriting Dictionary">
  <character><utf8>&#x3042;</utf8><strokes>
    <stroke><point x="180" y="193"/><point x="830" y="226"/></stroke>
    <stroke><point x="490" y="33"/></stroke></strokes></character>
</dictionary>
"""

KANJIVG = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.0//EN" "svg10.dtd" [
<!ATTLIST g xmlns:kvg CDATA #FIXED "http://kanjivg.tagaini.net" kvg:element CDATA #IMPLIED >
]>
<svg xmlns="http://www.w3.org/2000/svg" width="109" height="109" viewBox="0 0 109 109">
<g id="kvg:StrokePaths_04e8c"><g id="kvg:04e8c" kvg:element="二">
<path id="kvg:04e8c-s1" d="M10,20c8,0,16,8,24,8"/>
<path id="kvg:04e8c-s2" d="M11,87.25C20,80 30-4.5 40,1e1s1,2,3,4L5 6"/>
</g></g><g id="kvg:StrokeNumbers_04e8c"><text>1</text></g></svg>
"""

ASSAMESE = """CHARACTER_NAME: KA
STROKE_COUNT: 2
X Y STYLUS_STATE STROKE
PEN_DOWN
1203 845 1 1
1210 850 1 1
PEN_UP 0 0
PEN_DOWN
1300 900 1 2
PEN_UP
END_CHARACTER: KA
"""

OMNIGLOT = """START
18.95,-43.5,0
19.7,-41.9,56
BREAK
30,-80.25,300
BREAK
"""

UNIPEN = """.VERSION 1.0
.COORD X Y T
.HIERARCHY WORD CHARACTER
.WRITER_ID anna
.SEGMENT WORD 0-3 OK "ab"
.SEGMENT CHARACTER 0-1:1 OK "a"
.SEGMENT CHARACTER 1:2-1,3 GOOD "\\""
.PEN_DOWN
 10 20 0
 12 25 10
.PEN_UP
.PEN_DOWN
 30 20 30
 31 21 40
 32 22 50
.PEN_UP
 33 23 60
.PEN_DOWN
 34 24 70
.DT 100
"""

SAMPLES = {
    "canvas": Sample("train/A/1.json", json.dumps(CANVAS).encode(), CanvasJson),
    "canvas lines": Sample(
        "train/a.ndjson",
        "".join(
            json.dumps({"label": label, "writer": 3, "strokes": CANVAS}) + "\n" for label in "AB"
        ).encode(),
        CanvasJson,
    ),
    "CROHME": Sample("train/1.inkml", CROHME.encode(), lambda root: InkML(root, unit="group")),
    "MathWriting": Sample("train/1.inkml", MATHWRITING.encode(), InkML),
    "Tegaki": Sample("train/1.xml", TEGAKI.encode(), Tegaki),
    "Tomoe": Sample(
        "handwriting-ja.xml", TOMOE.encode(), lambda root: Tomoe(root / "handwriting-ja.xml")
    ),
    "UNIPEN 1.0": Sample("train/a.dat", UNIPEN.encode(), Unipen),
    "KanjiVG": Sample("04e8c.svg", KANJIVG.encode(), KanjiVG),
    "Assamese": Sample("W5/15.5.txt", ASSAMESE.encode(), Assamese),
    "Omniglot": Sample("Greek/character02/0394_07.txt", OMNIGLOT.encode(), Omniglot),
    "CASIA": Sample(
        "1001.pot",
        pot_record(0x41, [[(5, 6)]])
        + pot_record(0xB0A1, [[(1, 2), (3, 4)], [(7, -2)]])
        + pot_record(0xD7F9, [[(0, 0), (65, 300)]]),
        CasiaOLHWDB,
    ),
    "Quick Draw": Sample(
        "cat.ndjson",
        (
            quickdraw_line(6, "cat", [[[1, 2], [3, 4], [0, 16]], [[9], [8], [70]]])
            + quickdraw_line(7, "cat", [[[1.5, 2], [3, 4], [0, 9]]], recognised=False)
        ).encode(),
        QuickDraw,
    ),
    "Quick Draw binary": Sample(
        "full_binary_cat.bin",
        binary_drawing(6, [([0, 255], [7, 8]), ([1], [2])]) + binary_drawing(11, [([3], [4])]),
        QuickDraw,
    ),
    "hanzi": Sample(
        "graphics.txt",
        '{"character":"二","strokes":["M 1 2 Z"],"medians":[[[10,800],[20,790]],[[5,0]]]}'.encode(),
        lambda root: HanziMedians(root / "graphics.txt"),
    ),
}
