"""From pictures to sites: mapping, placing, distorting, sparsifying."""

import dataclasses

import numpy as np
import pytest
import torch

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules import (
    BackgroundSubtraction,
    ColourShift,
    Edges,
    Padder,
    PictureAugmentation,
    PictureBatch,
    Scaling,
    Threshold,
)
from spcnn_lightning.datamodules.padding import warp
from spcnn_lightning.datamodules.randomness import SampleRandom

GREY = Scaling(128.0)
CIFAR = PictureAugmentation(flip=True, shift=16)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_of(count, seed=1, epoch=0):
    return SampleRandom(seed, np.full(count, epoch), np.arange(count))


def dense(padded, shape, samples):
    field = torch.zeros(samples, *shape, padded.features.shape[1])
    field[padded.coords.long().unbind(1)] = padded.features
    return field


def test_values_are_mapped_so_that_the_background_is_zero():
    picture = np.array([[[0, 128], [255, 128], [128, 200]]], np.uint8)
    batch = PictureBatch.of([picture], GREY)
    expected = (picture.astype(np.float32) - 128) / 128
    assert torch.equal(batch.picture(0), torch.from_numpy(expected))
    both = PictureBatch.of([picture], Scaling((0.0, 200.0), scale=100.0)).picture(0)
    torch.testing.assert_close(both[0, :, 0], torch.tensor([0.0, 2.55, 1.28]))
    torch.testing.assert_close(both[0, :, 1], torch.tensor([-0.72, -0.72, 0.0]))


def test_sites_are_the_pixels_beyond_the_threshold_and_sorted():
    pictures = [noise(7, 4, 2), np.full((3, 3, 2), 128, np.uint8), noise(5, 9, 2, seed=1)]
    pictures[0][2, 3] = (129, 126)  # 2 of 128 is not beyond 0.02
    padder = Padder((12, 16), GREY)
    padded = padder(pictures, random_of(3))
    assert padded.coords.dtype == torch.int32
    assert padded.coords.tolist() == sorted(padded.coords.tolist())
    expected = torch.zeros(3, 12, 16, 2)
    for number, picture in enumerate(pictures):
        height, width, _ = picture.shape
        values = (torch.from_numpy(picture).float() - 128) / 128
        values[(values.abs() <= 0.02).all(-1)] = 0
        top, left = 6 - height // 2, 8 - width // 2
        expected[number, top : top + height, left : left + width] = values
    assert torch.equal(dense(padded, (12, 16), 3), expected)
    assert torch.equal(expected.any(-1).nonzero().int(), padded.coords)
    assert expected[0, 5, 9].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("placement", "first"), [("centre", [4, 3]), ("corner", [0, 0]), ((2, 5), [2, 5])]
)
def test_a_picture_stands_where_it_is_placed(placement, first):
    picture = np.full((3, 5, 1), 255, np.uint8)
    padded = Padder((10, 11), placement=placement)([picture], random_of(1))
    assert padded.coords.amin(0).tolist() == [0, *first]
    assert padded.coords.amax(0).tolist() == [0, first[0] + 2, first[1] + 4]


def test_random_places_cover_the_field_and_depend_on_the_sample_alone():
    pictures = [np.full((3, 4, 1), 255, np.uint8)] * 300
    padder = Padder((5, 7), placement="random")
    padded = padder(pictures, random_of(300))
    assert padded.dropped.sum() == 0
    first = padded.coords.view(300, 12, 3)[:, 0, 1:]
    assert first.unique(dim=0).tolist() == [[r, c] for r in range(3) for c in range(4)]
    alone = padder(pictures[:1], SampleRandom(1, np.array([0]), np.array([7])))
    assert torch.equal(alone.coords[0, 1:], first[7])


