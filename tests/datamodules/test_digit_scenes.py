"""Generated scenes: real digits that touch, cover and interlock, each a region."""

import itertools

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import ArrayPictures, Digits, DigitScenes, Regions
from spcnn_lightning.datamodules.pictures.digit_scenes import INK
from spcnn_lightning.datamodules.pictures.scene_paper import ScenePaper


def some(scenes, count):
    return list(itertools.islice(scenes, count))


def equal(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("picture", "regions", "labels")
    )


def test_a_scene_is_a_function_of_the_seed_the_part_and_its_number():
    few, many = some(DigitScenes(scenes=5).train(), 5), some(DigitScenes(scenes=50).train(), 50)
    assert all(map(equal, few, many))
    assert len({scene.picture.tobytes() for scene in many}) == 50
    assert not equal(few[0], some(DigitScenes(seed=1).train(), 1)[0])
    assert not equal(few[0], some(DigitScenes().test(), 1)[0])
    assert len(list(DigitScenes(test_scenes=7).test())) == 7
    digits = Digits().train()
    alike = ArrayPictures(digits.images, digits.labels, digits.images, digits.labels)
    train, test = (
        some(part(), 1)[0] for part in (DigitScenes(alike).train, DigitScenes(alike).test)
    )
    assert equal(train, few[0])
    assert not equal(train, test)


def test_digits_are_those_of_their_part_with_their_labels():
    """Undistorted and not covered, each region is the ink of a digit with its label."""
    scenes = DigitScenes(scenes=30, stretch=0, rotate=0, slant=0, cover=0)
    for part, made in (("train", scenes.train()), ("test", scenes.test())):
        digits = getattr(Digits(), part)()
        known = {}
        for image, label in zip(digits.images[..., 0], digits.labels, strict=True):
            ink = np.where(image >= INK, image, 0)
            rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
            box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            known.setdefault((box.shape, box.tobytes()), set()).add(label)
        for scene in some(made, 20):
            source = Regions(_Fixed(scene)).train()
            for region, label in zip(source.select(range(len(source))), source.labels, strict=True):
                ink = np.where(region[..., 1] > 0, region[..., 0], 0)
                assert label in known[ink.shape, ink.tobytes()]


class _Fixed(DigitScenes):
    def __init__(self, scene):
        super().__init__()
        self.scene = scene

    def train(self):
        return [self.scene]


def test_ink_belongs_to_regions_and_nothing_else_is_there():
    for scene in some(DigitScenes().train(), 50):
        ink = scene.picture[..., 0]
        assert ((ink > 0) == (scene.regions > 0)).all()
        assert ink[ink > 0].min() >= INK
    images, labels = 255 - Digits().train().images, Digits().train().labels
    white = ArrayPictures(images, labels, images, labels, background=255.0)
    on_black, on_white = (
        some(DigitScenes(source, seed=3).train(), 1)[0] for source in (Digits(), white)
    )
    np.testing.assert_array_equal(on_black.picture, 255 - on_white.picture)


def test_regions_touch_cover_and_interlock():
    touching, boxes_meet = [], []
    for scene in some(DigitScenes().train(), 100):
        count = len(scene.labels)
        assert 2 <= count <= 7
        framed = np.pad(scene.regions, 1)
        around = np.stack(
            [np.roll(framed, shift, (0, 1)) for shift in itertools.product((-1, 0, 1), repeat=2)]
        )
        for region in range(1, count + 1):
            own = framed == region
            near = np.unique(around[:, own])
            touching.append(len(near[(near > 0) & (near != region)]) > 0)
            rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
            box = framed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            boxes_meet.append(((box > 0) & (box != region)).any())
    assert np.mean(touching) > 0.9
    assert np.mean(boxes_meet) > 0.7  # rectangles cannot tell them apart


def test_a_drawing_keeps_the_share_of_its_pixels_that_is_promised():
    numbers = np.random.default_rng(0)
    covered = []
    for _ in range(50):
        paper, cover = ScenePaper(30), numbers.uniform(0, 0.5)
        for _ in range(6):
            drawing = (numbers.random(numbers.integers(3, 8, 2)) < 0.6).astype(np.float32)
            paper.put(drawing, *numbers.random(2) * (1, 6), cover)
        visible = np.bincount(paper.regions.ravel(), minlength=len(paper.sizes) + 1)[1:]
        lost = 1 - visible / np.array(paper.sizes)
        assert (lost <= cover + 1e-9).all()
        covered.append(lost.max())
    assert np.mean(covered) > 0.1


def test_what_does_not_fit_is_left_out():
    paper = ScenePaper(6)
    assert not paper.put(np.zeros((2, 2), np.float32), 0.0, 0.0, 0.0)
    assert paper.put(np.ones((5, 5), np.float32), 0.0, 0.0, 0.0)
    assert not paper.put(np.ones((2, 2), np.float32), 0.0, 0.5, 0.0)
    assert paper.sizes == [25]
    assert (paper.regions == (paper.values > 0)).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"scenes": 0},
        {"fewest": 0},
        {"most": 2},
        {"cover": 1.0},
        {"stretch": -0.1},
        {"size": 1.5},
        {"rotate": float("inf")},
    ],
)
def test_bad_arguments_are_refused(settings):
    with pytest.raises(ValueError, match="give"):
        DigitScenes(**settings)


def test_colour_is_refused():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    colour = ArrayPictures(images, [0, 1], images, [0, 1])
    with pytest.raises(DataError, match="ArrayPictures has 2 with 3 channels"):
        next(DigitScenes(colour).train())
