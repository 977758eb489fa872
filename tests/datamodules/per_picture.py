"""One picture at a time, one site at a time, in plain float64: what the padder must equal.

It takes the same random numbers, and shares nothing else with the code that it checks but the
look-up of elastic fields, which has tests of its own.
"""

import math

import numpy as np


def sites_of(picture, field, draws, *, background, augmentation, threshold=0.02, bend=None):
    """Return {(row, column): values} of the active sites of one picture in the middle of a field.

    Args:
        picture: uint8, shape (H, W, C).
        field: Rows and columns.
        draws: Seven numbers from 0 to 1: height, width, kind, amount, mirror, and two shifts.
        background: What becomes zero, of 0..255.
        augmentation: Its settings; None for none.
        threshold: A site is active if a channel is beyond it.
        bend: Returns the displacement at a row and column from the middle.
    """
    values = (picture.astype(float) - background) / max(background, 255 - background)
    (a, b, c, d), (down, right) = (1, 0, 0, 1), (0, 0)
    if augmentation is not None:
        a, b, c, d = inverse_map(draws, augmentation)
        down, right = (
            math.floor(u * (2 * augmentation.shift + 1)) - augmentation.shift for u in draws[5:]
        )
    height, width, _ = picture.shape
    top, left = field[0] // 2 - height // 2 + down, field[1] // 2 - width // 2 + right
    sites = {}
    for row in range(field[0]):
        for column in range(field[1]):
            y, x = row - top - (height - 1) / 2, column - left - (width - 1) / 2
            if bend is not None:
                moved = bend(y, x)
                y, x = y + moved[0], x + moved[1]
            looked_up = (
                a * y + b * x + (height - 1) / 2,
                c * y + d * x + (width - 1) / 2,
            )
            value = bilinear(values, *looked_up)
            if value is not None and np.abs(value).max() > threshold:
                sites[row, column] = value
    return sites


def inverse_map(draws, augmentation):
    """Return the map from the field back to the picture, as a, b, c, d."""
    height = 1 + augmentation.stretch * (2 * draws[0] - 1)
    width = 1 + augmentation.stretch * (2 * draws[1] - 1)
    if augmentation.flip and draws[4] < 0.5:
        width = -width
    amount = 2 * draws[3] - 1
    if draws[2] < 1 / 3:
        angle = amount * augmentation.rotate
        turn = (math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))
    elif draws[2] < 2 / 3:
        turn = (1, 0, amount * augmentation.slant, 1)
    else:
        turn = (1, amount * augmentation.slant, 0, 1)
    a, b, c, d = turn[0] * height, turn[1] * width, turn[2] * height, turn[3] * width
    determinant = a * d - b * c
    return d / determinant, -b / determinant, -c / determinant, a / determinant


def bilinear(values, row, column):
    """Return the value between four pixels, zero beyond the border; None if all four are beyond."""
    height, width, channels = values.shape
    top, left = math.floor(row), math.floor(column)
    result, seen = np.zeros(channels), False
    for y in (top, top + 1):
        for x in (left, left + 1):
            if 0 <= y < height and 0 <= x < width:
                seen = True
                result += values[y, x] * (1 - abs(row - y)) * (1 - abs(column - x))
    return result if seen else None