def test_places_do_not_follow_the_augmentation():
    picture, random = np.full((6, 6, 1), 255, np.uint8), random_of(400)
    augmentation = PictureAugmentation(0.4, 0, 0, shift=0)
    padder = Padder((60, 60), placement="random", augmentation=augmentation)
    coords = padder([picture] * 400, random).coords
    first = torch.stack([coords[coords[:, 0] == n, 1:].amin(0) for n in range(400)])
    stretched = augmentation.maps(random.uniform_table(7).T)[:, [0, 1], [0, 1]]
    assert abs(np.corrcoef(first[:, 0], stretched[:, 0])[0, 1]) < 0.2
    assert abs(np.corrcoef(first[:, 1], stretched[:, 1])[0, 1]) < 0.2


def test_a_picture_larger_than_the_field_is_refused():
    pictures = [noise(4, 4, 1), noise(4, 9, 1)]
    with pytest.raises(DataError, match=r"picture 1 has 4 x 9 pixels .* 8 x 8 sites"):
        Padder((8, 8))(pictures, random_of(2))
    with pytest.raises(DataError, match=r"picture 0 has 4 x 4 .* placement \(5, 0\)"):
        Padder((8, 9), placement=(5, 0))(pictures, random_of(2))
    assert len(Padder((4, 9))(pictures, random_of(2)).coords)


