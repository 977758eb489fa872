"""Scenes, their regions as pictures, superpixels, and what networks see of them."""

import copy
import sys

import numpy as np
import pytest
import torch

from spcnn_lightning.core.errors import DataError, MissingExtraError
from spcnn_lightning.datamodules import (
    ArrayScenes,
    DigitScenes,
    FewPictures,
    ImagePaddingDataModule,
    PictureAugmentation,
    Regions,
    Scene,
    Superpixels,
)
from spcnn_lightning.datamodules.pictures.superpixels import relabelled
from spcnn_lightning.networks import DeepCNet
from spcnn_lightning.nn import Activation, BatchNorm, Readout, SparseConv, SubmanifoldConv
from spcnn_lightning.reference.twin import dense_twin

PICTURE = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
MASK = np.array(
    [
        [0, 0, 4, 4, 4, 0],
        [0, 7, 7, 7, 4, 0],
        [0, 7, 4, 7, 4, 0],
        [0, 7, 4, 4, 4, 0],
        [0, 0, 0, 0, 0, 9],
    ]
)


@pytest.fixture
def scene():
    """Two regions that interlock, and one of one pixel."""
    return Scene.from_mask(PICTURE, MASK, {4: 1, 7: 0, 9: 1})


def colour_scenes(count, seed=0):
    """Noise in blocks of colour: three classes, some pixels without."""
    numbers = np.random.default_rng(seed)
    scenes = []
    for _ in range(count):
        classes = numbers.integers(0, 4, (4, 5)).repeat(6, 0).repeat(6, 1)
        picture = 60 * classes[..., None] + numbers.integers(0, 12, (24, 30, 3))
        found = np.unique(classes)
        names = {int(c): int(c) - 1 for c in found if c}
        scenes.append(Scene.from_mask(picture.astype(np.uint8), classes, names))
    return scenes


def test_a_mask_of_any_numbers_becomes_a_scene(scene):
    assert scene.labels.tolist() == [1, 0, 1]
    for number, region in ((4, 1), (7, 2), (9, 3), (0, 0)):
        np.testing.assert_array_equal(MASK == number, scene.regions == region)


