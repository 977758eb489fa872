import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from spcnn_lightning.core.collate import collate
from spcnn_lightning.datamodules import (
    EpochBatchSampler,
    EpochLoader,
    EpochSampler,
    HandwritingAugmentation,
    HandwritingDataset,
    Octogram,
    PenDigits8,
    Rasteriser,
    Strokes,
    StrokeSet,
    largest_features,
    split_validation,
)
from spcnn_lightning.datamodules.raster import engine


@pytest.fixture(scope="module")
def digits():
    return PenDigits8().train().select(range(40))


@pytest.fixture(scope="module")
def dataset(digits):
    rasteriser = Rasteriser((48, 40), 13, Octogram(), HandwritingAugmentation())
    return HandwritingDataset(digits, rasteriser, largest_features(digits, rasteriser), seed=5)


def assert_same_batches(one, other):
    for (batch, targets), (expected, expected_targets) in zip(one, other, strict=True):
        torch.testing.assert_close(batch.coords, expected.coords, rtol=0, atol=0)
        torch.testing.assert_close(batch.features, expected.features, rtol=0, atol=0)
        assert batch.batch_size == expected.batch_size == len(targets)
        assert targets.tolist() == expected_targets.tolist()


def test_a_prepared_batch_equals_its_samples_one_by_one(dataset):
    keys = [(3, 7), (3, 0), (2, 7), 11]
    together = collate(dataset.__getitems__(keys))
    assert_same_batches([together], [collate([dataset[key] for key in keys])])
    assert together[1].tolist() == dataset.strokes.labels[[7, 0, 7, 11]].tolist()
    assert together[0].spatial_shape == (48, 40)
    assert together[0].ground_state.tolist() == [0.0] * 9


def test_a_bare_index_means_epoch_0(dataset):
    assert_same_batches([collate([dataset[4]])], [collate([dataset[(0, 4)]])])
    assert not torch.equal(dataset[(1, 4)][0].features, dataset[4][0].features)


def test_batches_are_valid_for_core(dataset):
    batch, _ = dataset.prepare(range(40))
    type(batch.active_set)(batch.coords, batch.spatial_shape, batch.batch_size)  # validates


def test_the_default_collate_of_torch_works_too(dataset):
    """With prepared batches it would stack the targets, but for our entry in its map."""
    for kwargs in ({}, {"collate_fn": collate}):
        batch, targets = next(iter(DataLoader(dataset, batch_size=8, **kwargs)))
        assert batch.batch_size == 8
        assert targets.tolist() == dataset.strokes.labels[:8].tolist()


@pytest.mark.parametrize("compiled", [False, True], ids=["numpy", "numba"])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(dataset, workers, compiled, monkeypatch):
    if compiled:
        pytest.importorskip("numba")

    def loader(num_workers):
        # Only what workers inherit: they compile, or read what was compiled, by themselves.
        monkeypatch.setattr(engine, "WORTH_COMPILING", 0 if compiled and num_workers else 10**9)
        sampler = EpochBatchSampler(EpochSampler(40, seed=2), batch_size=7)
        return EpochLoader(dataset, sampler, num_workers=num_workers, persistent_workers=True)

    alone = loader(0)
    expected = []
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        expected.append(list(alone))
    helped = loader(workers)
    for epoch in (0, 1):
        helped.set_epoch(epoch)
        assert_same_batches(helped, expected[epoch])
    helped.close()


