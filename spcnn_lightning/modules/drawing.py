"""Pictures of samples and confusion matrices, as uint8 RGB tensors of shape (3, H, W)."""

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spcnn_lightning.core.sparse_batch import SparseBatch

GROUND = (255, 255, 255)
"""Colour of sites that are not active."""
ACTIVE = (168, 208, 255)
"""Colour of an active site whose feature equals the ground state; the largest feature is black."""
CHEQUERS = ((255, 255, 255), (224, 228, 240))
"""The two colours of sites that are not active, where active ones may have any colour."""
_FRAME = 160
_LATIN_END = 0x250
"""The first code point that the font which comes with matplotlib may lack."""
_SMALLEST_PICTURE = 96
"""Small fields are enlarged to about this width, in pixels."""
_MOST_CLASSES = 40
"""More classes than this in a confusion matrix cannot be read; the worst are shown."""


def draw_samples(
    batch: SparseBatch, samples: Sequence[int], channel: int | None = 0
) -> list[Tensor]:
    """Draw one channel of some samples: active sites are tinted, large features dark.

    Fields of one dimension become a strip; of more than two dimensions the largest feature along
    the axes after the second is shown.

    Args:
        batch: B samples.
        samples: Numbers of the samples to draw.
        channel: The channel to draw. None: the first three as red, green and blue, with the ground
            state as mid-grey if there are features below it, and as black otherwise; sites that
            are not active are a chequerboard.

    Returns:
        One picture per sample, uint8, shape (3, H, W).

    Raises:
        ValueError: If there are no three channels to show as colours.
    """
    features = (batch.features - batch.ground_state).detach().float()
    if channel is None:
        if features.shape[1] < 3:
            raise ValueError(
                f"the batch has {features.shape[1]} channels, and colours are three: give a channel"
            )
        ink = _shades(features[:, :3]).T.cpu()
    else:
        ink = (features[None, :, channel].abs() / _largest(features[:, channel])).cpu()
    coords = batch.coords.cpu().long()
    height, width = (
        (1, *batch.spatial_shape)[-2:]
        if batch.active_set.dimensions < 2
        else (batch.spatial_shape[:2])
    )
    row = coords[:, 1] if batch.active_set.dimensions > 1 else torch.zeros_like(coords[:, 1])
    column = coords[:, 2] if batch.active_set.dimensions > 1 else coords[:, 1]
    pictures = []
    for sample in samples:
        chosen = coords[:, 0] == sample
        place = (row[chosen] * width + column[chosen]).expand(len(ink), -1)
        # -1 stands for "not active".
        flat = torch.full((len(ink), height * width), -1.0)
        drawn = flat.scatter_reduce(1, place, ink[:, chosen], "amax").view(-1, height, width)
        pictures.append(_enlarged(_on_chequers(drawn) if channel is None else _coloured(drawn[0])))
    return pictures


def columns_for(count: int) -> int:
    """Return how many of so many pictures stand side by side in a grid."""
    return math.ceil(math.sqrt(count))


def grid(pictures: Sequence[Tensor], columns: int | None = None) -> Tensor:
    """Put pictures of equal shape (3, H, W) into a grid with grey lines between them."""
    columns = columns or columns_for(len(pictures))
    rows = math.ceil(len(pictures) / columns)
    _, height, width = pictures[0].shape
    sheet = torch.full(
        (3, rows * (height + 1) + 1, columns * (width + 1) + 1), _FRAME, dtype=torch.uint8
    )
    for number, picture in enumerate(pictures):
        top = (number // columns) * (height + 1) + 1
        left = (number % columns) * (width + 1) + 1
        sheet[:, top : top + height, left : left + width] = picture
    return sheet


def draw_gallery(pictures: Sequence[Tensor], captions: Sequence[str]) -> Tensor:
    """Put pictures into a grid with captions; without matplotlib, the grid alone."""
    if not has_matplotlib():
        return grid(pictures)
    from matplotlib.figure import Figure

    columns = columns_for(len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(2 * columns, 2.3 * rows), layout="constrained")
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True), start=1):
        axis = figure.add_subplot(rows, columns, place)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.imshow(picture.permute(1, 2, 0).numpy())
        axis.set_title(plain(caption), fontsize=9)
    return _as_tensor(figure)


