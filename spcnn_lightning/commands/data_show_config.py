"""Drawing what a config feeds to its network: augmented, placed in the field, with active sites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor

from spcnn_lightning.commands.data_show import COLOURS, check_request, write
from spcnn_lightning.commands.experiment import load_experiment
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.modules.drawing import draw_samples
from spcnn_lightning.modules.sparsity import find_sparse_batch


def show_config(
    config: str,
    overrides: Sequence[str],
    part: str,
    samples: int,
    out: Path,
    channel: int | None = None,
) -> None:
    """Draw the first samples of a part as the network sees them into a PNG file.

    Args:
        config: A file, or the name of a config that ships.
        overrides: Options as of ``spcnn fit``.
        part: "train", "val" or "test".
        samples: How many.
        out: The file.
        channel: The channel to draw. None: pictures of three channels in colour, and the first
            channel of others.

    Raises:
        SpcnnError: If the config cannot be used, data are missing or damaged, the part is empty, or
            ``out`` cannot be written.
    """
    check_request(samples, out)
    data = load_experiment(config, overrides).data
    data.prepare_data()
    data.setup("test" if part == "test" else "fit")
    loader = getattr(data, f"{part}_dataloader")()
    names = getattr(data, "class_names", None)
    if channel is None and not _in_colour(data):
        channel = 0
    drawings: list[Tensor] = []
    captions: list[str] = []
    sites = 0
    try:
        for batch in loader:
            sparse = find_sparse_batch(batch)
            if sparse is None:
                raise DataError(f"the batch, a {type(batch).__name__}, has no SparseBatch to draw")
            count = min(samples - len(drawings), sparse.batch_size)
            drawings += draw_samples(sparse, range(count), channel)
            captions += _captions(batch, count, names)
            sites += int(sparse.active_set.sites_per_sample()[:count].sum())
            if len(drawings) == samples:
                break
    finally:
        data.teardown("fit")
    if not drawings:
        raise DataError(f"the {part} part of {config} holds no sample")
    mean = f"{sites / len(drawings):.1f} active sites in the mean"
    write(drawings, captions, out, f"{len(drawings)} samples of the {part} part, {mean}")


def _captions(batch: Any, count: int, names: Sequence[str] | None) -> list[str]:
    """Return what the first samples of a batch (SparseBatch, class numbers) are called."""
    targets = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    if not isinstance(targets, Tensor) or targets.ndim != 1:
        return [""] * count
    numbers = targets[:count].tolist()
    return [str(number) if names is None else names[number] for number in numbers]


def _in_colour(data: LightningDataModule) -> bool:
    """Whether the first three features are red, green and blue."""
    from spcnn_lightning.datamodules import ImagePaddingDataModule

    if not isinstance(data, ImagePaddingDataModule):
        return False
    plain = data.evaluation_padder.sparsifier is None
    return plain and data.source.channels - data.source.masked == COLOURS
