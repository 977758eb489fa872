"""PenDigits8: 10,992 handwritten digits as polylines of eight points, shipped with the package."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import StrokeSource
from spcnn_lightning.datamodules.strokes import StrokeSet

POINTS = 8
FILE = Path(__file__).resolve().parent.parent / "data" / "penbased8_keel.npz"


class PenDigits8(StrokeSource):
    """UCI Pendigits, resampled by its authors to eight points at equal arc length.

    7,494 training and 3,498 test digits, the official split. The pen's lifts are lost in this form:
    each digit is one stroke. Writers are not known, so validation data come from the same people
    as the training data and their error is optimistic; the test digits are by other people. The
    height and width were both scaled to 100 by the authors, so the aspect ratio is lost as well.

    Source:
        E. Alpaydin, F. Alimoglu, Pen-Based Recognition of Handwritten Digits, UCI data set 81,
        1998, CC BY 4.0, from the copy in the KEEL collection.
    """

    class_names = tuple("0123456789")
    citation = (
        "Alpaydin, Alimoglu (1998), Pen-Based Recognition of Handwritten Digits, UCI data set 81, "
        "doi:10.24432/C5MG6K; CC BY 4.0"
    )

    def train(self) -> StrokeSet:
        """Return the 7,494 digits of the official training part."""
        return _read(FILE)[0]

    def test(self) -> StrokeSet:
        """Return the 3,498 digits of the official test part."""
        return _read(FILE)[1]


def _read(path: Path) -> tuple[StrokeSet, StrokeSet]:
    try:
        with np.load(path) as arrays:
            xy, labels, is_test = arrays["xy8"], arrays["label"], arrays["test"].astype(bool)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: cannot read the digits shipped with the package ({error}): install it again"
        ) from error
    pairs = xy.astype(np.float32).reshape(len(xy), POINTS, 2)
    points = np.stack([100.0 - pairs[:, :, 1], pairs[:, :, 0]], axis=2)  # y points up in the file
    return _part(points, labels, ~is_test), _part(points, labels, is_test)


def _part(points: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> StrokeSet:
    count = int(chosen.sum())
    return StrokeSet(
        points[chosen].reshape(-1, 2),
        np.arange(count + 1) * POINTS,
        np.arange(count + 1),
        labels[chosen],
    )