def test_loading_leaves_the_random_generator_alone(dataset):
    before = torch.random.get_rng_state()
    list(EpochLoader(dataset, EpochBatchSampler(EpochSampler(40), 20)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_data_set_survives_pickling_and_stays_small(dataset):
    data = pickle.dumps(dataset)
    assert len(data) < 20_000
    assert_same_batches([pickle.loads(data).prepare([3])], [dataset.prepare([3])])


def test_features_are_divided_by_their_largest_value(digits):
    rasteriser = Rasteriser((48, 48), 16, Octogram())
    scale = largest_features(digits, rasteriser)
    batch, _ = HandwritingDataset(digits, rasteriser, scale).prepare(range(40))
    torch.testing.assert_close(batch.features.amax(0), torch.ones(9))
    first = largest_features(digits, rasteriser, limit=1)
    assert (first <= scale).all()
    assert (first < scale).any()


@pytest.mark.parametrize("limit", [600, 10_000])
def test_constants_come_from_characters_all_over_the_set(limit):
    dot, line = (Strokes.from_lists([points], 0) for points in ([(0, 0)], [(0, 0), (0, 9)]))
    rasteriser = Rasteriser((8, 8), 4, Octogram())
    assert largest_features(StrokeSet.from_strokes([dot] * 900), rasteriser).max() == 1
    strokes = StrokeSet.from_strokes([dot] * 600 + [line] * 300)
    assert largest_features(strokes, rasteriser, limit).max() > 1, "the first 600 are dots"


def test_constants_do_not_depend_on_the_augmentation(digits):
    plain = Rasteriser((48, 48), 16, Octogram())
    augmented = Rasteriser((48, 48), 16, Octogram(), HandwritingAugmentation())
    assert torch.equal(largest_features(digits, plain), largest_features(digits, augmented))


def test_a_feature_that_never_occurs_is_divided_by_one(digits):
    dots = digits.select([0])
    dots.points[:] = 1.0
    scale = largest_features(dots, Rasteriser((8, 8), 4, Octogram()))
    assert scale.tolist() == [1.0] * 9


@pytest.mark.parametrize("scale", [[1.0] * 8, [0.0] + [1.0] * 8], ids=["length", "zero"])
def test_constants_that_do_not_fit_are_refused(digits, scale):
    with pytest.raises(ValueError, match="expected 9 positive numbers, one for each of touched"):
        HandwritingDataset(digits, Rasteriser((9, 9), 3, Octogram()), torch.tensor(scale))


def test_whole_writers_are_held_out(digits):
    strokes = digits.select(range(40))
    object.__setattr__(strokes, "writers", torch.arange(40).numpy().astype("int32") % 8)
    kept, held_out = split_validation(strokes, 0.2)
    assert sorted([*kept, *held_out]) == list(range(40))
    assert len(held_out) == 10, "two writers of five characters reach a fifth of 40"
    assert not set(strokes.writers[kept]) & set(strokes.writers[held_out])
    others = [split_validation(strokes, 0.2, seed=seed)[1].tolist() for seed in range(6)]
    assert len({tuple(other) for other in others}) > 1
    named = split_validation(strokes, writers=[1, 6])[1]
    assert set(strokes.writers[named]) == {1, 6}


def test_characters_are_held_out_where_writers_are_unknown(digits):
    kept, held_out = split_validation(digits, 0.2, seed=1)
    assert (len(kept), len(held_out)) == (32, 8)
    assert split_validation(digits, 0.2, seed=1)[1].tolist() == held_out.tolist()
    assert len(split_validation(digits, 0.0)[1]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 1.0}, "validation_fraction is 1.0"),
        ({"fraction": -0.1}, "validation_fraction is -0.1"),
        ({"fraction": 0.999}, "all 40 training samples would be held out"),
        ({"writers": [1]}, "do not say who wrote what"),
    ],
)
def test_splits_that_make_no_sense_are_refused(digits, arguments, message):
    with pytest.raises(ValueError, match=message):
        split_validation(digits, **arguments)


def test_unknown_validation_writers_are_named(digits):
    strokes = digits.select(range(4))
    object.__setattr__(strokes, "writers", torch.tensor([1, 2, 1, 2]).int().numpy())
    with pytest.raises(ValueError, match=r"\[5\] are not among the writers \[1, 2\]"):
        split_validation(strokes, writers=[1, 5])


def test_constants_know_the_density_of_the_walk(digits):
    """Features are lengths, which hardly depend on the steps; but the same steps are taken."""
    coarse = Rasteriser((48, 48), 16, Octogram(), density=0.7)
    batch, _ = HandwritingDataset(digits, coarse, largest_features(digits, coarse)).prepare(
        range(40)
    )
    assert batch.features.amax(0).tolist() == pytest.approx([1.0] * 9)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_unit_of_the_pen_does_not_matter(digits, unit):
    small = dataclasses.replace(digits, points=digits.points * np.float32(unit), validate=True)
    rasteriser = Rasteriser((48, 48), 16, Octogram())
    one, other = rasteriser(digits), rasteriser(small)
    # Rounding moves single points over the border of a site.
    assert abs(len(one.coords) - len(other.coords)) <= 0.01 * len(one.coords)


@pytest.mark.parametrize("extent", range(1, 200, 7))
def test_rounding_does_not_move_points_over_borders(extent):
    """The ends of a line lie on borders of sites: a third of 60 sites is from 20 up to 40."""
    line = Strokes.from_lists([[(0, 0), (extent, extent)]], label=0)
    sites = Rasteriser((60, 60), 20, Octogram())(StrokeSet.from_strokes([line])).coords
    assert (sites[:, 1:].min(), sites[:, 1:].max()) == (20, 39)
