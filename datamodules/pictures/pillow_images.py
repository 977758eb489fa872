"""Images of Pillow as arrays: grey or colour, what is transparent on the background."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError, MissingExtraError
from spcnn_lightning.datamodules.pictures.base import Picture
from spcnn_lightning.datamodules.sources.files import read_file_bytes

ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is read; other formats of Pillow run programs, or are not pictures."""

MOST_PIXELS = 1 << 25
"""Of one picture; a header can state any number."""


def import_pillow() -> ModuleType:
    """Return ``PIL.Image``.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "reading pictures needs Pillow, which is not installed; install it with "
            "pip install 'spcnn-lightning[pictures]'"
        ) from error
    return Image


PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""A tag of TIFF, and the value of it that turns grey values around."""


def read_picture(path: Path, channels: int, background: float) -> Picture:
    """Return the picture in a file, upright if a camera noted how it was held.

    Args:
        path: The file, in one of `FORMATS`.
        channels: 1 for grey, 3 for red, green, blue; the other is converted.
        background: 0..255: what shows through where the picture is transparent.

    Raises:
        DataError: If Pillow cannot read it.
        MissingExtraError: If Pillow is not installed.
    """
    pillow = import_pillow()
    # From memory, where reading as much as a damaged file announces takes no more than there is.
    data = BytesIO(read_file_bytes(path))
    try:
        with pillow.open(data, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(
                    f"{path}: {image.width} x {image.height} pixels, expected at most "
                    f"{MOST_PIXELS}: the header is damaged, or the picture is to be made smaller"
                )
            image.verify()  # the checksums of PNG, which decoding does not look at
        with pillow.open(data, formats=FORMATS) as image:
            return picture_of(image, channels, background)
    except (DataError, MemoryError):
        raise
    # Pillow raises almost anything at damage: SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        reason = str(error).partition(" <_io.BytesIO")[0][:200]
        raise DataError(f"{path}: cannot be read as a picture: {reason}; get it again") from error


def picture_of(image: Any, channels: int, background: float) -> Picture:
    """Return an image of Pillow as uint8, shape (H, W, ``channels``).

    Grey values of 16 bits keep their upper 8. Arguments as of `read_picture`.

    Raises:
        ValueError: If Pillow cannot convert it.
    """
    from PIL import ImageOps

    kind = image.format  # a turned image does not know it
    # Older versions of Pillow call the 16 bits of a PNG file I.
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM"))
    if kind == "TIFF":
        if image.n_frames > 1:
            raise ValueError(f"it holds {image.n_frames} pictures, expected one")
        if is_16_bit and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            raise ValueError("16-bit grey values for which white is zero")
    image = ImageOps.exif_transpose(image)
    if is_16_bit:
        return _of_16_bits(image, channels, background)
    if image.mode in ("I", "F"):
        numbers = "integers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"grey values are {numbers} of any range")
    plain = "L" if channels == 1 else "RGB"
    if not image.has_transparency_data:
        return np.array(image.convert(plain), np.uint8).reshape(image.height, image.width, channels)
    return _on_background(np.asarray(image.convert("RGBA").convert(f"{plain}A")), background)


def _of_16_bits(image: Any, channels: int, background: float) -> Picture:
    """Return the upper 8 of 16 bits; one value may stand for what is transparent."""
    values = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
    grey = (values >> 8).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        grey[values == clear] = round(background)
    return np.repeat(grey[:, :, None], channels, axis=2)


def _on_background(pixels: NDArray[np.uint8], background: float) -> Picture:
    colour, alpha = pixels[:, :, :-1].astype(np.float32), pixels[:, :, -1:] / np.float32(255)
    mixed = colour * alpha + np.float32(background) * (1 - alpha)
    picture: Picture = np.rint(mixed).astype(np.uint8)
    return picture
