"""Data sets of handwriting, one file each."""

from spcnn_lightning.datamodules.sources.base import StrokeSource
from spcnn_lightning.datamodules.sources.pendigits import Pendigits
from spcnn_lightning.datamodules.sources.pendigits8 import PenDigits8

__all__ = ["PenDigits8", "Pendigits", "StrokeSource"]
