"""Every config that ships goes through the real command line: fit, test, predict."""

import csv
from pathlib import Path

import pytest

from spcnn_lightning.commands import main as program
from spcnn_lightning.commands.configs import shipped_configs
from spcnn_lightning.datamodules.sources import pendigits

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
def strokes(tmp_path, monkeypatch) -> Path:
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


@pytest.mark.parametrize("name", shipped_configs())
@pytest.mark.filterwarnings(
    "ignore:.*(many workers|logging interval|smaller than the logging|no logger folder)",
    "ignore:`isinstance",
)
def test_a_config_fits_tests_and_predicts(name, strokes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    small += ["--trainer.accelerator", "cpu", "--data.batch_size", "10"]
    small += [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test", "predict")]
    if name.startswith("pendigits_"):
        small += ["--data.source.init_args.root", str(strokes)]
    for word in ("fit", "test", "predict"):
        checkpoint = [] if word == "fit" else ["--ckpt_path", "last"]
        assert program.main([word, "--config", name, *small, *checkpoint]) == 0
    (table,) = tmp_path.rglob("predictions.*")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        chances = [float(row[key]) for key in row if key.startswith("probability")]
        assert len(chances) == 10
        assert sum(chances) == pytest.approx(1, abs=1e-4)
