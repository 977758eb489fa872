"""Digits: 1,797 handwritten digits of 8 x 8 pixels, shipped with the package."""

from __future__ import annotations

import zlib
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import PictureArray, PictureSource

FILE = Path(__file__).resolve().parent.parent / "data" / "optdigits8_uci.npz"
TRAIN_DIGITS = 1_437
"""Four fifths, rounded down."""


class Digits(PictureSource):
    """The digits of scikit-learn's ``load_digits``: the test part of UCI Optdigits.

    Values 0 to 16, how many of 4 x 4 finer pixels are inked, are here 0 to 255. The split is ours,
    since scikit-learn has only the original test part: the first 1,437 digits are for training, the
    last 360 for the test, in the order of the file. Errors cannot be compared with published ones
    on Optdigits, and writers are not known: some may have digits in both parts.

    Source:
        E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI data set 80, 1998,
        CC BY 4.0, from the copy in scikit-learn.
    """

    class_names = tuple("0123456789")
    channels = 1
    background = 0.0
    citation = (
        "Alpaydin, Kaynak (1998), Optical Recognition of Handwritten Digits, UCI data set 80, "
        "doi:10.24432/C50P49; CC BY 4.0"
    )

    def train(self) -> PictureArray:
        """Return the first 1,437 digits."""
        return PictureArray(self._images[:TRAIN_DIGITS], self._labels[:TRAIN_DIGITS])

    def test(self) -> PictureArray:
        """Return the other 360."""
        return PictureArray(self._images[TRAIN_DIGITS:], self._labels[TRAIN_DIGITS:])

    @property
    def _images(self) -> np.ndarray:
        return self._arrays[0]

    @property
    def _labels(self) -> np.ndarray:
        return self._arrays[1]

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        try:
            with np.load(FILE) as arrays:
                sixteenths, labels = arrays["images"], arrays["labels"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise DataError(
                f"{FILE}: cannot read the digits shipped with the package ({error}): install it "
                "again"
            ) from error
        return np.rint(sixteenths * np.float32(255 / 16)).astype(np.uint8), labels
