"""Every config that ships goes through the real command line: fit, test, predict."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spcnn_lightning.commands import main as program
from spcnn_lightning.commands.configs import shipped_configs
from spcnn_lightning.datamodules.sources import pendigits

CLASSES = {
    "quickstart": 10,
    "pendigits8": 10,
    "pendigits": 10,
    "casia": 3755,
    "assamese": 183,
    "omniglot": 2,
    "quickdraw": 2,
    "hanzi": 5,
    "digits": 10,
    "mnist": 10,
    "fashion": 10,
    "cifar10": 10,
    "cifar100": 100,
    "hwdb": 3755,
    "scenes": 10,
}
SMALL_NETWORKS = {
    "cifar10_kaggle": ["--model.network.notation", "2C2-2C2-MP2-" * 5 + "3C2-3C1-10C1"],
}
DIGIT = """
.SEGMENT DIGIT {number} ? "{label}"
.COMMENT {label} {writer}  {number}
.PEN_DOWN
 {x}  333
 {x}  {y}
 310  {y}
.PEN_UP
.DT 100
"""


@pytest.fixture
def pendigits_root(tmp_path, monkeypatch) -> Path:
    """A folder with generated files in the format of the original Pendigits, but few digits."""
    folder = tmp_path / "strokes"
    folder.mkdir()
    monkeypatch.setattr(pendigits, "TRAIN_DIGITS", 60)
    monkeypatch.setattr(pendigits, "TEST_DIGITS", 20)
    for name, count in (("pendigits-orig.tra", 60), ("pendigits-orig.tes", 20)):
        digits = [
            DIGIT.format(number=n, label=n % 10, writer=n % 7, x=100 + 3 * n, y=200 + 5 * (n % 10))
            for n in range(count)
        ]
        (folder / name).write_text("".join(digits), encoding="utf-8")
    return folder


@pytest.fixture
def roots(tmp_path, samples, pendigits_root, picture_roots) -> dict[str, Path]:
    """A folder for each data set, with small generated files in its format."""
    casia, assamese = tmp_path / "casia", tmp_path / "assamese"
    omniglot, quickdraw = tmp_path / "omniglot", tmp_path / "quickdraw"
    for folder in (casia, quickdraw):
        folder.mkdir()
    for writer in (*range(1001, 1021), 1241, 1242):
        records = (samples.pot_record(code, [[(writer, 2), (3, 4)]]) for code in (0xB0A1, 0xD7F9))
        (casia / f"{writer}.pot").write_bytes(b"".join(records))
    for writer in (1, 2, 3, 4, 37):
        for number in range(1, 6):
            path = assamese / f"W{writer}" / f"{number}.{writer}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(samples.ASSAMESE, encoding="utf-8")
    for number in (1, 2):
        for drawer in range(1, 21):
            path = omniglot / "Greek" / f"character{number:02}" / f"{number:04}_{drawer:02}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(samples.OMNIGLOT, encoding="utf-8")
    for word in ("cat", "dog"):
        lines = [samples.quickdraw_line(key, word, [[[1, key], [3, 4]]]) for key in range(40)]
        (quickdraw / f"{word}.ndjson").write_text("".join(lines), encoding="utf-8")
    return {
        "casia": casia,
        "assamese": assamese,
        "omniglot": omniglot,
        "quickdraw": quickdraw,
        "pendigits": pendigits_root,
        **picture_roots,
    }


@pytest.fixture
def picture_roots(tmp_path, picture_samples) -> dict[str, Path]:
    """The same for data sets of pictures."""
    roots = {name: tmp_path / name for name in ("mnist", "fashion", "cifar10", "cifar100", "hwdb")}
    numbers = np.random.default_rng(0)
    grey = numbers.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    colour = numbers.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    for folder in roots.values():
        folder.mkdir()
    for name in ("mnist", "fashion"):
        for part in ("train", "t10k"):
            files = {"images-idx3": grey, "labels-idx1": np.arange(40) % 10}
            for kind, array in files.items():
                path = roots[name] / f"{part}-{kind}-ubyte"
                path.write_bytes(picture_samples.idx_bytes(array))
    for name, fixed in (("cifar10", []), ("cifar100", [0])):
        batches = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
        for file in batches if name == "cifar10" else ("train", "test"):
            records = (picture_samples.cifar_record([*fixed, n % 10], colour[n]) for n in range(40))
            (roots[name] / f"{file}.bin").write_bytes(b"".join(records))
    for writer in (*range(1001, 1021), 1241, 1242):
        records = (
            picture_samples.gnt_record(code, grey[writer % 40, :, : 10 + writer % 9])
            for code in (b"\xb0\xa1", b"\xd7\xf9")
        )
        (roots["hwdb"] / f"{writer}-c.gnt").write_bytes(b"".join(records))
    return roots


@pytest.fixture(scope="module")
def samples() -> ModuleType:
    """The generated files that the tests of the readers use."""
    return load("samples")


@pytest.fixture(scope="module")
def picture_samples() -> ModuleType:
    """The same for pictures."""
    return load("picture_samples")


def load(name: str) -> ModuleType:
    path = Path(__file__).with_name("datamodules") / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", shipped_configs())
@pytest.mark.filterwarnings(
    "ignore:.*(many workers|logging interval|smaller than the logging|no logger folder)",
    "ignore:`isinstance",
    "ignore:You're using the WeightAveraging callback, but loading a checkpoint outside",
)
def test_a_config_fits_tests_and_predicts(name, roots, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    small += ["--trainer.accelerator", "cpu", "--data.batch_size", "10"]
    small += [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test", "predict")]
    small += SMALL_NETWORKS.get(name, ["--model.network.width", "3"])
    small += ["--data.num_workers", "0", "--trainer.strategy", "auto"]  # not of several processes
    data_set = name.partition("_")[0]
    if data_set in roots:
        small += ["--data.source.init_args.root", str(roots[data_set])]
    if data_set in ("cifar10", "cifar100"):
        small += ["--data.source.complete", "false"]
    if data_set == "scenes":
        scenes = "--data.source.scenes"
        small += [f"{scenes}.scenes=12", f"{scenes}.test_scenes=4"]
        small += [f"{scenes}.digits.root={roots['mnist']}"]
    if data_set == "hanzi":
        small += ["--data.source.classes", "5", "--data.source.train_writers", "12"]
        small += ["--data.source.test_writers", "4"]
    for word in ("fit", "test", "predict"):
        checkpoint = [] if word == "fit" else ["--ckpt_path", "last"]
        assert program.main([word, "--config", name, *small, *checkpoint]) == 0
    (table,) = tmp_path.rglob("predictions.*")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 2 <= len(rows) <= 20
    for row in rows:
        chances = [float(row[key]) for key in row if key.startswith("probability")]
        assert len(chances) == CLASSES[data_set]
        assert sum(chances) == pytest.approx(1, abs=1e-3)
