import numpy as np
import pytest
import torch
from torch.nn import functional as F

from spcnn_lightning.core.geometry import Activity, ConvGeometry


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [(9, 3, 1, 0, 1), (9, 2, 2, 0, 1), (10, 3, 2, 1, 2), (11, 4, 3, 2, 1), (1, 1, 5, 0, 3)],
)
def test_output_sizes_are_those_of_torch(size, kernel, stride, padding, dilation):
    x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    expected = F.conv1d(x, weight, None, stride, padding, dilation).shape[2:]
    assert ConvGeometry((kernel,), stride, padding, dilation).output_shape((size,)) == expected


def test_integers_are_broadcast_and_padding_may_be_uneven():
    geometry = ConvGeometry((3, 2), 2, 1, 3)
    assert geometry.stride == (2, 2)
    assert geometry.padding == ((1, 1), (1, 1))
    assert geometry.dilation == (3, 3)
    assert ConvGeometry((3, 2), padding=[1, 2]).padding == ((1, 1), (2, 2))
    assert ConvGeometry((3, 2), padding=[(0, 1), (2, 0)]).output_shape((5, 5)) == (4, 6)


def test_taps_are_in_row_major_order():
    assert ConvGeometry((2, 3)).offsets == ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    partial = ConvGeometry((2, 2), offsets=[(1, 0), (0, 0)])
    assert partial.offsets == ((0, 0), (1, 0))
    assert not partial.is_full_window


def test_a_submanifold_window_keeps_the_field_and_anchors_even_kernels_low():
    geometry = ConvGeometry.submanifold((2, 3), dilation=(3, 2))
    assert geometry.activity is Activity.SUBMANIFOLD
    assert geometry.padding == ((0, 3), (2, 2))
    assert geometry.output_shape((5, 4)) == (5, 4)


def test_equal_windows_are_equal_keys():
    assert ConvGeometry((2, 2), 1) == ConvGeometry([2, 2], (1, 1), [(0, 0), (0, 0)])
    assert hash(ConvGeometry((2, 2))) == hash(
        ConvGeometry((2, 2), offsets=[(0, 0), (0, 1), (1, 0), (1, 1)])
    )
    assert ConvGeometry((3, 3), padding=1) != ConvGeometry.submanifold((3, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": ()}, r"kernel_size is \(\)"),
        ({"kernel_size": (2, 0)}, "every entry must be at least 1"),
        ({"kernel_size": (2, 2), "stride": (1, 2, 3)}, r"stride is \(1, 2, 3\).* 3 entries.*2 dim"),
        ({"kernel_size": (2, 2), "stride": 0}, r"stride is \(0, 0\)"),
        ({"kernel_size": (2, 2), "dilation": 0}, r"dilation is \(0, 0\)"),
        ({"kernel_size": (2, 2), "padding": -1}, "no entry may be negative"),
        ({"kernel_size": (2, 2), "padding": [1]}, "has 1 entries"),
        ({"kernel_size": (2, 2), "offsets": [(0, 2)]}, r"\(0, 2\)\] are not"),
        ({"kernel_size": (2, 2), "offsets": [(0, 0), (0, 0)]}, "distinct taps"),
        ({"kernel_size": (2, 2), "offsets": []}, "distinct taps"),
        ({"kernel_size": (2, 2), "offsets": [(0,)]}, "distinct taps"),
        (
            {"kernel_size": (2, 2), "stride": 2, "activity": Activity.SUBMANIFOLD},
            r"stride must be 1, not \(2, 2\)",
        ),
    ],
)
def test_bad_windows_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvGeometry(**arguments)


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"kernel_size \(3, 3\).*does not fit.*\(5, 2\): take a"):
        ConvGeometry((3, 3)).output_shape((5, 2))
    with pytest.raises(ValueError, match=r"2 dimensions.*field of shape \(5,\), which has 1"):
        ConvGeometry((3, 3)).output_shape((5,))


def test_a_kernel_needs_a_size_for_each_axis():
    with pytest.raises(ValueError, match=r"kernel_size is 3: give one integer per axis.*\(3, 3\)"):
        ConvGeometry(3)


def test_integers_of_numpy_are_integers():
    assert ConvGeometry((3, 3), np.int64(2)).stride == (2, 2)
