import math

import numpy as np
import pytest

from spcnn_lightning.datamodules import LogSignature, PenDigits8, Signature
from spcnn_lightning.datamodules.raster import (
    PenPaths,
    normalise,
    signatures,
    tensor_algebra,
    walk_paths,
)
from spcnn_lightning.datamodules.strokes import offsets_of

LEVELS = [1, 2, 3, 4]


def random_path(seed, points=9, letters=2):
    return np.cumsum(np.random.default_rng(seed).normal(size=(points, letters)), axis=0)


def signature(path, level):
    ways = np.diff(path, axis=0).T
    return tensor_algebra.of_windows(ways, len(path) - 1, level)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("letters", [2, 3])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("points", [2, 3, 6, 9])
def test_equals_the_iterated_integrals_segment_by_segment(per_point, points, level, letters):
    path = random_path(points, points, letters)
    flat = np.concatenate(signature(path, level))[:, 0]
    np.testing.assert_allclose(flat, per_point.signature_of(path.tolist(), level)[1:], atol=1e-10)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_chen_the_signature_of_a_joined_path_is_the_product(cut, level):
    path = random_path(cut)
    first, second = signature(path[: cut + 1], level), signature(path[cut:], level)
    assert_same(tensor_algebra.chen(first, second), signature(path, level))


@pytest.mark.parametrize("level", LEVELS)
def test_windows_are_the_signatures_of_their_pieces(level):
    path = random_path(3, points=20)
    windows = tensor_algebra.of_windows(np.diff(path, axis=0).T, 7, level)
    for k in range(13):
        assert_same([a[:, k : k + 1] for a in windows], signature(path[k : k + 8], level))


def test_level_one_is_the_displacement():
    path = random_path(1)
    np.testing.assert_allclose(signature(path, 3)[0][:, 0], path[-1] - path[0])


def test_the_antisymmetric_part_of_level_two_is_the_area_to_the_chord():
    path = random_path(2)
    s = signature(path, 2)[1][:, 0].reshape(2, 2)
    closed = np.concatenate([path, path[:1]])
    twice = closed[:-1, 0] * closed[1:, 1] - closed[1:, 0] * closed[:-1, 1]  # shoelace
    np.testing.assert_allclose((s[0, 1] - s[1, 0]) / 2, twice.sum() / 2)


@pytest.mark.parametrize("level", LEVELS)
def test_the_speed_along_the_path_does_not_matter(level):
    path = random_path(4)
    place = np.sort(np.concatenate([np.arange(9), np.random.default_rng(0).uniform(0, 8, 30)]))
    finer = np.stack([np.interp(place, np.arange(9), path[:, k]) for k in (0, 1)], axis=1)
    assert_same(signature(finer, level), signature(path, level))


@pytest.mark.parametrize("level", LEVELS)
def test_a_path_and_its_way_back_cancel(level):
    path = random_path(5)
    there_and_back = np.concatenate([path, path[::-1]])
    for level_of in signature(there_and_back, level):
        np.testing.assert_allclose(level_of, 0, atol=1e-9)


@pytest.mark.parametrize(("letters", "level"), [(2, 1), (2, 4), (3, 3), (3, 4)])
def test_agrees_with_an_independent_library(letters, level):
    pysiglib = pytest.importorskip("pysiglib")
    path = random_path(letters * level, points=30, letters=letters)
    ours = signature(path, level)
    theirs = pysiglib.sig(path, level)
    np.testing.assert_allclose(np.concatenate(ours)[:, 0], theirs, rtol=1e-9, atol=1e-9)

    words = tensor_algebra.lyndon_words(letters, level)
    log = tensor_algebra.coefficients(tensor_algebra.logarithm(ours), letters, words)[:, 0]
    pysiglib.prepare_log_sig(letters, level, method=1)
    theirs = pysiglib.log_sig(path, level, method=1)
    np.testing.assert_allclose(log, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("letters", "counts"), [(2, [2, 3, 5, 8]), (3, [3, 6, 14, 32])])
def test_there_are_as_many_lyndon_words_as_dimensions_of_the_log_signature(letters, counts):
    assert [len(tensor_algebra.lyndon_words(letters, m)) for m in LEVELS] == counts


def paths_of(*samples):
    strokes = [np.asarray(stroke, float) for sample in samples for stroke in sample]
    lengths, numbers = [len(stroke) for stroke in strokes], [len(sample) for sample in samples]
    return PenPaths(np.concatenate(strokes), offsets_of(lengths), offsets_of(numbers))


