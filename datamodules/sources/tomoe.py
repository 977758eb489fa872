"""Tomoe: hand-drawn templates of characters, one each.

The XML of Tomoe's dictionaries has the elements of Tegaki's, without time and pressure:
``<dictionary>`` of ``<character>`` with ``<utf8>`` and ``<strokes>``, y downwards.

Source:
    Tomoe, handwriting-ja.xml and handwriting-zh_CN.xml; LGPL 2.1 or later.
"""

from __future__ import annotations

from pathlib import Path

from spcnn_lightning.datamodules.sources.class_table import Classes
from spcnn_lightning.datamodules.sources.tegaki import Tegaki


class Tomoe(Tegaki):
    """A dictionary of Tomoe: about 6,600 characters, one template each.

    With one drawing a class there is nothing to split: both parts are the whole dictionary. It is
    meant as test data for a network that learned from other hands, or as templates.

    Args:
        root: ``handwriting-ja.xml`` or another of its files, also packed as ``.gz``, or a folder
            with such files.
        classes: Which characters to read: their names, or the first n of GB2312 level 1; those that
            Tomoe lacks stay empty. None: all, sorted.

    Source:
        The Tomoe project, LGPL 2.1 or later.
    """

    what = "Tomoe's dictionary"
    citation = "The Tomoe project, handwriting dictionaries; LGPL 2.1 or later"

    def __init__(self, root: str | Path, classes: Classes = None) -> None:
        super().__init__(root, ".", ".", classes)