def test_a_bool_mask_is_one_region():
    scene = Scene(PICTURE, MASK == 7, [3])
    np.testing.assert_array_equal(scene.regions, MASK == 7)
    assert (scene.regions.dtype, scene.labels.tolist()) == (np.int64, [3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scene(PICTURE * 1.0, MASK * 0, []), "the picture is float64 of shape"),
        (lambda: Scene(PICTURE, MASK[1:], []), r"regions are int64 of shape \(4, 6\), .* \(5, 6\)"),
        (lambda: Scene(PICTURE, MASK * 0.5, []), "regions are float64"),
        (lambda: Scene(PICTURE, MASK, [0, 1]), "region 9 has no label: .* regions 1 to 2"),
        (lambda: Scene(PICTURE, -MASK, [0] * 9), "region -9 has no label"),
        (lambda: Scene(PICTURE, MASK, [0] * 9), "region 1 has a label and no pixel"),
        (lambda: Scene(PICTURE, MASK // 4, [0, -2]), "region 2 has label -2"),
        (lambda: Scene(PICTURE, MASK // 4, [0.0, 1.0]), "labels are float64"),
        (lambda: Scene.from_mask(PICTURE, MASK, {4: 1, 7: 0}), "region 9 of the mask has no class"),
        (lambda: Scene.from_mask(PICTURE, MASK, dict.fromkeys((4, 7, 8, 9), 0)), "region 8 has a"),
        (lambda: Scene.from_mask(PICTURE, MASK.T, {}), r"mask numbers are int64 of shape \(6, 5\)"),
        (lambda: ArrayScenes([], []), "no training scene"),
        (
            lambda: ArrayScenes([Scene(PICTURE, MASK * 0, [])], [Scene(PICTURE[..., 0], MASK, [])]),
            "region 9 has no label",
        ),
        (
            lambda: ArrayScenes(
                [Scene(PICTURE, MASK * 0, [])], [Scene(PICTURE[..., 0], MASK * 0, [])]
            ),
            "test scene 0 has 1 channels, expected 3",
        ),
        (
            lambda: Regions(ArrayScenes([Scene(PICTURE, MASK * 0, [])], [])).train(),
            "training scenes of ArrayScenes have no region",
        ),
    ],
)
def test_what_is_no_scene_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_a_region_is_cut_out_along_its_box_in_each_view(scene):
    scenes = ArrayScenes([scene, scene], [scene], background=128.0)
    boxes = [np.s_[0:4, 2:5], np.s_[1:4, 1:4], np.s_[4:5, 5:6]]
    for view, channels, masked in (
        ("region", 4, True),
        ("rectangle", 3, False),
        ("rectangle_and_mask", 4, False),
    ):
        source = Regions(scenes, view)
        assert (source.channels, source.masked) == (channels, masked)
        regions = source.train()
        assert regions.labels.tolist() == [1, 0, 1] * 2
        assert regions.writers.tolist() == [0, 0, 0, 1, 1, 1]
        for number, picture in enumerate(regions.select(range(6))):
            box = boxes[number % 3]
            np.testing.assert_array_equal(picture[..., :3], PICTURE[box])
            if channels == 4:
                mask = 255 * (MASK[box] == (4, 7, 9)[number % 3])
                np.testing.assert_array_equal(picture[..., 3], mask)
    assert Regions(scenes, "rectangle_and_mask").background == (128.0, 128.0, 128.0, 0.0)
    with pytest.raises(ValueError, match="view is 'box', expected one of region, rectangle"):
        Regions(scenes, "box")


def test_a_region_stands_in_the_middle_of_the_field_with_nothing_around_it(scene):
    source = Regions(ArrayScenes([scene], [scene], background=17.0))
    data = ImagePaddingDataModule(source, spatial_shape=(12, 14), mask_feature=True)
    assert (data.in_channels, data.num_classes) == (4, 2)
    batch, targets = next(iter(data.test_dataloader()))
    assert targets.tolist() == [1, 0, 1]
    field = torch.zeros(3, 12, 14, 4)
    for number, (top, left, region) in enumerate([(4, 6, 1), (5, 6, 2), (6, 7, 3)]):
        places = np.argwhere(scene.regions == region)
        for place, (row, column) in zip(places - places.min(0), places, strict=True):
            values = (torch.from_numpy(PICTURE[row, column]).float() - 17) / 238
            field[number, top + place[0], left + place[1]] = torch.tensor([*values, 1])
    torch.testing.assert_close(batch.to_dense(), field.permute(0, 3, 1, 2))
    # One value is the background's: its site is active all the same.
    assert batch.num_sites == (MASK > 0).sum()


def test_regions_of_a_scene_are_held_out_together():
    data = ImagePaddingDataModule(Regions(DigitScenes(scenes=20)), box=24, validation_fraction=0.2)
    data.setup("fit")
    held_out, kept = (set(data._parts[part].writers.tolist()) for part in ("val", "train"))
    assert len(held_out) in (3, 4, 5)
    assert held_out | kept == set(range(20))
    assert not held_out & kept


def test_few_regions_keep_their_masks():
    few = FewPictures(Regions(DigitScenes(scenes=40)), per_class=2)
    assert (few.masked, few.channels) == (True, 2)
    assert np.bincount(few.train().labels).tolist() == [2] * 10


def test_a_checkpoint_of_regions_is_not_one_of_rectangles(scene):
    scenes = ArrayScenes([scene], [scene])
    regions, boxes = (
        ImagePaddingDataModule(Regions(scenes, view)) for view in ("region", "rectangle")
    )
    with pytest.raises(DataError, match="trained with masked True, this data module has False"):
        boxes.load_state_dict(regions.state_dict())


def test_superpixels_have_the_class_of_most_of_their_pixels():
    numbers = np.random.default_rng(0)
    regions = numbers.integers(0, 4, (12, 15))
    segments = numbers.integers(0, 9, (4, 5)).repeat(3, 0).repeat(3, 1)
    regions[segments == segments[0, 0]] = 0  # most of it belongs to nothing
    scene = Scene(numbers.integers(0, 256, (12, 15, 1), dtype=np.uint8), regions, [5, 2, 5])
    result = relabelled(scene, segments)
    classes = np.array([-1, 5, 2, 5])[regions]
    kept = {}
    for segment in np.unique(segments):
        votes = np.bincount(classes[segments == segment] + 1)
        if votes.argmax():
            kept[segment] = votes.argmax() - 1
    assert segments[0, 0] not in kept
    assert sorted(result.labels.tolist()) == sorted(kept.values())
    for segment in np.unique(segments):
        (region,) = np.unique(result.regions[segments == segment])
        assert (region == 0) == (segment not in kept)
        if region:
            assert result.labels[region - 1] == kept[segment]


def test_slic_follows_colours():
    given = ArrayScenes(colour_scenes(3), colour_scenes(2, seed=1), background=128.0)
    scenes = Superpixels(given, segments=40)
    cut = list(scenes.train())
    assert [len(scene.labels) > 10 for scene in cut] == [True] * 3
    for scene, before in zip(cut, given.train(), strict=True):
        classes, old = (np.concatenate([[-1], s.labels])[s.regions] for s in (scene, before))
        assert (classes == old).mean() > 0.95
        again = next(iter(Superpixels(ArrayScenes([before], []), segments=40).train()))
        np.testing.assert_array_equal(scene.regions, again.regions)
    data = ImagePaddingDataModule(Regions(scenes), box=24)
    batch, targets = next(iter(data.train_dataloader()))
    assert (batch.num_channels, len(targets)) == (3, batch.batch_size)


def test_slic_is_told_how_far_to_smooth():
    scenes = ArrayScenes(colour_scenes(1), [])
    rough, smooth = (next(iter(Superpixels(scenes, sigma=s).train())) for s in (0.0, 3.0))
    assert not np.array_equal(rough.regions, smooth.regions)


def test_slic_follows_greys_with_the_same_settings():
    given = colour_scenes(1)[0]
    grey = Scene(given.picture[..., :1], given.regions, given.labels)
    (cut,) = Superpixels(ArrayScenes([grey], []), segments=40).train()
    classes, old = (np.concatenate([[-1], s.labels])[s.regions] for s in (cut, grey))
    assert (classes == old).mean() > 0.95


def test_superpixels_without_scikit_image_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingExtraError, match=r"spcnn-lightning\[pictures\]"):
        Superpixels(ArrayScenes(colour_scenes(1), [])).check()


@pytest.mark.parametrize(
    "settings", [{"segments": 0}, {"compactness": 0.0}, {"sigma": float("nan")}]
)
def test_bad_superpixels_are_refused(settings):
    with pytest.raises(ValueError, match="give"):
        Superpixels(ArrayScenes(colour_scenes(1), []), **settings)


def submanifold():
    """Layers whose results depend on which sites are active."""
    return torch.nn.Sequential(
        SubmanifoldConv(4, 6, (3, 3)),
        BatchNorm(6),
        Activation(torch.nn.LeakyReLU(0.3)),
        SparseConv(6, 5, (2, 2)),
        Readout("mean"),
        torch.nn.Linear(5, 3),
    )


@pytest.mark.parametrize(
    "network",
    [
        lambda: DeepCNet(4, 4, num_classes=3, in_channels=4, spatial_shape=(48, 48)),
        submanifold,
    ],
    ids=["deepcnet", "submanifold"],
)
def test_a_region_through_the_network_equals_the_dense_twin_with_the_mask(network):
    scenes = ArrayScenes(colour_scenes(6), [], background=128.0)
    data = ImagePaddingDataModule(
        Regions(Superpixels(scenes, segments=20)),
        spatial_shape=(48, 48),
        mask_feature=True,
        batch_size=12,
        augmentation=PictureAugmentation(flip=True, shift=3),
        seed=1,
    )
    batch = next(iter(data.train_dataloader()))[0].to(torch.float64)
    torch.manual_seed(2)
    net = network().double().train()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    twin = dense_twin(copy.deepcopy(net))
    mask = torch.zeros(12, 48, 48, dtype=torch.bool)
    mask[batch.coords.long().unbind(1)] = True
    field = batch.to_dense().requires_grad_()
    features = batch.features.clone().requires_grad_()
    ours, theirs = net(batch.replace(features=features)), twin(field, mask=mask)
    weights = torch.randn(ours.shape, dtype=torch.float64)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()

    def compare(one, other):
        largest = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * largest)

    compare(ours.detach(), theirs.detach())
    compare(features.grad, field.grad.permute(0, 2, 3, 1)[batch.coords.long().unbind(1)])
    for parameter, dense in zip(net.parameters(), twin.parameters(), strict=True):
        compare(parameter.grad.reshape(-1), dense.grad.reshape(-1))
    assert mask.sum() > 500
