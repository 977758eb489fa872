"""ImagePaddingDataModule: parts, seeds, workers, resuming, checkpoints, and what networks see."""

import copy
import hashlib

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    ArrayScenes,
    BackgroundSubtraction,
    ColourShift,
    Edges,
    ImagePaddingDataModule,
    PictureAugmentation,
    PictureDataset,
    Scene,
    Threshold,
)
from spcnn_lightning.datamodules.pictures import Digits, PictureList, PictureSource
from spcnn_lightning.networks import DeepCNet, DeepCNiN
from spcnn_lightning.reference.twin import dense_twin


class Scraps(PictureSource):
    """54 training and 10 test pictures in colour, no two of one size."""

    class_names = ("even", "odd")
    citation = "none"
    channels = 3
    background = 128.0

    def __init__(self, grey: bool = False):
        self.grey = grey

    def _pictures(self, count, seed):
        generator = np.random.default_rng(seed)
        sizes = generator.integers(3, 9, (count, 2))
        pictures = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        if self.grey:
            pictures[0] = np.full((8, 8, 3), 128, np.uint8)
        return PictureList(pictures, np.arange(count) % 2)

    def train(self):
        return self._pictures(54, 0)

    def test(self):
        return self._pictures(10, 1)


def test_what_is_no_augmentation_or_sparsifier_is_refused():
    with pytest.raises(ValueError, match="augmentation is False: give a Pict.*augment=False sw"):
        ImagePaddingDataModule(augmentation=False)
    with pytest.raises(ValueError, match="sparsifier is 'Edges': give a Sparsifier, or None"):
        ImagePaddingDataModule(sparsifier="Edges")


@pytest.mark.parametrize("name", ["class_names", "channels", "background"])
def test_a_source_that_does_not_say_all_is_refused(name, monkeypatch):
    monkeypatch.delattr(Scraps, name)
    with pytest.raises(DataError, match=f"Scraps has no {name}: set it in the class"):
        ImagePaddingDataModule(Scraps())


@pytest.fixture
def make():
    def module(**settings):
        return ImagePaddingDataModule(
            Scraps(), **({"box": 8, "batch_size": 9, "seed": 3} | settings)
        )

    return module


