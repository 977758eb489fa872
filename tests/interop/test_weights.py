"""Weights of other libraries, against sums written out tap by tap, and there and back."""

import importlib
import itertools

import pytest
import torch

from spcnn_lightning import interop
from spcnn_lightning.adapters import torchsparse_library

WINDOWS = [(2,), (3, 2), (3, 3), (2, 2, 3), (3, 1, 5), (1, 1), (3, 2, 2, 3)]
COUNT = itertools.count()


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(next(COUNT)))


def same_taps(ours, theirs_at, kernel_size):
    """Compare with ``theirs_at(tap)``, (C_in, C_out), for each tap in row-major order."""
    taps = list(itertools.product(*map(range, kernel_size)))
    assert len(ours) == len(taps)
    return all(torch.equal(w, theirs_at(tap)) for w, tap in zip(ours, taps, strict=True))


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("layout", ["KRSC", "RSKC", "RSCK"])
def test_spconv(window, layout):
    shapes = {"KRSC": (5, *window, 4), "RSKC": (*window, 5, 4), "RSCK": (*window, 4, 5)}
    theirs = numbers(*shapes[layout])
    at = {
        "KRSC": lambda tap: theirs[(slice(None), *tap)].T,
        "RSKC": lambda tap: theirs[tap].T,
        "RSCK": lambda tap: theirs[tap],
    }
    ours = interop.weight_from_spconv(theirs, stride=2, layout=layout)
    assert same_taps(ours, at[layout], window)
    assert torch.equal(interop.weight_to_spconv(ours, window, 2, layout), theirs)


@pytest.mark.parametrize("layout", ["KRSC", "RSKC", "RSCK"])
def test_spconv_reads_a_single_tap_of_stride_1_as_in_by_out(layout):
    shape = {"KRSC": (5, 1, 1, 4), "RSKC": (1, 1, 5, 4), "RSCK": (1, 1, 4, 5)}[layout]
    theirs = numbers(*shape)
    ours = interop.weight_from_spconv(theirs, layout=layout)
    assert torch.equal(ours[0], theirs.view(4, 5))
    assert torch.equal(interop.weight_to_spconv(ours, (1, 1), 1, layout), theirs)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_torchsparse_counts_the_first_axis_first_where_the_volume_is_odd(window):
    taps = torch.Size(window).numel()
    theirs = numbers(taps, 4, 5)
    order = list(itertools.product(*map(range, window)))
    if taps % 2:
        order = [tap[::-1] for tap in itertools.product(*map(range, window[::-1]))]
    ours = interop.weight_from_torchsparse(theirs, window)
    assert same_taps(ours, lambda tap: theirs[order.index(tap)], window)
    assert torch.equal(interop.weight_to_torchsparse(ours, window, stride=2), theirs)


@pytest.mark.parametrize("window", [(3, 3, 3), (3, 1, 5), (2, 2, 3), (3, 2, 1)], ids=str)
def test_torchsparse_offsets_are_those_of_the_library(window):
    library, reasons = torchsparse_library.load()
    if library is None:
        pytest.skip(f"torchsparse: {'; '.join(reasons)}")
    kernel = importlib.import_module("torchsparse.nn.utils.kernel")
    offsets = kernel.get_kernel_offsets(window)
    taps = (offsets - offsets.min(0).values).tolist()
    theirs = numbers(len(taps), 4, 5)
    ours = interop.weight_from_torchsparse(theirs, window)
    assert same_taps(ours, lambda tap: theirs[taps.index(list(tap))], window)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_minkowski_counts_the_first_axis_first(window):
    theirs = numbers(torch.Size(window).numel(), 4, 5)
    order = [tap[::-1] for tap in itertools.product(*map(range, window[::-1]))]
    ours = interop.weight_from_minkowski(theirs, window)
    assert same_taps(ours, lambda tap: theirs[order.index(tap)], window)
    assert torch.equal(interop.weight_to_minkowski(ours, window, stride=2), theirs)


@pytest.mark.parametrize("name", ["torchsparse", "minkowski"])
def test_a_single_tap_may_have_two_axes(name):
    theirs = numbers(4, 5)
    ours = getattr(interop, f"weight_from_{name}")(theirs, (1, 1, 1))
    assert torch.equal(ours, theirs[None])
    assert torch.equal(getattr(interop, f"weight_to_{name}")(ours, (1, 1, 1)), theirs)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_sparseconvnet(window):
    taps = torch.Size(window).numel()
    theirs = numbers(taps, 1, 4, 5)
    ours = interop.weight_from_sparseconvnet(theirs, window)
    assert torch.equal(ours, theirs[:, 0])
    assert torch.equal(ours, interop.weight_from_sparseconvnet(theirs[:, 0], window))
    assert torch.equal(interop.weight_to_sparseconvnet(ours, window), theirs)


def test_groups_of_sparseconvnet_are_blocks():
    theirs = numbers(9, 2, 2, 3)
    ours = interop.weight_from_sparseconvnet(theirs, (3, 3))
    x = numbers(7, 4)
    expected = torch.cat([x[:, :2] @ theirs[4, 0], x[:, 2:] @ theirs[4, 1]], 1)
    torch.testing.assert_close(x @ ours[4], expected)
    assert torch.equal(interop.weight_to_sparseconvnet(ours, (3, 3), groups=2), theirs)
    with pytest.raises(ValueError, match="joins channels of different groups"):
        interop.weight_to_sparseconvnet(numbers(9, 4, 6), (3, 3), groups=2)
    with pytest.raises(ValueError, match="cannot be split into 4 groups"):
        interop.weight_to_sparseconvnet(ours, (3, 3), groups=4)


@pytest.mark.parametrize("name", ["spconv", "torchsparse", "minkowski", "sparseconvnet"])
def test_the_result_is_a_copy_and_passes_gradients(name):
    ours = numbers(9, 4, 5).requires_grad_()
    theirs = getattr(interop, f"weight_to_{name}")(ours, (3, 3))
    arguments = () if name == "spconv" else ((3, 3),)
    back = getattr(interop, f"weight_from_{name}")(theirs, *arguments)
    seed = numbers(9, 4, 5)
    (grad,) = torch.autograd.grad(back, ours, seed)
    assert torch.equal(back, ours)
    assert torch.equal(grad, seed)
    storages = {t.untyped_storage().data_ptr() for t in (ours, theirs, back)}
    assert len(storages) == 3
    assert all(t.is_contiguous() for t in (theirs, back))


@pytest.mark.parametrize("name", ["torchsparse", "minkowski", "sparseconvnet"])
def test_a_weight_of_another_window_is_refused(name):
    with pytest.raises(ValueError, match=r"expected \(9, C_in, C_out\): kernel_size \(3, 3\)"):
        getattr(interop, f"weight_from_{name}")(numbers(8, 4, 5), (3, 3))


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="expected one of KRSC, RSKC, RSCK"):
        interop.weight_from_spconv(numbers(4, 3, 3, 5), layout="CRSK")
    with pytest.raises(ValueError, match="one axis or more for the window"):
        interop.weight_from_spconv(numbers(4, 3))
