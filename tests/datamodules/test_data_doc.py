"""What docs/data.md and docs/encodings.md say of sources, encodings and augmentation, run."""

import re
import shlex

import pytest
import yaml

from spcnn_lightning.commands.experiment import load_experiment
from spcnn_lightning.datamodules import HandwritingDataModule, pictures, raster, sources
from spcnn_lightning.datamodules.pictures import PictureSource


def test_every_source_is_listed(repository):
    text = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    for name in set(sources.__all__) - {"StrokeSource"}:
        assert f"`{name}`" in text
    for name in pictures.__all__:
        if issubclass(getattr(pictures, name), PictureSource):
            assert f"`{name}`" in text


def blocks(repository, name, language=""):
    text = (repository / "docs" / name).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [body for written, body in found if written == language]


def test_the_program_of_a_source_of_your_own_can_be_trained_on(repository):
    (program,) = blocks(repository, "data.md", "python")
    names = {}
    exec(program, names)
    data = HandwritingDataModule(names["Marks"]())
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        batch, targets = next(iter(loader))
        assert batch.num_sites > 0
        assert set(targets.tolist()) <= {0, 1}


def test_every_encoder_and_augmentation_is_listed_with_its_arguments(repository):
    text = (repository / "docs" / "encodings.md").read_text(encoding="utf-8")
    for name in raster.__all__:
        kind = getattr(raster, name)
        if not isinstance(kind, type) or kind in (raster.Encoder, raster.Augmentation):
            continue
        if issubclass(kind, (raster.Encoder, raster.Augmentation)):
            assert f"| `{name}`" in text
    for encoder in (raster.Octogram(), raster.UndirectedOctogram(), raster.Curvature()):
        assert re.search(rf"`{type(encoder).__name__}`.*\| {encoder.in_channels} \|", text)
    for needing in (raster.Speed, raster.Pressure, raster.SpeedWarp):
        (line,) = [x for x in text.splitlines() if x.startswith(f"| `{needing.__name__}`")]
        assert all(f"needs **{name}**" in line for name in needing.needs)


@pytest.fixture
def my_ink(repository, tmp_path, monkeypatch):
    (program,) = blocks(repository, "encodings.md", "python")
    (tmp_path / "my_ink.py").write_text(program, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_every_command_of_encodings_builds_what_it_says(repository, my_ink):
    lines = [line for block in blocks(repository, "encodings.md") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("spcnn fit")]
    built = {}
    for words in commands:
        data = load_experiment(words[3], [*words[4:], "--model.network.width=2"]).data
        parts = data.training_rasteriser.augmentation.parts
        key = "+".join(type(part).__name__ for part in (*data.encoder.parts, *parts))
        built[key] = data
    assert list(built) == [
        "Signature+HandwritingAugmentation",
        "Octogram+Curvature+HandwritingAugmentation",
        "SpaceTime+Octogram+HandwritingAugmentation",
        "Octogram+HandwritingAugmentation",
        "Octogram+HandwritingAugmentation+Elastic",
        "FirstMet+Drift",
    ]
    mine = built["FirstMet+Drift"]
    batch, _ = next(iter(mine.train_dataloader()))
    assert batch.num_channels == 1
    assert 0 == batch.features.min() < batch.features.max() <= 1.1


def test_the_config_of_encodings_is_understood(repository, tmp_path):
    (settings,) = blocks(repository, "encodings.md", "yaml")
    file = tmp_path / "more.yaml"
    file.write_text(settings, encoding="utf-8")
    assert yaml.safe_load(settings)["data"]["class_path"] == "HandwritingDataModule"
    data = load_experiment("quickstart", ["--config", str(file)]).data
    assert data.encoder.parts[1].reach == 3
    assert data.training_rasteriser.augmentation.parts[1].amount == 0.05
