import numpy as np
import pytest

from spcnn_lightning.datamodules import HandwritingAugmentation, PenDigits8, Strokes, StrokeSet
from spcnn_lightning.datamodules.randomness import SampleRandom
from spcnn_lightning.datamodules.raster import normalise

BOX = 16


def paths_of(count):
    square = Strokes.from_lists([[(0, 0), (0, 4)], [(4, 4), (4, 0)]], label=0)
    return normalise(StrokeSet.from_strokes([square] * count), BOX)


def random_of(indices, epoch=0, seed=1):
    indices = np.asarray(indices)
    return SampleRandom(seed, np.full(len(indices), epoch), indices)


def moved(count, **amounts):
    """Points before and after, shape (count, 4, 2): two strokes of two points each."""
    nothing = {"jitter": 0.0, "stretch": 0.0, "rotate": 0.0, "slant": 0.0, "shift": 0.0}
    paths = paths_of(count)
    after = HandwritingAugmentation(**(nothing | amounts))(paths, BOX, random_of(range(count)))
    return paths.points.reshape(count, 4, 2), after.points.reshape(count, 4, 2)


def test_no_amount_changes_nothing():
    before, after = moved(10)
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_jitter_shifts_each_stroke_as_a_whole():
    before, after = moved(2000, jitter=1.0)
    shift = (after - before).reshape(2000, 2, 2, 2)
    np.testing.assert_allclose(shift[:, :, 0], shift[:, :, 1], atol=1e-12)
    assert np.abs(shift).max() <= 1
    np.testing.assert_allclose(shift.std(), 1 / np.sqrt(3), rtol=0.05)
    first, second = shift[:, 0, 0].ravel(), shift[:, 1, 0].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1, "strokes move independently"


def test_stretch_scales_each_axis():
    before, after = moved(2000, stretch=0.3)
    factors = after / before
    np.testing.assert_allclose(factors, factors[:, :1].repeat(4, axis=1))
    assert 0.7 <= factors.min()
    assert factors.max() <= 1.3
    assert abs(np.corrcoef(factors[:, 0].T)[0, 1]) < 0.1


def test_one_of_rotation_and_the_two_slants():
    count = 3000
    before, after = moved(count, rotate=0.3, slant=0.3)
    rows_kept = np.isclose(after[..., 0], before[..., 0]).all(axis=1)
    columns_kept = np.isclose(after[..., 1], before[..., 1]).all(axis=1)
    turned = ~rows_kept & ~columns_kept
    for kind in (rows_kept, columns_kept, turned):
        assert abs(kind.sum() - count / 3) < 4.5 * np.sqrt(count * 2 / 9)
    lengths = np.linalg.norm(after[turned], axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(before[turned], axis=-1))
    cosine = (after[turned, 0] * before[turned, 0]).sum(-1) / lengths[:, 0] ** 2
    assert np.arccos(cosine).max() <= 0.3 + 1e-6


def test_shift_moves_the_whole_character():
    before, after = moved(2000, shift=4.0)
    shift = after - before
    np.testing.assert_allclose(shift, shift[:, :1].repeat(4, axis=1), atol=1e-12)
    assert 3.9 < np.abs(shift).max() <= 4


def test_shift_is_a_quarter_of_the_box_unless_given():
    paths = paths_of(500)
    augmentation = HandwritingAugmentation(0.0, 0.0, 0.0, 0.0)
    shift = augmentation(paths, 64, random_of(range(500))).points - paths.points
    assert 15 < np.abs(shift).max() <= 16


def test_rows_and_columns_are_jittered_by_themselves():
    before, after = moved(2000, jitter=1.0)
    shift = (after - before)[:, 0]
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.1


def test_strokes_are_jittered_before_they_are_stretched():
    """Jitter of 1 and stretch of up to 1.3 move a point by up to 1.3."""
    before, after = moved(5000, jitter=1.0, stretch=0.3)
    centre = (after - after.mean(axis=1, keepdims=True))[:, 0] / before[:, 0]
    assert centre.max() > 1.3, "the strokes' own shifts are stretched too"


def test_a_sample_looks_the_same_in_every_batch():
    digits = PenDigits8().train()
    augmentation = HandwritingAugmentation()
    indices = np.array([5, 901, 17, 3000, 44])
    batch = augmentation(normalise(digits.select(indices), BOX), BOX, random_of(indices))
    for place, index in enumerate(indices):
        alone = augmentation(normalise(digits.select([index]), BOX), BOX, random_of([index]))
        offsets = batch.point_offsets[batch.stroke_offsets]
        np.testing.assert_array_equal(
            batch.points[offsets[place] : offsets[place + 1]], alone.points
        )


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 2}], ids=str)
def test_another_epoch_or_seed_looks_different(other):
    paths, augmentation = paths_of(3), HandwritingAugmentation()
    first = augmentation(paths, BOX, random_of(range(3))).points
    assert (first != augmentation(paths, BOX, random_of(range(3), **other)).points).all()


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ({"jitter": -1.0}, "jitter is -1.0"),
        ({"stretch": 1.0}, "stretch is 1.0"),
        ({"shift": float("inf")}, "shift is inf"),
        ({"rotate": float("nan")}, "rotate is nan"),
    ],
)
def test_amounts_that_make_no_sense_are_refused(amounts, message):
    with pytest.raises(ValueError, match=message):
        HandwritingAugmentation(**amounts)
