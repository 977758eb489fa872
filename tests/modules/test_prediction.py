"""The table of predictions, in both formats."""

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.errors import MissingExtraError, SpcnnError
from spcnn_lightning.modules import Prediction, PredictionWriter
from spcnn_lightning.modules.prediction import prediction_columns
from spcnn_lightning.modules.tables import table_type

Make = Callable[..., Any]


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows with the types they were written with."""
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'parquet'")
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return rows
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {
                key: value if key in ("name", "predicted_name") else float(value) if value else None
                for key, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


@pytest.fixture(params=["csv", "parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A table in a folder that does not exist yet."""
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    return tmp_path / "new folder" / f"table.{request.param}"


def test_the_table_holds_every_sample_in_order(
    path: Path, data: Any, make_module: Make, make_trainer: Make
):
    module = make_module()
    trainer = make_trainer(callbacks=[PredictionWriter(str(path))])
    predictions = trainer.predict(module, data)
    probabilities = torch.cat([prediction.probabilities for prediction in predictions])

    rows = read(path)
    assert [row["index"] for row in rows] == list(range(13))
    assert [row["target"] for row in rows] == [number % 7 for number in range(13)]
    assert [row["predicted"] for row in rows] == probabilities.argmax(1).tolist()
    assert [row["predicted_name"] for row in rows] == [
        f"class {int(row['predicted'])}" for row in rows
    ]
    written = torch.tensor([[row[f"probability_{k}"] for k in range(7)] for row in rows])
    torch.testing.assert_close(written, probabilities, rtol=0, atol=0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_table_has_names_where_the_data_have_them(
    path: Path, data: Any, make_module: Make, make_trainer: Make
):
    class Named(list):
        sample_names = [f"{number}.png" for number in range(13)]  # noqa: RUF012

    data.samples = Named(data.samples)
    trainer = make_trainer(callbacks=[PredictionWriter(str(path))])
    trainer.predict(make_module(), data)
    rows = read(path)
    assert [row["name"] for row in rows] == Named.sample_names
    assert list(rows[0])[:3] == ["index", "name", "predicted"]

    # The data module is still there, and its names are not those of other data.
    unnamed = data.loader().__class__(list(data.samples)[:5], collate_fn=collate)
    trainer.predict(make_module(), dataloaders=unnamed)
    assert "name" not in read(path)[0]


def test_unknown_targets_stay_empty(path: Path, data: Any, make_module: Make, make_trainer: Make):
    loader = DataLoader([sample for sample, _ in data.samples], batch_size=5, collate_fn=collate)
    make_trainer(callbacks=[PredictionWriter(str(path))]).predict(make_module(), loader)
    rows = read(path)
    assert [row["target"] for row in rows] == [None] * 13
    assert "predicted_name" not in rows[0]


def test_parts_of_several_processes_become_one_table(path: Path):
    path.parent.mkdir()
    parts = []
    for rank in range(2):
        # The first sample twice, as a sampler leaves it that pads.
        index = [[0, 2, 4], [0, 1, 3]][rank]
        numbers = torch.tensor(index)
        probabilities = torch.stack([numbers / 10, 1 - numbers / 10], dim=1)
        columns = prediction_columns(index, Prediction(probabilities, numbers % 2, None))
        part = path.with_name(f"{rank}{path.suffix}")
        table = table_type(path)(part, columns)
        table.write(columns)
        table.close()
        parts.append(part)
    table_type(path).merge(parts, path)
    rows = read(path)
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["probability_0"] for row in rows] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_keys_of_epoch_samplers_are_understood():
    writer = PredictionWriter("table.csv")
    assert writer._sample_numbers([(3, 0), (3, 7)], 2, 1) == [0, 7]
    assert writer._sample_numbers(None, 2, 1) == [8, 9]
    with pytest.raises(SpcnnError, match="tables of 2 processes cannot be put in order"):
        writer._sample_numbers([], 2, 2)


def test_shuffled_samples_are_refused(
    tmp_path: Path, data: Any, make_module: Make, make_trainer: Make
):
    backwards = list(reversed(range(13)))
    loader = DataLoader(data.samples, batch_size=5, sampler=backwards, collate_fn=collate)
    path = tmp_path / "table.csv"
    with pytest.raises(SpcnnError, match=r"sample 11 comes after sample 12: .* without shuffling"):
        make_trainer(callbacks=[PredictionWriter(str(path))]).predict(make_module(), loader)
    assert not path.exists()


def test_other_outputs_and_endings_are_refused(
    data: Any, make_module: Make, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ValueError, match=r"table\.txt: name it \.csv or \.parquet"):
        PredictionWriter("table.txt")
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        prediction_columns([0], Prediction(torch.ones(1, 3), torch.zeros(1), None), ["a", "b"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"spcnn-lightning\[parquet\]"):
        PredictionWriter("table.parquet")
