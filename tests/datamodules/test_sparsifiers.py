"""Sparsifiers: what they keep, and that they come before the augmentation."""

import dataclasses

import numpy as np
import pytest
import torch

from spcnn_lightning.core.errors import DataError, MissingExtraError
from spcnn_lightning.datamodules import (
    BackgroundSubtraction,
    Edges,
    Padder,
    PictureAugmentation,
    Scaling,
    Threshold,
)
from spcnn_lightning.datamodules.randomness import SampleRandom

GREY = Scaling(128.0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_of(count):
    return SampleRandom(1, np.zeros(count, int), np.arange(count))


def test_threshold_and_subtraction_keep_what_stands_out():
    scene = noise(6, 7, 3)
    scene[2, 3] = (130, 126, 128)
    padded = Padder((9, 9), GREY, sparsifier=Threshold(0.02))([scene], random_of(1))
    assert [0, 3, 4] not in padded.coords.tolist()
    with_object = scene.copy()
    with_object[1:3, 4] = 255 - scene[1:3, 4]
    with_object[5, 5] += 1
    subtraction = BackgroundSubtraction(scene, least=0.05)
    padded = Padder((6, 7), GREY, sparsifier=subtraction)([with_object, scene], random_of(2))
    assert padded.coords.tolist() == [[0, 1, 4], [0, 2, 4]]
    difference = (with_object.astype(np.float32) - scene) / 128
    torch.testing.assert_close(padded.features, torch.from_numpy(difference[1:3, 4]))
    with pytest.raises(DataError, match=r"reference has shape \(6, 7, 3\), picture 1"):
        Padder((9, 9), GREY, sparsifier=subtraction)([scene, noise(7, 6, 3)], random_of(2))


def test_a_reference_can_be_a_file(tmp_path):
    np.save(tmp_path / "empty.npy", noise(4, 4))
    assert BackgroundSubtraction(str(tmp_path / "empty.npy")).reference.shape == (4, 4, 1)
    pillow = pytest.importorskip("PIL.Image")
    for channels in (1, 3):
        picture = noise(4, 5, channels)
        pillow.fromarray(picture.squeeze()).save(tmp_path / "empty.png")
        subtraction = BackgroundSubtraction(tmp_path / "empty.png")
        assert np.array_equal(subtraction.reference, picture.repeat(4 - channels, -1)[..., :3])
        for seen in {channels, 3}:  # a grey scene is subtracted from any pictures
            pictures = [picture.repeat(seen // channels, -1)]
            assert len(Padder((4, 5), sparsifier=subtraction)(pictures, random_of(1)).coords) == 0
    assert Padder((4, 5), GREY, threshold=1.1, sparsifier=subtraction)  # differences reach 2
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    for name in ("bad.npy", "absent.npy"):
        with pytest.raises(DataError, match=name):
            BackgroundSubtraction(tmp_path / name)
    with pytest.raises(DataError, match="the reference is float64"):
        BackgroundSubtraction(np.zeros((3, 3)))


def test_edges_are_the_outline():
    pytest.importorskip("skimage")
    picture = np.full((16, 16, 3), 40, np.uint8)
    picture[4:12, 4:12] = 220
    padder = Padder((48, 48), GREY, sparsifier=Edges())
    padded = padder([picture, np.full((5, 6, 3), 9, np.uint8)], random_of(2))
    assert padder.out_channels(3) == padded.features.shape[1] == 1
    assert padded.features.unique().tolist() == [1.0]
    places = padded.coords[:, 1:] - 16
    assert padded.coords[:, 0].unique().tolist() == [0]
    distance = (places - 7.5).abs().amax(1)
    assert 20 < len(places) < 40
    assert ((distance > 2.4) & (distance < 4.6)).all()


def test_edges_without_scikit_image_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.feature", None)
    with pytest.raises(MissingExtraError, match=r"spcnn-lightning\[pictures\]"):
        Padder((9, 9), sparsifier=Edges())([noise(4, 4, 1)], random_of(1))


def test_a_sparsifier_comes_before_the_augmentation():
    picture = noise(12, 12, 1)
    reference = picture.copy()
    reference[3:6, 3:9] = 0
    subtraction = BackgroundSubtraction(reference, least=0.0)
    both = Padder((40, 40), sparsifier=subtraction, augmentation=PictureAugmentation(shift=0))
    cut = np.zeros_like(picture)
    cut[3:6, 3:9] = picture[3:6, 3:9]
    expected = dataclasses.replace(both, sparsifier=None)([cut], random_of(1))
    padded = both([picture], random_of(1))
    assert torch.equal(padded.coords, expected.coords)
    torch.testing.assert_close(padded.features, expected.features)
