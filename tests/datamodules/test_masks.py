"""Pictures with masks: nothing from outside comes in, and the mask decides what is active."""

import dataclasses

import numpy as np
import pytest
import torch

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    BackgroundSubtraction,
    ColourShift,
    Edges,
    Padder,
    PictureAugmentation,
    Scaling,
    Threshold,
)
from spcnn_lightning.datamodules.padding.masks import cut_out
from spcnn_lightning.datamodules.randomness import SampleRandom

GREY = Scaling(128.0)
FIELD = (40, 44)
CIFAR = PictureAugmentation(flip=True, shift=6)
BENT = PictureAugmentation(flip=True, elastic=0.05)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_of(count, seed=1):
    return SampleRandom(seed, np.zeros(count, np.int64), np.arange(count))


def with_masks(seed=0, channels=3):
    """Pictures of noise, some pixels of the background's value, and masks of noise."""
    pictures = []
    for number, (height, width) in enumerate([(11, 8), (6, 6), (9, 14)]):
        picture = noise(height, width, channels + 1, seed=seed + number)
        picture[:2, :, :channels] = 128
        picture[..., channels] = 255 * (picture[..., channels] > 100)
        pictures.append(picture)
    return pictures


def cleared(pictures):
    """The same with the background outside of the masks."""
    result = [picture.copy() for picture in pictures]
    for picture in result:
        picture[picture[..., -1] == 0, :-1] = 128
    return result


def padded_alike(one, other):
    return torch.equal(one.coords, other.coords) and torch.equal(one.features, other.features)


@pytest.mark.parametrize("augmentation", [None, CIFAR, BENT], ids=["none", "cifar", "elastic"])
def test_nothing_from_outside_of_a_mask_comes_in(augmentation):
    pictures = with_masks()
    padder = Padder(FIELD, GREY, augmentation=augmentation, masked=True, mask_feature=True)
    first = padder(pictures, random_of(3))
    assert padded_alike(first, padder(cleared(pictures), random_of(3)))
    assert len(first.coords) > 100


@pytest.mark.parametrize("augmentation", [None, CIFAR], ids=["none", "cifar"])
def test_the_mask_decides_what_is_active(augmentation, per_picture):
    """As the reference, one picture and one site at a time: both are warped alike."""
    pictures, random = with_masks(), random_of(3)
    padder = Padder(FIELD, GREY, augmentation=augmentation, masked=True, mask_feature=True)
    padded = padder(pictures, random)
    draws = random.uniform_table(7)
    for number, (picture, clear) in enumerate(zip(pictures, cleared(pictures), strict=True)):
        shares, values = (
            per_picture.sites_of(
                part,
                FIELD,
                draws[number],
                background=background,
                augmentation=augmentation,
                threshold=threshold,
            )
            for part, background, threshold in (
                (picture[..., -1:], 0, 0.02),
                (clear[..., :-1], 128, -1),
            )
        )
        rows = padded.coords[:, 0] == number
        sites = [tuple(site) for site in padded.coords[rows, 1:].tolist()]
        assert set(sites) == set(shares)
        expected = [[*values[site], *shares[site]] for site in sites]
        np.testing.assert_allclose(padded.features[rows], expected, atol=2e-5)
        zeros = (padded.features[rows, :-1] == 0).all(1)
        assert zeros.any()  # inside, with the value of the background


def test_a_mask_of_everything_changes_nothing_but_which_sites_are_active():
    picture = noise(7, 9, 3)
    picture[2, 3] = 128
    full = np.concatenate([picture, np.full((7, 9, 1), 255, np.uint8)], axis=2)
    masked = Padder(FIELD, GREY, augmentation=CIFAR, masked=True)([full] * 20, random_of(20))
    plain = Padder(FIELD, GREY, augmentation=CIFAR, threshold=0.0)([picture] * 20, random_of(20))
    fields = torch.zeros(2, 20, *FIELD, 3)
    for field, padded in zip(fields, (masked, plain), strict=True):
        field[padded.coords.long().unbind(1)] = padded.features
    differ = (fields[0] != fields[1]).any(-1)
    assert differ.any()
    assert (fields[1][differ].abs() < 0.02).all()  # less than the threshold lies inside
    assert Padder(FIELD, GREY, masked=True)([full], random_of(1)).coords.shape == (63, 3)
    assert Padder(FIELD, GREY)([picture], random_of(1)).coords.shape == (62, 3)


def test_colours_are_shifted_inside_of_the_mask_and_the_mask_is_not():
    pictures = with_masks()
    shift = PictureAugmentation(0, 0, 0, shift=0, colour=ColourShift())
    padder = Padder(FIELD, GREY, augmentation=shift, masked=True, mask_feature=True)
    plain = dataclasses.replace(padder, augmentation=None)
    shifted, still = padder(pictures, random_of(3)), plain(pictures, random_of(3))
    assert torch.equal(shifted.coords, still.coords)
    assert (shifted.features[:, 3] == 1).all()
    assert ((shifted.features - still.features)[:, :3].abs() > 1e-4).all(1).all()


def test_what_a_sparsifier_removes_is_no_part_of_the_mask():
    pictures = with_masks()
    padder = Padder(FIELD, GREY, sparsifier=Threshold(0.5), masked=True, mask_feature=True)
    padded = padder(pictures, random_of(3))
    expected = sum(
        int(((np.abs(p[..., :3] - 128.0) > 64).any(-1) & (p[..., 3] == 255)).sum())
        for p in pictures
    )
    assert len(padded.coords) == expected
    assert (padded.features[:, :3].abs() > 0.5).any(1).all()


def test_what_a_sparsifier_makes_outside_of_the_mask_is_removed():
    """Between pixels, what is outside would come in."""
    picture = np.full((6, 6, 2), 255, np.uint8)
    picture[:, 3:, 1] = 0
    subtraction = BackgroundSubtraction(np.full((6, 6), 100, np.uint8))
    found = cut_out([picture], Scaling(), subtraction).picture(0)
    assert (found[:, :3] != 0).all()
    assert (found[:, 3:] == 0).all()


def test_edges_stay_inside_of_the_mask():
    picture = np.full((12, 12, 2), 255, np.uint8)
    picture[:, 6:, 1] = 0
    padder = Padder((12, 12), sparsifier=Edges(), masked=True)
    padded = padder([picture], random_of(1))
    assert len(padded.coords)
    assert padded.coords[:, 2].max() <= 5
    assert padder.out_channels(2) == 1


def test_the_number_of_features():
    assert Padder(FIELD, masked=True).out_channels(4) == 3
    assert Padder(FIELD, masked=True, mask_feature=True).out_channels(4) == 4
    edges = Padder(FIELD, sparsifier=Edges(), masked=True, mask_feature=True)
    assert edges.out_channels(4) == 2


def test_masks_that_cannot_be_used_are_refused():
    with pytest.raises(ValueError, match="mask_feature is True: give pictures with a mask"):
        Padder(FIELD, mask_feature=True)
    with pytest.raises(DataError, match="have 1 channel, expected others before the mask"):
        Padder(FIELD, masked=True)([noise(3, 3, 1)], random_of(1))
    with pytest.raises(DataError, match=r"picture 1 of the batch is uint8 of shape \(3, 3, 3\)"):
        Padder(FIELD, masked=True)([noise(3, 3, 2), noise(3, 3, 3)], random_of(2))
    assert len(Padder(FIELD, masked=True)([], random_of(0)).coords) == 0
