import subprocess
import sys

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    Bitmap,
    Curvature,
    Encodings,
    HandwritingAugmentation,
    HandwritingDataModule,
    Octogram,
    Pendigits,
    PenDigits8,
    Rasteriser,
    Signature,
    SimulatedHanzi,
    SpaceTime,
)


@pytest.fixture
def make(few_digits):
    def module(**settings):
        return HandwritingDataModule(few_digits, **({"batch_size": 16, "seed": 1} | settings))

    return module


def sizes(loader):
    return [targets.shape[0] for _, targets in loader]


def test_what_a_network_needs_is_known_before_anything_is_read(tmp_path):
    data = HandwritingDataModule(Pendigits(tmp_path / "absent"), box=8)
    assert (data.num_classes, data.in_channels, data.spatial_shape) == (10, 9, (24, 24))
    assert data.class_names == tuple("0123456789")
    with pytest.raises(DataError, match=r"pendigits-orig\.tra is missing"):
        data.prepare_data()


def test_the_parts_and_their_batches(make):
    data = make(encoder=Bitmap(), spatial_shape=(40, 56), validation_fraction=0.2)
    data.prepare_data()
    data.setup()
    assert sizes(data.train_dataloader()) == [16, 16, 16]
    assert sizes(data.val_dataloader()) == [12]
    assert sizes(data.test_dataloader()) == [16, 4]
    assert sizes(data.predict_dataloader()) == [16, 4]
    batch, targets = next(iter(data.train_dataloader()))
    assert batch.spatial_shape == (40, 56)
    assert batch.num_channels == data.in_channels == 1
    assert targets.dtype == torch.int64


def test_test_batches_come_in_order_and_undistorted(make, few_digits):
    data = make()
    data.setup("test")
    labels = torch.cat([targets for _, targets in data.test_dataloader()])
    assert labels.tolist() == few_digits.test().labels.tolist()
    first = [batch.features for batch, _ in data.test_dataloader()]
    again = [batch.features for batch, _ in data.predict_dataloader()]
    torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_training_on_all_leaves_nothing_for_validation(make):
    data = make(train_on_all=True, validation_fraction=0.3)
    data.setup("fit")
    assert sum(sizes(data.train_dataloader())) == 60
    assert data.val_dataloader() == []


def test_validation_data_do_not_depend_on_the_seed_of_the_run(make):
    held_out = []
    for settings in ({"seed": 1}, {"seed": 2}, {"seed": 1, "split_seed": 5}):
        data = make(**settings)
        data.setup("fit")
        batches = [batch for batch, _ in data.val_dataloader()]
        held_out.append([tuple(batch.features.sum(0).tolist()) for batch in batches])
    assert held_out[0] == held_out[1] != held_out[2]


def test_augmentation_can_be_chosen_or_switched_off(make):
    plain, shifted = make(augment=False), make(augmentation=HandwritingAugmentation(shift=0.0))
    assert plain.training_rasteriser.augmentation is None
    assert shifted.training_rasteriser.augmentation.shift == 0.0
    assert make().training_rasteriser.augmentation.shift is None
    dataset = plain.train_dataloader().dataset
    first, second = (dataset.prepare([(epoch, 0)]).batch for epoch in (0, 1))
    torch.testing.assert_close(first.features, second.features, rtol=0, atol=0)


def test_the_seed_comes_from_the_run_unless_given(make):
    orders = []
    for seed, manual in ((None, 11), (None, 11), (None, 12), (3, 12), (3, 11)):
        torch.manual_seed(manual)
        data = make(seed=seed)
        data.setup("fit")
        orders.append([tuple(targets.tolist()) for _, targets in data.train_dataloader()])
    assert orders[0] == orders[1] != orders[2] != orders[3] == orders[4]


def test_a_checkpoint_brings_back_constants_and_seed(make):
    torch.manual_seed(11)
    trained = make(seed=None)
    trained.setup("fit")
    state = trained.state_dict() | {"feature_scale": torch.arange(1.0, 10.0)}
    torch.manual_seed(12)
    for seed in (None, 4):
        other = make(seed=seed)
        other.setup("fit")
        other.load_state_dict(state)
        assert other.feature_scale.tolist() == list(range(1, 10))
        loader = other.train_dataloader()
        assert loader.dataset.feature_scale.tolist() == list(range(1, 10))
        assert loader.state_dict()["seed"] == (11 if seed is None else 4)


