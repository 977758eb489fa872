"""Data sets of pictures, one file each."""

from spcnn_lightning.datamodules.pictures.base import (
    PictureArray,
    PictureList,
    Pictures,
    PictureSource,
    PictureSubset,
)

__all__ = ["PictureArray", "PictureList", "PictureSource", "PictureSubset", "Pictures"]
