"""The encodings as their definitions say, one pen point after the other: slow, and the oracle.

A character is a list of strokes, a stroke a list of (row, column) in sites, the origin in the
middle of the field. Each encoding is ({site: features}, steps that fell outside).
"""

import math
from collections import defaultdict

DENSITY = 0.1
DIRECTIONS = [(math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)]


def length_of(stroke):
    return sum(math.dist(a, b) for a, b in zip(stroke[:-1], stroke[1:], strict=True))


def steps_of(stroke, spacing=DENSITY):
    return math.floor(0.5 + length_of(stroke) / spacing)


def resampled(stroke, n):
    """Points 0 .. n at equal arc length, one by one, by linear interpolation."""
    if n == 0:
        return [tuple(stroke[0])]
    lengths = [math.dist(a, b) for a, b in zip(stroke[:-1], stroke[1:], strict=True)]
    total = sum(lengths)
    points, piece, before = [], 0, 0.0
    for i in range(n + 1):
        wanted = i * total / n
        while piece < len(lengths) - 1 and before + lengths[piece] < wanted:
            before += lengths[piece]
            piece += 1
        t = min((wanted - before) / lengths[piece], 1.0) if lengths[piece] else 0.0
        a, b = stroke[piece], stroke[piece + 1]
        points.append(tuple(x + t * (y - x) for x, y in zip(a, b, strict=True)))
    return points


def visits(sample, spatial_shape):
    """Yield (stroke number, step, site or None if outside, place, next place) for every step."""
    for number, stroke in enumerate(sample):
        points = resampled(stroke, steps_of(stroke))
        steps = list(zip(points[:-1], points[1:], strict=True)) or [(points[0], points[0])]
        for j, (here, there) in enumerate(steps):
            pairs = zip(here, spatial_shape, strict=True)
            site = tuple(math.floor(x + size / 2 + 1e-9) for x, size in pairs)
            inside = all(0 <= s < size for s, size in zip(site, spatial_shape, strict=True))
            yield number, j, site if inside else None, here, there


def bitmap_of(sample, spatial_shape):
    field, dropped = {}, 0
    for _, _, site, _, _ in visits(sample, spatial_shape):
        dropped += site is None
        if site is not None:
            field[site] = [1.0]
    return field, dropped


def octogram_of(sample, spatial_shape):
    field, dropped = defaultdict(lambda: [0.0] * 9), 0
    for _, _, site, (row, column), (next_row, next_column) in visits(sample, spatial_shape):
        if site is None:
            dropped += 1
            continue
        field[site][0] = 1.0
        down, right = next_row - row, next_column - column
        if not (length := math.hypot(down, right)):
            continue
        for k, (cos, sin) in enumerate(DIRECTIONS):
            angle = math.acos(max(-1.0, min(1.0, (down * cos + right * sin) / length)))
            field[site][1 + k] += max(0.0, 1 - angle / (math.pi / 4))
    return field, dropped


def windows_of(sample, spatial_shape, delta, features):
    """``features`` of the window of resampled points around the first visit of each site."""
    field, dropped = {}, 0
    coarse = [resampled(stroke, steps_of(stroke, delta / 4)) for stroke in sample]
    fine = [steps_of(stroke) for stroke in sample]
    coarse = [c if n else c[:1] for c, n in zip(coarse, fine, strict=True)]
    for number, j, site, _, _ in visits(sample, spatial_shape):
        if site is None:
            dropped += 1
        elif site not in field:
            points = coarse[number]
            i = j * (len(points) - 1) // max(fine[number], 1)
            window = range(max(0, i - 4), min(len(points) - 1, i + 4) + 1)
            field[site] = features([(k, *points[k]) for k in window])
    return field, dropped


def signature_of(path, level):
    """All iterated integrals up to ``level`` of a path of points, segment by segment."""
    letters = len(path[0])
    total = {(): 1.0}
    words = [()]
    for j in range(level):
        words += [(*word, x) for word in words if len(word) == j for x in range(letters)]
    total |= dict.fromkeys(words[1:], 0.0)
    for a, b in zip(path[:-1], path[1:], strict=True):
        way = [y - x for x, y in zip(a, b, strict=True)]
        total = {
            word: sum(
                total[word[:k]]
                * math.prod(way[x] for x in word[k:])
                / math.factorial(len(word) - k)
                for k in range(len(word) + 1)
            )
            for word in words
        }
    return [total[word] for word in words]