@pytest.mark.parametrize(
    ("trained", "tested", "named"),
    [
        ({"encoder": Octogram()}, {"encoder": Bitmap()}, "encoders .*Octogram.*Bitmap"),
        ({"encoder": Curvature()}, {"encoder": Curvature(2.0)}, r"'reach': None.*'reach': 2\.0"),
        (
            {"encoder": Encodings([Bitmap(), Signature(2)])},
            {"encoder": Encodings([Bitmap(), Signature(2, delta=3.0)])},
            r"'delta': 3\.0",
        ),
        (
            {"encoder": SpaceTime(Bitmap())},
            {"encoder": SpaceTime(Bitmap(), "time")},
            "'by': 'length'.*'by': 'time'",
        ),
        ({"box": 16}, {"box": 12, "spatial_shape": (48, 48)}, "box 16, this data module has 12"),
        ({}, {"spatial_shape": (64, 48)}, r"spatial_shape \[48, 48\], .* has \[64, 48\]"),
    ],
)
def test_a_checkpoint_of_other_features_is_refused(make, trained, tested, named):
    state = make(**trained).settings() | {"seed": 1, "feature_scale": torch.ones(9)}
    make(**trained).load_state_dict(state)
    with pytest.raises(DataError, match=named):
        make(**tested).load_state_dict(state)


def test_constants_come_from_the_characters_trained_on(make):
    data = make(validation_fraction=0.5)
    data.setup("test")
    scale = data.feature_scale
    assert scale.shape == (9,)
    assert torch.equal(scale, make(validation_fraction=0.5, seed=9).feature_scale)
    assert not torch.equal(scale, make(train_on_all=True).feature_scale)


def test_real_strokes_are_split_by_writer(pendigits_root):
    data = HandwritingDataModule(Pendigits(pendigits_root), validation_writers=[3, 30])
    data.setup("fit")
    assert set(data.val_dataloader().dataset.strokes.writers.tolist()) == {3, 30}
    assert not {3, 30} & set(data.train_dataloader().dataset.strokes.writers.tolist())


def test_printing_says_what_is_known_and_reads_nothing(tmp_path, make):
    absent = HandwritingDataModule(Pendigits(tmp_path / "absent"), box=8)
    assert str(absent) == (
        "HandwritingDataModule: 10 classes of Pendigits, features per site: 9, field (24, 24)"
    )
    data = make(validation_fraction=0.2)
    data.setup("fit")
    assert str(data).endswith("field (48, 48); train: 48 samples, val: 12 samples")
    data.setup()
    assert str(data).endswith("train: 48 samples, val: 12 samples, test: 20 samples")


def test_the_default_source_is_the_embedded_one():
    assert isinstance(HandwritingDataModule().source, PenDigits8)


def test_a_label_that_the_source_does_not_name_is_refused(few_digits):
    few_digits.class_names = ("0", "1")
    with pytest.raises(DataError, match="FewDigits gave label 9, but has 2 classes"):
        HandwritingDataModule(few_digits).setup("fit")


def test_a_config_can_name_every_part():
    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    settings = {
        "source": {"class_path": "Pendigits", "init_args": {"root": "absent"}},
        "encoder": {"class_path": "Bitmap"},
        "augmentation": {"class_path": "HandwritingAugmentation", "init_args": {"shift": 2.0}},
        "spatial_shape": [40, 50],
        "validation_writers": [1, 2],
    }
    config = parser.parse_object(
        {"data": {"class_path": "HandwritingDataModule", "init_args": settings}}
    )
    # jsonargparse renamed the method in 4.49.
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    data = instantiate(config).data
    assert (data.in_channels, data.spatial_shape, data.num_classes) == (1, (40, 50), 10)
    assert isinstance(data.source, Pendigits)
    assert data.training_rasteriser.augmentation.shift == 2.0


def test_importing_the_package_does_not_import_lightning():
    code = (
        "import sys, spcnn_lightning.datamodules as d; d.HandwritingDataset; "
        "print('lightning' in sys.modules or 'pytorch_lightning' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "False", result.stderr


def test_an_unknown_name_is_an_attribute_error():
    import spcnn_lightning.datamodules

    with pytest.raises(AttributeError, match="has no attribute 'Missing'"):
        spcnn_lightning.datamodules.Missing  # noqa: B018


def test_evaluation_uses_the_constants_of_training(make):
    data = make(augment=False, validation_fraction=0.5)
    data.setup()
    plain = Rasteriser(data.spatial_shape, 16, data.encoder)
    for name, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        raw = plain(data._parts[name].select(range(16))).features
        batch, _ = next(iter(loader))
        count = int((batch.coords[:, 0] < min(16, batch.batch_size)).sum())
        scaled = torch.from_numpy(raw)[:count] / data.feature_scale
        torch.testing.assert_close(batch.features[:count], scaled)
    assert not torch.equal(data.feature_scale, torch.ones(9))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["八", "啊"], "2 classes, the source has 2; class 0 is '啊' there and '八' here"),
        (["啊", "八", "一"], "2 classes, the source has 3; class 2 is None there and '一' here"),
    ],
)
def test_a_checkpoint_of_other_classes_is_refused(classes, message):
    """Otherwise a test would count right answers as wrong without a word."""

    def module(classes):
        return HandwritingDataModule(SimulatedHanzi(classes=classes), box=16, seed=1)

    trained = module(["啊", "八"])
    state = trained.state_dict()
    module(["啊", "八"]).load_state_dict(state)
    with pytest.raises(DataError, match=message):
        module(classes).load_state_dict(state)
    del state["class_names"]  # of before they were kept
    module(classes).load_state_dict(state)