@pytest.mark.parametrize(
    "picture", [noise(4, 4), noise(4, 4, 3), noise(4, 4, 1).astype(float)], ids=["2-d", "C", "f"]
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(DataError, match="picture 1 of the batch is"):
        Padder((8, 8))([noise(4, 4, 1), picture], random_of(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scaling(256.0),
        lambda: Scaling((0.0, -1.0)),
        lambda: Scaling(scale=0.0),
        lambda: Scaling((0.0, 0.0)).check(3),
        lambda: Padder((8,)),
        lambda: Padder((8, 8), threshold=-1.0),
        lambda: Padder((8, 8), threshold=1.0),
        lambda: Padder((8, 8), Scaling(128.0, scale=64.0), threshold=2.0),
        lambda: Padder((8, 8), GREY, masked=True, threshold=1.0),
        lambda: Padder((8, 8), Scaling((200.0, 0.0)), threshold=1.0),
        lambda: Padder((8, 8), sparsifier=Threshold(1.0)),
        lambda: Padder((8, 8), threshold=5.0, sparsifier=Threshold(0.1)),
        lambda: Padder((8, 8), Scaling(scale=10.0), threshold=1.0, sparsifier=Edges()),
        lambda: Padder((8, 8), GREY, sparsifier=BackgroundSubtraction(noise(8, 8), least=2.0)),
        lambda: Padder((8, 8), placement="middle"),
        lambda: Padder((8, 8), placement=(8, 0)),
        lambda: PictureAugmentation(stretch=1.0),
        lambda: PictureAugmentation(shift=-1),
        lambda: PictureAugmentation(elastic=-0.1),
        lambda: ColourShift(level=float("nan")),
        lambda: Threshold(-1.0),
        lambda: Edges(low=0.3, high=0.2),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(ValueError, match="give"):
        make()


def test_no_picture_is_an_empty_batch():
    padded = Padder((8, 8), augmentation=CIFAR)([], random_of(0))
    assert padded.coords.shape == (0, 3)


@pytest.mark.parametrize(
    "augmentation",
    [
        CIFAR,
        PictureAugmentation(shift=0),
        PictureAugmentation(stretch=0, slant=0, rotate=1.5, shift=2),
        PictureAugmentation(0, 0, 0, shift=3),
        PictureAugmentation(0, 0, 0, flip=True, shift=0),
        PictureAugmentation(elastic=0.05, flip=True),
        None,
    ],
    ids=["cifar", "affine", "rotate", "shift", "flip", "elastic", "none"],
)
def test_the_padder_equals_the_reference_per_picture(augmentation, per_picture):
    pictures = [noise(11, 8, 3), noise(6, 6, 3, seed=1), noise(9, 14, 3, seed=2)] * 4
    field, random = (40, 44), random_of(len(pictures), seed=8)
    padded = Padder(field, GREY, augmentation=augmentation)(pictures, random)
    draws = random.uniform_table(7)
    for number, picture in enumerate(pictures):
        bend = None
        if augmentation is not None and augmentation.elastic.amount:
            bend = elastic_of(augmentation.elastic, random.part(1), number, max(picture.shape[:2]))
        expected = per_picture.sites_of(
            picture, field, draws[number], background=128, augmentation=augmentation, bend=bend
        )
        rows = padded.coords[:, 0] == number
        found = dict(
            zip(map(tuple, padded.coords[rows, 1:].tolist()), padded.features[rows], strict=True)
        )
        for site in found.keys() ^ expected.keys():  # only those on the threshold, to rounding
            value = found.get(site, expected.get(site))
            assert np.abs(np.asarray(value)).max() < 0.0201
        for site in found.keys() & expected.keys():
            assert np.abs(found[site].numpy() - expected[site]).max() < 2e-5
        assert len(found) > 20


def elastic_of(elastic, random, number, side):
    """The displacement that moves pen points, at one place."""
    grid, extent = elastic.grid_points, elastic.extent
    fields = np.clip(elastic.fields(random), -4, 4).reshape(2, -1, grid, grid)[:, number]

    def bend(row, column):
        at = [np.clip((x / side + extent) / (2 * extent), 0, 1) * (grid - 1) for x in (row, column)]
        cell = [min(int(x), grid - 2) for x in at]
        y, x = (place - low for place, low in zip(at, cell, strict=True))
        corner = fields[:, cell[0] : cell[0] + 2, cell[1] : cell[1] + 2]
        weights = np.outer([1 - y, y], [1 - x, x])
        return elastic.amount * side * (corner * weights).sum((1, 2))

    return bend


def test_nothing_that_is_bent_out_of_the_picture_gets_lost(monkeypatch):
    """The canvas is as wide as bending reaches: a wider one holds no more pixels."""
    padder = Padder((90, 90), augmentation=PictureAugmentation(0, 0, 0, shift=0, elastic=0.15))
    pictures = [np.full((20, 14, 1), 255, np.uint8)] * 40
    padded = padder(pictures, random_of(40))
    canvas = warp._canvas
    monkeypatch.setattr(warp, "_canvas", lambda *given: canvas(*given[:2], given[2] + 15))
    wider = padder(pictures, random_of(40))
    assert torch.equal(padded.coords, wider.coords)
    assert torch.equal(padded.features, wider.features)
    outside = (padded.coords[:, 1:] - 45).abs() > torch.tensor([12, 9])
    assert outside.any(1).sum() > 100


def test_bending_ends_at_four_standard_deviations(monkeypatch):
    augmentation = PictureAugmentation(0, 0, 0, shift=0, elastic=0.1)
    fields = augmentation.elastic.fields
    monkeypatch.setattr(augmentation.elastic, "fields", lambda r: np.full_like(fields(r), 100.0))
    dot = np.zeros((11, 11, 1), np.uint8)
    dot[5, 5] = 255
    padded = Padder((41, 41), augmentation=augmentation)([dot], random_of(1))
    centre = (padded.coords[:, 1:] * padded.features).sum(0) / padded.features.sum()
    torch.testing.assert_close(centre, torch.full((2,), 20 - 4 * 0.1 * 11), atol=1e-3, rtol=0)


def test_all_steps_of_the_augmentation_happen():
    """The reference shares the draws; here they are judged by what they do."""
    dot = np.zeros((9, 9, 1), np.uint8)
    dot[4, 4] = 255
    shifted = Padder((31, 31), augmentation=PictureAugmentation(0, 0, 0, shift=2))
    places = shifted([dot] * 500, random_of(500)).coords[:, 1:] - 15
    counts = torch.bincount((places[:, 0] + 2) * 5 + places[:, 1] + 2, minlength=25)
    assert len(counts) == 25
    assert counts.min() > 5
    left = np.zeros((9, 9, 1), np.uint8)
    left[:, :4] = 255
    flipped = Padder((31, 31), augmentation=PictureAugmentation(0, 0, 0, flip=True, shift=0))
    columns = flipped([left] * 500, random_of(500)).coords[:, 2].view(500, 36).float().mean(1)
    assert columns.unique().tolist() == [12.5, 17.5]
    assert 200 < (columns == 12.5).sum() < 300


def test_what_a_rotation_leaves_empty_is_background():
    """Grey pictures on grey: whatever the map, no site; and a rotated square stays a square."""
    augmentation = PictureAugmentation(0.0, rotate=0.7, slant=0.0, flip=True, shift=0)
    grey = np.full((8, 8, 3), 128, np.uint8)
    assert len(Padder((24, 24), GREY, augmentation=CIFAR)([grey] * 50, random_of(50)).coords) == 0
    white = np.full((8, 8, 3), 255, np.uint8)
    padded = Padder((24, 24), GREY, augmentation=augmentation)([white] * 20, random_of(20))
    field = dense(padded, (24, 24), 20)
    corners = (torch.cartesian_prod(torch.arange(24), torch.arange(24)) - 11.5).square().sum(1)
    beyond = (corners > 2 * 4.51**2).view(24, 24)
    assert field[:, beyond].abs().max() == 0
    assert field[:, 10:14, 10:14].min() > 0.99
    assert (padded.features > 0.02).all()


def test_a_picture_is_the_same_in_any_batch_and_differs_between_epochs():
    pictures = [noise(9, 7, 3), noise(30, 25, 3, seed=1), noise(4, 4, 3, seed=2)]
    augmentation = PictureAugmentation(flip=True, elastic=0.04, colour=ColourShift())
    padder = Padder((60, 60), GREY, augmentation=augmentation, placement="random")
    together = padder(pictures, random_of(3))
    for number, picture in enumerate(pictures):
        alone = padder([picture], SampleRandom(1, np.array([0]), np.array([number])))
        rows = together.coords[:, 0] == number
        assert torch.equal(together.coords[rows, 1:], alone.coords[:, 1:])
        assert torch.equal(together.features[rows], alone.features)
        assert together.dropped[number] == alone.dropped[0]
    for other in (random_of(3, seed=2), random_of(3, epoch=1)):
        assert not torch.equal(padder(pictures, other).features, together.features)


@pytest.mark.parametrize("augmentation", [None, PictureAugmentation(shift=3)])
def test_a_large_picture_costs_its_own_pixels_alone(augmentation, monkeypatch):
    sizes = [*[(8, 8)] * 9, (90, 100), (7, 9), *[(8, 8)] * 9, (8, 70), (70, 8), *[(7, 9)] * 5]
    pictures = [noise(*size, 1, seed=n) for n, size in enumerate(sizes)]
    padder = Padder((120, 120), augmentation=augmentation, placement="random")
    cells = []
    canvas = warp._canvas

    def spy(batch, *arguments):
        rows, columns = canvas(batch, *arguments)
        cells.append(len(batch) * len(rows) * len(columns))
        return rows, columns

    monkeypatch.setattr(warp, "_canvas", spy)
    together = padder(pictures, random_of(len(pictures)))
    assert sum(cells) < 12 * sum(height * width for height, width in sizes)
    assert (together.coords[:, 0].diff() >= 0).all()
    for n, picture in enumerate(pictures):
        alone = padder([picture], random_of(len(pictures)).of(np.array([n])))
        rows = together.coords[:, 0] == n
        assert torch.equal(together.coords[rows, 1:], alone.coords[:, 1:])
        assert torch.equal(together.features[rows], alone.features)
        assert together.dropped[n] == alone.dropped[0]


def test_dropped_pixels_are_counted():
    padder = Padder((10, 10), augmentation=PictureAugmentation(0, 0, 0, shift=5))
    padded = padder([np.full((8, 8, 1), 255, np.uint8)] * 30, random_of(30))
    kept = torch.bincount(padded.coords[:, 0], minlength=30)
    assert (kept + padded.dropped).tolist() == [64] * 30
    assert 0 < padded.dropped.sum() < 64 * 30


def test_colours_shift_as_the_formula_says_on_active_sites_alone():
    picture = np.full((20, 20, 3), 192, np.uint8)
    picture[5:15] = 128
    plain = PictureAugmentation(0, 0, 0, shift=0)
    shifted = PictureAugmentation(0, 0, 0, shift=0, colour=ColourShift(0.1, 0.0, 2.0))
    before, after = (
        Padder((60, 60), GREY, augmentation=a)([picture] * 400, random_of(400))
        for a in (plain, shifted)
    )
    assert torch.equal(before.coords, after.coords)
    change = (after.features - before.features).view(400, 200, 3)
    rows = before.coords.view(400, 200, 3)[..., 1:].double() / 60 - 0.5
    design = torch.cat([torch.ones(400, 200, 1), rows], -1).double()
    solution = torch.linalg.lstsq(design, change.double())
    torch.testing.assert_close(design @ solution.solution, change.double(), atol=1e-5, rtol=0)
    spread = solution.solution.std(0).mean(1)
    torch.testing.assert_close(spread, torch.tensor([0.1, 2.0, 2.0]).double(), rtol=0.12, atol=0)
    contrast = ColourShift(0.0, 0.5, 0.0)
    values, sites = torch.linspace(-1, 1, 9)[:, None], torch.zeros(9, 3, dtype=torch.int32)
    change = contrast(values, sites, (5, 5), random_of(1)) - values
    torch.testing.assert_close(change / change[4], torch.cos(values * torch.pi / 2))


def test_slopes_of_colour_run_along_the_axes_of_a_field_that_is_not_square():
    """Over the whole height, and the whole width, the change has the stated deviation."""
    sites = torch.tensor([(n, r, c) for n in range(4000) for r, c in ((0, 0), (20, 0), (0, 50))])
    change = ColourShift(0, 0, 0.6)(torch.zeros(12000, 1), sites, (20, 50), random_of(4000))
    corner, down, right = change.view(4000, 3).T
    for across in (down - corner, right - corner):
        assert 0.57 < across.std() < 0.63


def test_colours_have_random_numbers_of_their_own():
    """The numbers of a distortion would tie a picture's colour to its stretch."""
    augmentation = PictureAugmentation(colour=ColourShift())
    values, sites = torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.int32)
    random = random_of(1)
    own = augmentation.recolour(values, sites, (9, 9), random)
    assert not torch.equal(own, augmentation.colour(values, sites, (9, 9), random))
    assert torch.equal(own, augmentation.recolour(values, sites, (9, 9), random_of(1)))


def test_a_value_at_the_threshold_is_background():
    picture = np.array([[[50], [51]]], np.uint8)
    padder = Padder((1, 2), Scaling(scale=100.0), threshold=0.5)
    assert padder([picture], random_of(1)).coords.tolist() == [[0, 0, 1]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_does_not_matter():
    pictures = [noise(20, 24, 3, seed=seed) for seed in range(8)]
    augmentation = PictureAugmentation(flip=True, elastic=0.04, colour=ColourShift())
    padder = Padder((72, 72), GREY, augmentation=augmentation)
    here, there = (padder(pictures, random_of(8), device) for device in ("cpu", "cuda"))
    assert there.features.is_cuda
    one, other = (
        dense(here, (72, 72), 8),
        dense(
            dataclasses.replace(there, coords=there.coords.cpu(), features=there.features.cpu()),
            (72, 72),
            8,
        ),
    )
    differ = ((one - other).abs() > 1e-4).any(-1)
    assert differ.sum() <= 3  # pixels on the threshold


def test_padded_batches_are_valid_for_core():
    from spcnn_lightning.core.active_set import ActiveSet

    padded = Padder((50, 50), GREY, augmentation=CIFAR)([noise(16, 16, 3)] * 6, random_of(6))
    batch = SparseBatch(ActiveSet(padded.coords, (50, 50), 6), padded.features)
    assert batch.num_sites > 500
