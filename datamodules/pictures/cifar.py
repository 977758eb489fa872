"""CIFAR10 and CIFAR100: colour photos of 32 x 32, from the binary files or the Python batches.

A record of the binary version is the label (CIFAR-100: two labels, of the superclass and of the
class) and 3 x 1,024 bytes: the red, green and blue plane, row by row. The Python version pickles a
dict: ``data``, uint8 (n, 3072) in the same order, and lists of labels.

Source:
    A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import PictureArray, PictureSource
from spcnn_lightning.datamodules.pictures.safe_pickle import load_plain_pickle
from spcnn_lightning.datamodules.sources.files import read_file_bytes
from spcnn_lightning.datamodules.sources.parsing import shortened

SIDE = 32
PIXELS = 3 * SIDE * SIDE
COUNTS = {"train": 50_000, "test": 10_000}


class Label(NamedTuple):
    """A label that each picture has.

    Args:
        key: Its name in the Python batches.
        classes: How many there are.
    """

    key: str
    classes: int


class CifarSource(PictureSource):
    """The files of CIFAR-10 or CIFAR-100, binary or pickled, whichever are there.

    Args:
        root: Folder with the unpacked files, or the folder above, in which the archive was
            unpacked.
        complete: Whether all 50,000 training and 10,000 test pictures must be there. False takes
            what the files hold.
    """

    channels = 3
    background = 128.0
    train_files: tuple[str, ...]
    """The training files; in the binary version ``.bin`` follows."""
    test_file: str
    folders: tuple[str, ...]
    """What the archives are unpacked into."""
    labels: tuple[Label, ...]
    """The labels of a picture, in the order of the binary files."""
    label_place = 0
    """Which of them is wanted."""

    def __init__(self, root: str | Path, complete: bool = True) -> None:
        self.root, self.complete = Path(root), complete

    def check(self) -> None:
        """Raise `DataError` if a file is missing."""
        self._find("train")
        self._find("test")

    def train(self) -> PictureArray:
        """Return the training part."""
        return self._read("train")

    def test(self) -> PictureArray:
        """Return the official test part."""
        return self._read("test")

    def _find(self, part: str) -> list[Path]:
        """Return the files of a part, all binary or all pickled."""
        names = self.train_files if part == "train" else (self.test_file,)
        for folder in (self.root, *(self.root / name for name in self.folders)):
            for ending in (".bin", ""):
                paths = [folder / (name + ending) for name in names]
                missing = [path for path in paths if not path.is_file()]
                if not missing:
                    return paths
                if len(missing) < len(paths):
                    raise DataError(f"{missing[0]} is missing: unpack the archive again")
        raise DataError(
            f"{self.root} holds no {names[0]} or {names[0]}.bin, nor do "
            f"{' and '.join(self.folders)} there: download the binary or the Python version from "
            "https://www.cs.toronto.edu/~kriz/cifar.html, unpack it and name its folder as root"
        )

    def _read(self, part: str) -> PictureArray:
        paths = self._find(part)
        batches = [self._read_file(path) for path in paths]
        images = np.concatenate([images for images, _ in batches])
        if self.complete and len(images) != COUNTS[part]:
            raise DataError(
                f"{paths[0].parent}: {len(images)} pictures in {len(paths)} files of the {part} "
                f"part, the official ones have {COUNTS[part]}: get them again, or set "
                "complete=False"
            )
        return PictureArray(images, np.concatenate([labels for _, labels in batches]))

    def _read_file(self, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        data = read_file_bytes(path)
        is_binary = path.suffix == ".bin"
        rows, labels = (self._binary if is_binary else self._pickled)(data, path)
        planes = rows.reshape(-1, 3, SIDE, SIDE)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels[:, self.label_place]

    def _binary(self, data: bytes, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return pictures, shape (n, 3072), and labels, shape (n, number of labels)."""
        count = len(self.labels)
        record = count + PIXELS
        if not data or len(data) % record:
            place = len(data) // record * record
            raise DataError(
                f"{path}: byte {place}: {len(data) - place} bytes left, expected a record of "
                f"{record}: the file is cut off or damaged"
            )
        records = np.frombuffer(data, np.uint8).reshape(-1, record)
        labels = records[:, :count].astype(np.int64)
        for index, label in enumerate(self.labels):
            wrong = labels[:, index] >= label.classes
            if wrong.any():
                place = int(wrong.argmax())
                raise DataError(
                    f"{path}: byte {place * record + index}: label {labels[place, index]}, "
                    f"expected 0 to {label.classes - 1}"
                )
        return records[:, count:], labels

    def _pickled(self, data: bytes, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the same from a Python batch."""
        batch = load_plain_pickle(data, str(path))
        if not isinstance(batch, dict):
            raise DataError(f"{path}: a pickled {type(batch).__name__}, expected a dict")
        rows = batch.get("data")
        if not isinstance(rows, np.ndarray) or rows.shape[1:] != (PIXELS,):
            found = f"shape {rows.shape}" if isinstance(rows, np.ndarray) else "no array"
            raise DataError(f"{path}: data has {found}, expected (n, {PIXELS}) bytes")
        columns = [_label_list(batch, label, len(rows), path) for label in self.labels]
        return rows, np.stack(columns, axis=1)


def _label_list(batch: dict[str, Any], label: Label, count: int, path: Path) -> NDArray[np.int64]:
    values = batch.get(label.key)
    if not isinstance(values, list) or len(values) != count:
        found = len(values) if isinstance(values, list) else "no"
        raise DataError(f"{path}: a list {label.key!r} of {found} labels, expected {count}")
    for place, value in enumerate(values):
        if type(value) is not int or not 0 <= value < label.classes:
            found = shortened(value) if isinstance(value, int) else type(value).__name__
            raise DataError(
                f"{path}: {label.key}[{place}] is {found}, expected 0 to {label.classes - 1}"
            )
    return np.array(values, np.int64)


class CIFAR10(CifarSource):
    """50,000 training and 10,000 test photos of 10 classes.

    Args:
        root: Folder with ``data_batch_1.bin`` and so on, or ``data_batch_1`` and so on; or the
            folder above it.
        complete: See `CifarSource`.

    Source:
        A. Krizhevsky, Learning multiple layers of features from tiny images, 2009; no licence is
        stated.
    """

    class_names = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    citation = "Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images"
    train_files = tuple(f"data_batch_{n}" for n in range(1, 6))
    test_file = "test_batch"
    folders = ("cifar-10-batches-bin", "cifar-10-batches-py")
    labels = (Label("labels", 10),)


_SUPERCLASSES = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
    household_furniture insects large_carnivores large_man-made_outdoor_things
    large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals
    non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""
_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class CIFAR100(CifarSource):
    """50,000 training and 10,000 test photos of 100 classes in 20 superclasses.

    Args:
        root: Folder with ``train.bin`` and ``test.bin``, or ``train`` and ``test``; or the folder
            above it.
        superclasses: Take the 20 superclasses as classes.
        complete: See `CifarSource`.

    Source:
        A. Krizhevsky, Learning multiple layers of features from tiny images, 2009; no licence is
        stated.
    """

    citation = CIFAR10.citation
    train_files, test_file = ("train",), "test"
    folders = ("cifar-100-binary", "cifar-100-python")
    labels = (Label("coarse_labels", 20), Label("fine_labels", 100))

    def __init__(self, root: str | Path, superclasses: bool = False, complete: bool = True) -> None:
        super().__init__(root, complete)
        self.label_place = 0 if superclasses else 1
        self.class_names = tuple((_SUPERCLASSES if superclasses else _CLASSES).split())