def fingerprint(batch):
    sparse, targets = batch
    parts = (sparse.coords, sparse.features, targets)
    return hashlib.sha1(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


def test_what_a_network_needs_is_known_before_anything_is_read(make):
    data = make(box=32)
    assert (data.num_classes, data.in_channels, data.spatial_shape) == (2, 3, (96, 96))
    assert data.class_names == ("even", "odd")
    assert make(spatial_shape=(20, 30)).spatial_shape == (20, 30)
    assert make(sparsifier=Edges()).in_channels == 1
    assert isinstance(ImagePaddingDataModule().source, Digits)


def test_printing_says_what_is_known(make):
    data = make(validation_fraction=0.3)
    assert (
        str(data)
        == "ImagePaddingDataModule: 2 classes of Scraps, features per site: 3, field (24, 24)"
    )
    data.setup()
    assert str(data).endswith("; train: 37 samples, val: 17 samples, test: 10 samples")


def test_the_parts_and_their_batches(make):
    data = make(validation_fraction=0.3)
    data.prepare_data()
    data.setup()
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    sizes = [[len(targets) for _, targets in loader] for loader in loaders]
    assert sizes == [[9, 9, 9, 9, 1], [9, 8], [9, 1]]
    assert [len(targets) for _, targets in data.predict_dataloader()] == [9, 1]
    assert make(train_on_all=True).val_dataloader() == []
    batch, targets = next(iter(data.train_dataloader()))
    assert (batch.spatial_shape, batch.num_channels) == ((24, 24), 3)
    assert targets.dtype == torch.int64


def test_test_pictures_are_undistorted_and_in_the_middle(make):
    data = make()
    batch, targets = next(iter(data.test_dataloader()))
    pictures = Scraps().test()
    assert targets.tolist() == pictures.labels[:9].tolist()
    for sample, picture in enumerate(pictures.select(range(9))):
        height, width, _ = picture.shape
        top, left = 12 - height // 2, 12 - width // 2
        values = torch.from_numpy((picture.astype(np.float32) - 128) / 128).permute(2, 0, 1)
        values = values * (values.abs() > 0.02).any(0)
        field = torch.zeros(3, 24, 24)
        field[:, top : top + height, left : left + width] = values
        assert torch.equal(batch.to_dense()[sample], field)


def test_augmentation_can_be_chosen_or_switched_off(make):
    assert make(augment=False).training_padder.augmentation is None
    assert make().training_padder.augmentation.flip is False
    chosen = PictureAugmentation(flip=True, colour=ColourShift())
    assert make(augmentation=chosen).training_padder.augmentation is chosen
    assert make(augmentation=chosen).evaluation_padder.augmentation is None


def test_background_and_threshold_can_be_chosen(make):
    white = make(background=(255.0, 255.0, 255.0), threshold=0.5, augment=False)
    batch, _ = next(iter(white.train_dataloader()))
    assert batch.features.max() <= 0
    assert batch.features.amin(1).max() < -0.5
    with pytest.raises(ValueError, match=r"background \(0\.0, 1\.0\) has 2 values"):
        make(background=(0.0, 1.0))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(make, workers):
    batches = []
    for count in (0, workers):
        loader = make(num_workers=count).train_dataloader()
        batches.append([])
        for epoch in range(2):
            loader.set_epoch(epoch)
            batches[-1] += [fingerprint(batch) for batch in loader]
        loader.close()
    assert batches[0] == batches[1]
    assert len(set(batches[0])) == len(batches[0])


def test_a_sample_is_a_function_of_seed_epoch_and_index(make):
    data = make().train_dataloader().dataset
    together = data.prepare([(2, 5), (0, 5), (2, 7), (2, 5)]).batch.to_dense()
    assert torch.equal(together[0], together[3])
    assert not torch.equal(together[0], together[1])
    assert torch.equal(together[2], data[(2, 7)][0].to_dense()[0])
    other = PictureDataset(data.pictures, data.padder, seed=4)
    assert not torch.equal(other[(2, 5)][0].to_dense()[0], together[0])


def test_pictures_larger_than_the_field_are_refused_by_name(make):
    data = make(spatial_shape=(6, 24))
    with pytest.raises(DataError, match=r"picture \d+ has [78] x \d pixels .* 6 x 24 sites"):
        list(data.test_dataloader())


def test_a_source_that_misstates_its_channels_is_refused(make):
    data = make()
    data.source.channels = 1
    with pytest.raises(DataError, match="Scraps gave a picture of 3 channels, but says 1"):
        data.setup("fit")


def test_a_checkpoint_brings_back_the_seed_and_refuses_other_values(make):
    torch.manual_seed(11)
    state = make(seed=None).state_dict()
    torch.manual_seed(12)
    other = make(seed=None)
    other.load_state_dict(state)
    assert other.train_dataloader().state_dict()["seed"] == 11
    for changed in ({"background": 0.0}, {"threshold": 0.1}, {"sparsifier": Threshold()}):
        (name,) = changed
        with pytest.raises(DataError, match=f"the checkpoint was trained with {name}"):
            make(**changed).load_state_dict(state)


class Killed(Exception):  # noqa: N818  # not an error: the machine was switched off
    pass


class Recorder(LightningModule):
    def __init__(self, die_after=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.seen, self.die_after = [], die_after

    def training_step(self, batch, batch_idx):
        if len(self.seen) == self.die_after:
            raise Killed
        self.seen.append(fingerprint(batch))
        return (batch[0].features @ self.weight).sum()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings(
    "ignore:.*(many workers|log_every_n_steps|is not empty|ckpt_path|LeafSpec|treespec)"
)
@pytest.mark.parametrize(("workers", "killed_after"), [(0, 2), (0, 8), (2, 8)])
def test_a_killed_run_goes_on_with_the_next_batch(make, tmp_path, workers, killed_after):
    def fit(data, die_after=None, resume=None, callbacks=()):
        model = Recorder(die_after)
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=bool(callbacks),
            callbacks=[*callbacks],
            max_epochs=3,
        )
        try:
            trainer.fit(model, data, ckpt_path=resume)
        except Killed:
            assert die_after is not None
        return model.seen

    unbroken = fit(make(validation_fraction=0.1))
    assert len(set(unbroken)) == 18
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
    settings = {"validation_fraction": 0.1, "num_workers": workers}
    before = fit(make(**settings), die_after=killed_after, callbacks=[saver])
    after = fit(make(**settings), resume=str(tmp_path / "last.ckpt"))
    assert before == unbroken[:killed_after]
    assert after == unbroken[killed_after:]


def test_a_grey_picture_has_no_site_and_gets_the_ground_states_prediction():
    data = ImagePaddingDataModule(Scraps(grey=True), box=8, augment=False, train_on_all=True)
    dataset = data.train_dataloader().dataset
    batch = dataset.prepare([0, 1]).batch
    assert batch.active_set.sites_per_sample()[0] == 0
    torch.manual_seed(0)
    network = DeepCNiN(3, 4, num_classes=2, in_channels=3, spatial_shape=(24, 24)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # biases too: a ground state that is not zero
    with torch.no_grad():
        logits = network(batch)
        empty = dense_twin(network)(torch.zeros(1, 3, 24, 24))
    torch.testing.assert_close(logits[:1], empty)
    assert not torch.allclose(logits[1], logits[0])


@pytest.mark.parametrize("kind", [DeepCNet, DeepCNiN])
@pytest.mark.parametrize("placement", ["centre", "corner"])
def test_padded_pictures_through_the_network_equal_the_dense_twin(make, kind, placement):
    augmentation = PictureAugmentation(flip=True, shift=4, colour=ColourShift())
    data = make(augmentation=augmentation, placement=placement)
    batch = next(iter(data.train_dataloader()))[0].to(torch.float64)
    torch.manual_seed(1)
    network = kind(3, 5, num_classes=2, in_channels=3, spatial_shape=(24, 24)).double().eval()
    twin = dense_twin(copy.deepcopy(network))
    field = batch.to_dense().requires_grad_()
    features = batch.features.clone().requires_grad_()
    ours, theirs = network(batch.replace(features=features)), twin(field)
    weights = torch.randn(ours.shape, dtype=torch.float64)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()

    def compare(one, other):
        torch.testing.assert_close(
            one, other, rtol=0, atol=1e-10 * float(other.detach().abs().max())
        )

    compare(ours, theirs)
    compare(features.grad, field.grad.permute(0, 2, 3, 1)[batch.coords.long().unbind(1)])
    pairs = zip(network.parameters(), twin.parameters(), strict=True)
    for number, (parameter, dense) in enumerate(pairs):
        assert parameter.grad is not None, number
        assert parameter.grad.abs().max() > 0
        compare(parameter.grad.reshape(-1), dense.grad.reshape(-1))


def test_a_config_can_name_every_part():
    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    settings = {
        "source": {"class_path": "Digits"},
        "sparsifier": {"class_path": "Threshold", "init_args": {"least": 0.2}},
        "augmentation": {
            "class_path": "PictureAugmentation",
            "init_args": {"shift": 2, "colour": {"class_path": "ColourShift"}},
        },
        "placement": [3, 4],
        "background": 10,
        "spatial_shape": [40, 50],
    }
    config = parser.parse_object(
        {"data": {"class_path": "ImagePaddingDataModule", "init_args": settings}}
    )
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    data = instantiate(config).data
    assert (data.in_channels, data.spatial_shape, data.num_classes) == (1, (40, 50), 10)
    assert tuple(data.training_padder.placement) == (3, 4)
    assert isinstance(data.training_padder.sparsifier, Threshold)
    assert isinstance(data.training_padder.augmentation.colour, ColourShift)


def test_an_empty_batch_has_the_features_of_the_others():
    data = ImagePaddingDataModule(Scraps(), box=8)
    data.setup("fit")
    ((batch, targets),) = data.training_data(seed=1).__getitems__([])
    assert (batch.batch_size, batch.num_channels, len(targets)) == (0, 3, 0)


def reference(value):
    return BackgroundSubtraction(np.full((8, 8), value, np.uint8))


@pytest.mark.parametrize(
    ("trained", "tested", "named"),
    [
        ({"sparsifier": Threshold(0.1)}, {"sparsifier": Threshold(0.9)}, "'least': 0.9"),
        ({}, {"placement": "corner"}, "placement centre, this data module has corner"),
        ({}, {"sparsifier": Threshold(0.1)}, "sparsifier NoneType"),
        ({"sparsifier": reference(0)}, {"sparsifier": reference(1)}, "'reference': '"),
    ],
)
def test_a_checkpoint_of_other_steps_is_refused(trained, tested, named):
    state = ImagePaddingDataModule(Digits(), **trained).settings() | {"seed": 1}
    ImagePaddingDataModule(Digits(), **trained).load_state_dict(state)
    with pytest.raises(DataError, match=named):
        ImagePaddingDataModule(Digits(), **tested).load_state_dict(state)


def test_scenes_without_regions_are_refused():
    scenes = ArrayScenes([Scene(np.zeros((4, 4, 1), np.uint8), np.ones((4, 4), int), [0])] * 2, [])
    with pytest.raises(
        DataError, match=r"ArrayScenes is no source of pictures.* Regions\(scenes\)"
    ):
        ImagePaddingDataModule(scenes)


def test_one_background_is_none_for_a_mask_as_a_channel():
    masked = Digits()
    masked.channels, masked.background = 2, (128.0, 0.0)
    with pytest.raises(ValueError, match=r"background is 128.*have \(128.0, 0.0\)"):
        ImagePaddingDataModule(masked, background=128)


def test_a_shift_is_a_whole_number_of_sites():
    with pytest.raises(ValueError, match=r"shift is 1.5: give a whole number"):
        PictureAugmentation(shift=1.5)


@pytest.mark.parametrize("background", [3, np.float32(3), (3.0,), [3]])
def test_a_checkpoint_holds_any_background_in_plain_types(background):
    settings = ImagePaddingDataModule(Digits(), background=background).settings()
    assert settings["background"] == [3.0]
    assert type(settings["background"][0]) in (int, float)


def test_what_a_sparsifier_keeps_for_itself_is_no_setting():
    used, fresh = (ImagePaddingDataModule(Digits(), sparsifier=Threshold(0.1)) for _ in range(2))
    used.evaluation_padder.sparsifier._calls = 7
    assert used.settings() == fresh.settings()