def plain(name: str) -> str:
    """Return a name that the font can show: letters beyond Latin by their numbers.

    >>> plain("é > 二")
    'é > U+4E8C'
    """
    return "".join(c if ord(c) < _LATIN_END else f"U+{ord(c):04X}" for c in name)


def draw_confusion(matrix: Tensor, class_names: Sequence[str] | None = None) -> Tensor:
    """Draw a confusion matrix: rows are true classes, the diagonal is left out of the colours.

    With many classes the ones with the most errors are shown.

    Args:
        matrix: Counts, int64, shape (C, C).
        class_names: C names; numbers if not given.
    """
    matrix = matrix.cpu()
    names = [str(n) for n in (class_names or range(len(matrix)))]
    errors = matrix - torch.diag(matrix.diagonal())
    shown = torch.arange(len(matrix))
    if len(matrix) > _MOST_CLASSES:
        shown = (errors.sum(0) + errors.sum(1)).topk(_MOST_CLASSES).indices.sort().values
    part, wrong = matrix[shown][:, shown], errors[shown][:, shown]
    if not has_matplotlib():
        ink = wrong / wrong.max().clamp(min=1)
        return _enlarged(_coloured(ink))
    names = [plain(names[number]) for number in shown.tolist()]
    title = "rows: true class, columns: predicted"
    if len(shown) < len(matrix):
        title += f"\nthe {len(shown)} of {len(matrix)} classes with the most errors"
    return _confusion_figure(part, wrong, names, title)


def _confusion_figure(part: Tensor, wrong: Tensor, names: Sequence[str], title: str) -> Tensor:
    from matplotlib.figure import Figure

    size = 2.5 + 0.35 * len(names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axis = figure.subplots()
    axis.imshow(wrong.numpy(), cmap="Reds", vmin=0, vmax=max(int(wrong.max()), 1))
    axis.set_xticks(range(len(names)), names, rotation=90 if len(max(names, key=len)) > 2 else 0)
    axis.set_yticks(range(len(names)), names)
    axis.set_title(title, fontsize=9)
    threshold = int(wrong.max()) / 2
    for row, column in part.nonzero().tolist():
        count, colour = int(part[row, column]), "black"
        if row == column:
            colour = "grey"
        elif int(wrong[row, column]) > threshold:
            colour = "white"
        axis.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    return _as_tensor(figure)


def _as_tensor(figure: Any) -> Tensor:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = canvas.get_width_height()
    return pixels.view(height, width, 4)[:, :, :3].permute(2, 0, 1).contiguous()


def _coloured(ink: Tensor) -> Tensor:
    """Return colours for ink in 0 to 1, or -1 where a site is not active; shape (3, H, W)."""
    active = torch.tensor(ACTIVE)[:, None, None] * (1 - ink.clamp(min=0))
    ground = torch.tensor(GROUND)[:, None, None].expand_as(active)
    return torch.where(ink < 0, ground, active).round().to(torch.uint8)


def _on_chequers(colours: Tensor) -> Tensor:
    """Return colours from 0 to 1, shape (3, H, W), as bytes, with chequers where they are -1."""
    _, height, width = colours.shape
    odd = (torch.arange(height)[:, None] + torch.arange(width)) % 2
    chequers = torch.tensor(CHEQUERS)[odd].permute(2, 0, 1)
    return torch.where(colours < 0, chequers, 255 * colours).round().to(torch.uint8)


def _shades(features: Tensor) -> Tensor:
    """Return features as shades from 0 to 1; 0 becomes 0, or 1/2 if some are below."""
    if len(features) and features.min() < 0:
        return (features / _largest(features) + 1) / 2
    return features / _largest(features)


def _largest(features: Tensor) -> Tensor:
    """Return the largest absolute feature, and something positive if there is none."""
    return features.abs().max().clamp(min=1e-12) if features.numel() else features.new_ones(())


def _enlarged(picture: Tensor) -> Tensor:
    factor = max(1, round(_SMALLEST_PICTURE / max(picture.shape[1:])))
    return picture.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def has_matplotlib() -> bool:
    """Whether there are captions: the extra viz is installed."""
    return importlib.util.find_spec("matplotlib") is not None