def digits():
    chosen = PenDigits8().train().select(range(0, 4000, 500))
    paths = normalise(chosen, 16)
    strokes = np.split(paths.points, paths.point_offsets[1:-1])
    return [
        strokes[a:b] for a, b in zip(paths.stroke_offsets, paths.stroke_offsets[1:], strict=False)
    ]


SPECIAL = [
    [[(0.3, 0.7)]],
    [[(0.3, 0.7), (0.32, 0.7)]],
    [[(0, 0), (0, 1)], [(5, 5)], [(-2, 2), (-3, 0), (4, 4), (4, -4), (-6, 0)]],
    [[(0, 0), (0, 3), (0, 0), (0, 3), (4, 3)]],
    [[(20.0, 0), (-20.0, 3)]],
]


@pytest.mark.parametrize("delta", [3.0, 5.5])
@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
def test_signatures_equal_the_walk_point_by_point(per_point, level, delta):
    samples, shape = [*digits(), *SPECIAL], (26, 24)
    walk = walk_paths(paths_of(*samples), shape, per_point.DENSITY)
    features = Signature(level, delta).encode(walk)
    assert features.shape == (len(walk.coords), 2 ** (level + 1) - 1)

    def expected(window):
        return per_point.signature_of([point[1:] for point in window], level)

    assert_equal_fields(per_point, walk, features, samples, shape, delta, expected)


def assert_equal_fields(per_point, walk, features, samples, shape, delta, expected):
    wanted = {}
    for number, sample in enumerate(samples):
        field, _ = per_point.windows_of(sample, shape, delta, expected)
        wanted |= {(number, *site): values for site, values in field.items()}
    assert list(map(tuple, walk.coords.tolist())) == sorted(wanted)
    rows = np.array([wanted[site] for site in sorted(wanted)])
    np.testing.assert_allclose(features, rows, rtol=1e-5, atol=1e-5 * np.abs(rows).max())


@pytest.mark.parametrize("level", [1, 2, 3])
def test_log_signatures_equal_the_walk_point_by_point(per_point, level):
    samples, shape = [*digits(), *SPECIAL], (26, 24)
    walk = walk_paths(paths_of(*samples), shape, per_point.DENSITY)
    features = LogSignature(level, 3.0).encode(walk)
    words = tensor_algebra.lyndon_words(3, level)

    def expected(window):
        flat = np.array(per_point.signature_of(window, level)[1:])
        levels = np.split(flat[:, None], [3, 12][: level - 1])
        log = tensor_algebra.logarithm(levels)
        return [1.0, *tensor_algebra.coefficients(log, 3, words)[:, 0]]

    assert_equal_fields(per_point, walk, features, samples, shape, 3.0, expected)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_windows_are_the_same_in_blocks_of_any_size(monkeypatch, block):
    walk = walk_paths(paths_of(*digits()), (48, 48), box=16)
    whole = Signature(3).encode(walk)
    monkeypatch.setattr(signatures, "_BLOCK", block)
    np.testing.assert_array_equal(Signature(3).encode(walk), whole)


@pytest.mark.parametrize(("box", "delta"), [(16, 3.0), (32, 6.0), (64, 12.0)])
def test_the_window_is_a_fifth_of_the_box_rounded_down(box, delta):
    stroke = random_path(7) * 6
    walk = walk_paths(paths_of([stroke]), (3 * box, 3 * box), box=box)
    np.testing.assert_array_equal(Signature(2).encode(walk), Signature(2, delta).encode(walk))
    assert not np.array_equal(Signature(2).encode(walk), Signature(2, delta + 1).encode(walk))


def test_names_spell_the_words():
    assert Signature(2).channel_names == (
        *("touched", "signature_r", "signature_c", "signature_rr"),
        *("signature_rc", "signature_cr", "signature_cc"),
    )
    words = [name.removeprefix("log_signature_") for name in LogSignature(2).channel_names]
    assert words == ["touched", "n", "r", "c", "nr", "nc", "rc"]
    assert [LogSignature(m).in_channels for m in range(4)] == [1, 4, 7, 15]
    straight = walk_paths(paths_of([[(0, 0), (9, 0)]]), (48, 48), box=16)
    middle = Signature(1).encode(straight)[4]
    np.testing.assert_allclose(middle, [1, 6, 0], atol=1e-6)  # 3 to both sides, downwards


@pytest.mark.parametrize("encoder", [Signature, LogSignature])
@pytest.mark.parametrize("arguments", [(-1,), (5,), (2, 0.0), (2, math.nan)], ids=str)
def test_arguments_out_of_range_are_refused(encoder, arguments):
    with pytest.raises(ValueError, match="level is|delta is"):
        encoder(*arguments)
