"""Data sets of handwriting, one file each."""

from spcnn_lightning.datamodules.sources.assamese import Assamese
from spcnn_lightning.datamodules.sources.base import StrokeSource
from spcnn_lightning.datamodules.sources.canvas import CanvasJson
from spcnn_lightning.datamodules.sources.casia import CasiaOLHWDB
from spcnn_lightning.datamodules.sources.hanzi_medians import HanziMedians
from spcnn_lightning.datamodules.sources.inkml import InkML
from spcnn_lightning.datamodules.sources.kanjivg import KanjiVG
from spcnn_lightning.datamodules.sources.omniglot import Omniglot
from spcnn_lightning.datamodules.sources.pendigits import Pendigits
from spcnn_lightning.datamodules.sources.pendigits8 import PenDigits8
from spcnn_lightning.datamodules.sources.quickdraw import QuickDraw
from spcnn_lightning.datamodules.sources.shards import Shards
from spcnn_lightning.datamodules.sources.simulated_hanzi import SimulatedHanzi
from spcnn_lightning.datamodules.sources.streamed_shards import StreamedShards
from spcnn_lightning.datamodules.sources.stroke_templates import StrokeTemplates
from spcnn_lightning.datamodules.sources.tegaki import Tegaki
from spcnn_lightning.datamodules.sources.tomoe import Tomoe
from spcnn_lightning.datamodules.sources.unipen import Unipen
from spcnn_lightning.datamodules.sources.views import FewLabels, WriterFold

__all__ = [
    "Assamese",
    "CanvasJson",
    "CasiaOLHWDB",
    "FewLabels",
    "HanziMedians",
    "InkML",
    "KanjiVG",
    "Omniglot",
    "PenDigits8",
    "Pendigits",
    "QuickDraw",
    "Shards",
    "SimulatedHanzi",
    "StreamedShards",
    "StrokeSource",
    "StrokeTemplates",
    "Tegaki",
    "Tomoe",
    "Unipen",
    "WriterFold",
]
