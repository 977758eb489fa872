"""MNIST, KMNIST, FashionMNIST and EMNIST: grey pictures of 28 x 28 in idx files."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import PictureArray, PictureSource
from spcnn_lightning.datamodules.pictures.idx_files import read_idx


class IdxSource(PictureSource):
    """A folder with four idx files: pictures and labels for training and for the test.

    They are named ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and ``t10k-...``, also
    with a dot before ``idx``, and plain or packed as ``.gz``.

    Args:
        root: The folder.
    """

    channels = 1
    background = 0.0
    names = ("train", "t10k")
    """How the names of the files of each part begin."""
    first_label = 0
    """The number that the first class has in the file of labels."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def check(self) -> None:
        """Raise `DataError` if one of the four files is missing."""
        for name in self.names:
            self._find(name, "images", 3)
            self._find(name, "labels", 1)

    def train(self) -> PictureArray:
        """Return the training part."""
        return self._read(self.names[0])

    def test(self) -> PictureArray:
        """Return the official test part."""
        return self._read(self.names[1])

    def _read(self, name: str) -> PictureArray:
        path = self._find(name, "labels", 1)
        labels = read_idx(path, 1).astype(np.int64)
        wrong = (labels < self.first_label) | (labels >= self.first_label + self.num_classes)
        if wrong.any():
            place = int(wrong.argmax())
            raise DataError(
                f"{path}: byte {8 + place}: label {labels[place]}, expected {self.first_label} to "
                f"{self.first_label + self.num_classes - 1}"
            )
        images_path = self._find(name, "images", 3)
        images = read_idx(images_path, 3)
        if len(images) != len(labels):
            raise DataError(
                f"{images_path}: byte 4: {len(images)} pictures, expected {len(labels)}, as many "
                f"as there are labels in {path.name}"
            )
        return PictureArray(self.upright(images), labels - self.first_label)

    def upright(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pictures of the files, shape (B, H, W), with rows that grow downwards."""
        return images

    def _find(self, name: str, what: str, axes: int) -> Path:
        plain = [f"{name}-{what}{sign}idx{axes}-ubyte" for sign in "-."]
        for file in [*plain, *(f"{file}.gz" for file in plain)]:
            if (self.root / file).is_file():
                return self.root / file
        raise DataError(
            f"{self.root / plain[0]} is missing, and {plain[0]}.gz too: name the folder that holds "
            f"the four files of {type(self).__name__} as root"
        )


class MNIST(IdxSource):
    """60,000 training and 10,000 test digits, 28 x 28, white on black.

    Args:
        root: Folder with the four files: see `IdxSource`.

    Source:
        Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998;
        CC BY-SA 3.0.
    """

    class_names = tuple(digits)
    citation = (
        "LeCun, Cortes, Burges (1998), The MNIST database of handwritten digits; CC BY-SA 3.0"
    )


class KMNIST(IdxSource):
    """60,000 training and 10,000 test characters of old Japanese books: ten hiragana.

    Args:
        root: Folder with the four files: see `IdxSource`.

    Source:
        T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto, D. Ha, Deep learning for
        classical Japanese literature, 2018, arXiv:1812.01718; CC BY-SA 4.0.
    """

    class_names = tuple("おきすつなはまやれを")
    citation = (
        "Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto, Ha (2018), KMNIST dataset (created by "
        "CODH), adapted from the Kuzushiji dataset (created by NIJL and others), "
        "doi:10.20676/00000341; CC BY-SA 4.0"
    )


class FashionMNIST(IdxSource):
    """60,000 training and 10,000 test photos of clothes, 28 x 28, light on black.

    Args:
        root: Folder with the four files: see `IdxSource`. The Debian package dataset-fashion-mnist
            has them in ``/usr/share/datasets/fashion-mnist``.

    Source:
        H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747; MIT.
    """

    class_names = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
    citation = "Xiao, Rasul, Vollgraf (2017), Fashion-MNIST, arXiv:1708.07747; MIT"


MERGED = "CIJKLMOPSUVWXYZ"
"""Letters of which EMNIST's balanced and bymerge parts have one class for both cases."""

_LETTERS = ascii_uppercase + "".join(c for c in ascii_lowercase if c.upper() not in MERGED)
EMNIST_CLASSES = {
    "byclass": digits + ascii_uppercase + ascii_lowercase,
    "bymerge": digits + _LETTERS,
    "balanced": digits + _LETTERS,
    "letters": ascii_uppercase,
    "digits": digits,
    "mnist": digits,
}


class EMNIST(IdxSource):
    """Handwritten letters and digits of NIST's special database 19 in the form of MNIST.

    The pictures lie on their side in the files, with rows and columns exchanged; here they are
    upright. A class of "letters" is a letter in both cases, 1 to 26 in the files and 0 to 25 here.

    Args:
        root: Folder with ``emnist-balanced-train-images-idx3-ubyte`` and so on, plain or ``.gz``.
        split: "byclass", "bymerge", "balanced", "letters", "digits" or "mnist".

    Raises:
        ValueError: If there is no such split.

    Source:
        G. Cohen, S. Afshar, J. Tapson, A. van Schaik, EMNIST: an extension of MNIST to handwritten
        letters, 2017, arXiv:1702.05373.
    """

    citation = "Cohen, Afshar, Tapson, van Schaik (2017), EMNIST, arXiv:1702.05373; from NIST SD 19"

    def __init__(
        self,
        root: str | Path,
        split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = "balanced",
    ) -> None:
        super().__init__(root)
        if split not in EMNIST_CLASSES:
            raise ValueError(f"split is {split!r}, expected one of {', '.join(EMNIST_CLASSES)}")
        self.split = split
        self.class_names = tuple(EMNIST_CLASSES[split])
        self.names = (f"emnist-{split}-train", f"emnist-{split}-test")
        self.first_label = int(split == "letters")

    def upright(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the pictures with rows and columns exchanged."""
        exchanged: NDArray[np.uint8] = images.transpose(0, 2, 1)
        return exchanged
