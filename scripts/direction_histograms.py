"""The classifiers to beat: direction histograms of the strokes, with an SVM or an LDA."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.base import ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.svm import SVC

from spcnn_lightning.datamodules.characters import Characters
from spcnn_lightning.datamodules.strokes import Strokes

CELLS, DIRECTIONS = 8, 8
STEP = 1 / 64  # of the character's size
BLUR = 0.8  # cells

CLASSIFIERS = {
    "svm": lambda: SVC(C=10.0),
    "lda": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
}


def fit(name: str, characters: Characters) -> ClassifierMixin:
    """Return the classifier "svm" (RBF kernel, C = 10) or "lda" (shrunk), fitted."""
    return CLASSIFIERS[name]().fit(histograms(characters), characters.labels)


def histograms(characters: Characters) -> NDArray[np.float32]:
    """Return the features of all characters, shape (B, 8 * 8 * 8)."""
    rows = []
    for start in range(0, len(characters), 1000):
        some = characters.select(np.arange(start, min(start + 1000, len(characters))))
        rows += [histogram(some[index]) for index in range(len(some))]
    return np.stack(rows)


def histogram(strokes: Strokes) -> NDArray[np.float32]:
    """Return the length of stroke in each of 8 x 8 cells and 8 directions, shape (512,).

    The larger side of the character fills the cells. Length is shared bilinearly between
    neighbouring cells and linearly between neighbouring directions, and blurred over the cells;
    then square roots are taken, which makes the Euclidean distance that of Hellinger, and the
    length of the vector is made one. Blur and roots were chosen on the writers of Pendigits.
    """
    low, high = strokes.points.min(axis=0), strokes.points.max(axis=0)
    size = max(float((high - low).max()), 1e-6)
    points = (strokes.points.astype(np.float64) - (low + high) / 2) / size + 0.5
    pen_down = np.ones(len(points) - 1, bool)
    pen_down[strokes.point_offsets[1:-1] - 1] = False
    starts, moves = points[:-1][pen_down], np.diff(points, axis=0)[pen_down]

    pieces = np.ceil(np.hypot(*moves.T) / STEP).astype(int)
    leg = np.repeat(np.arange(len(moves)), pieces)
    place = np.arange(len(leg)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    middles = starts[leg] + moves[leg] * ((place + 0.5) / pieces[leg])[:, None]
    lengths = np.hypot(*moves[leg].T) / pieces[leg]
    angles = np.arctan2(moves[leg, 0], moves[leg, 1]) / (2 * np.pi) * DIRECTIONS

    table = np.zeros((CELLS + 2, CELLS + 2, DIRECTIONS))  # a frame for what falls beyond the edge
    cells = middles * CELLS + 0.5  # cell c of the frame has its middle at c
    floor, turn = np.floor(cells).astype(int), np.floor(angles).astype(int)
    for down, right, on in np.ndindex(2, 2, 2):
        share = (1 - np.abs(cells[:, 0] - floor[:, 0] - down)) * lengths
        share = share * (1 - np.abs(cells[:, 1] - floor[:, 1] - right))
        share = share * (1 - np.abs(angles - turn - on))
        where = (floor[:, 0] + down, floor[:, 1] + right, (turn + on) % DIRECTIONS)
        np.add.at(table, where, share)
    inner = np.sqrt(gaussian_filter(table, (BLUR, BLUR, 0))[1:-1, 1:-1]).ravel()
    return (inner / max(float(np.linalg.norm(inner)), 1e-12)).astype(np.float32)
