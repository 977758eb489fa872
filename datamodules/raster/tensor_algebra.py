"""Signatures of many paths at once, in the tensor algebra truncated after level m.

An element is a list of its levels 1 .. m, level j of shape (d**j, M) for M paths of d coordinates,
so that numpy's inner loops run over paths; its level 0 is 1 for a signature and 0 for a logarithm,
and is not stored. Row w of level j, read as a number of j digits in base d, is the coefficient of
that word of letters.

Source:
    K.-T. Chen, Integration of paths, Annals of Mathematics 65, 1957. As features of handwriting:
    B. Graham, Sparse arrays of signatures for online character recognition, arXiv:1308.0371.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from spcnn_lightning.datamodules.raster.legs import Floats

Levels = list[Floats]


def segment(way: Floats, level: int) -> Levels:
    """Return the signatures of straight paths with displacements ``way``, shape (d, M)."""
    levels = [way]
    for j in range(2, level + 1):
        levels.append(_outer(levels[-1], way) / j)
    return levels[:level]


def chen(first: Levels, second: Levels) -> Levels:
    """Return the signatures of paths that go on where others end, from the signatures of both."""
    mixed = _products(first, second)
    return [a + b + c for a, b, c in zip(first, second, mixed, strict=True)]


def of_windows(ways: Floats, length: int, level: int) -> Levels:
    """Return the signatures of all windows of ``length`` neighbouring segments.

    Windows of twice the length come from two that meet, so few products are needed.

    Args:
        ways: float64, shape (d, M): the segments of one long path.
        length: At least 1, at most M.
        level: Of the signature.

    Returns:
        Levels of M - length + 1 signatures.
    """
    single = segment(ways, level)
    if length == 1:
        return single
    half = of_windows(ways, length // 2, level)
    both = chen([a[:, : -(length // 2)] for a in half], [a[:, length // 2 :] for a in half])
    if length % 2 == 0:
        return both
    return chen([a[:, :-1] for a in both], [a[:, length - 1 :] for a in single])


def logarithm(signature: Levels) -> Levels:
    """Return log(1 + x) = x - x^2 / 2 + x^3 / 3 - ... for signatures 1 + x."""
    result, power = [a.copy() for a in signature], signature
    for j in range(2, len(signature) + 1):
        power = _products(power, signature)
        result = [a - (-1) ** j * b / j for a, b in zip(result, power, strict=True)]
    return result


def lyndon_words(letters: int, level: int) -> list[tuple[int, ...]]:
    """Return the words that come before all their rotations, by length, then by alphabet.

    As many as a log signature has independent numbers; their coefficients determine it.
    """
    words = [word for j in range(1, level + 1) for word in product(range(letters), repeat=j)]
    return [word for word in words if all(word < word[k:] + word[:k] for k in range(1, len(word)))]


def coefficients(element: Levels, letters: int, words: list[tuple[int, ...]]) -> Floats:
    """Return the coefficients of these words, shape (words, M)."""
    places = [sum(x * letters ** (len(w) - 1 - k) for k, x in enumerate(w)) for w in words]
    return np.stack([element[len(w) - 1][place] for w, place in zip(words, places, strict=True)])


def dimension(letters: int, level: int) -> int:
    """Return the number of entries of levels 1 to ``level``."""
    return sum(letters**j for j in range(1, level + 1))


def _products(first: Levels, second: Levels) -> Levels:
    """Return the product of elements without a level 0."""
    result = [np.zeros_like(second[0])]
    for j in range(2, len(first) + 1):
        total = _outer(first[0], second[j - 2])
        for k in range(2, j):
            total += _outer(first[k - 1], second[j - k - 1])
        result.append(total)
    return result


def _outer(first: Floats, second: Floats) -> Floats:
    return (first[:, None] * second[None]).reshape(len(first) * len(second), -1)
