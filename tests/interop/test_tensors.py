"""Sparse tensors of other libraries, there and back, with their gradients."""

from types import SimpleNamespace

import pytest
import torch

from spcnn_lightning import interop
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.sparse_batch import SparseBatch

SHAPES = [(11,), (9, 7), (5, 4, 6), (3, 4, 3, 5)]


def torchsparse_tensor(batch):
    """What the library's SparseTensor holds, without the library."""
    return SimpleNamespace(
        feats=batch.features,
        coords=batch.coords,
        stride=batch.active_set.tensor_stride,
        spatial_range=(batch.batch_size, *batch.spatial_shape),
    )


def assert_equal_with_gradients(batch, back):
    assert back.batch_size == batch.batch_size
    assert back.spatial_shape == batch.spatial_shape
    assert not back.ground_state.any()
    seed = torch.randn(batch.to_dense().shape)
    results = [part.to_dense() for part in (batch, back)]
    assert torch.equal(*results)
    grads = [torch.autograd.grad(result, batch.features, seed) for result in results]
    assert torch.equal(grads[0][0], grads[1][0])


# spconv 2.3.6 indexes with a list of tensors in dense().
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("density", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spconv(spconv, make_batch, shape, density):
    batch = make_batch(shape, density=density)
    theirs = interop.to_spconv_tensor(batch)
    assert isinstance(theirs, spconv.SparseConvTensor)
    if density:
        torch.testing.assert_close(theirs.dense(), batch.to_dense())
    back = interop.from_spconv_tensor(theirs)
    assert torch.equal(back.coords, batch.coords)
    assert_equal_with_gradients(batch, back)


@pytest.mark.parametrize(
    ("site", "message"),
    [([0, 9, 0], "out of range"), ([4, 0, 0], "out of range"), ([0, -1, 0], "out of range")],
)
def test_sites_that_spconv_takes_without_a_word_are_refused(spconv, site, message):
    indices = torch.tensor([[0, 1, 1], site], dtype=torch.int32)
    theirs = spconv.SparseConvTensor(torch.ones(2, 3), indices, [9, 7], 4)
    with pytest.raises(ValueError, match=message):
        interop.from_spconv_tensor(theirs)


def test_duplicates_are_refused(spconv):
    indices = torch.tensor([[0, 1, 1], [0, 1, 1]], dtype=torch.int32)
    theirs = spconv.SparseConvTensor(torch.ones(2, 3), indices, [9, 7], 4)
    with pytest.raises(ValueError, match="the same site"):
        interop.from_spconv_tensor(theirs)


@pytest.mark.parametrize("density", [0.0, 0.25])
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_torchsparse(make_batch, shape, density):
    batch = make_batch(shape, density=density)
    try:
        theirs = interop.to_torchsparse_tensor(batch)
    except BackendUnsupportedError as error:
        pytest.skip(str(error))
    assert theirs.coords.shape == (batch.num_sites, 4)
    assert tuple(theirs.spatial_range) == (4, *shape, *[1] * (3 - len(shape)))
    back = interop.from_torchsparse_tensor(theirs, dimensions=len(shape))
    assert_equal_with_gradients(batch, back)


def test_torchsparse_has_three_dimensions(make_batch):
    with pytest.raises(ValueError, match="three dimensions, not 4"):
        interop.to_torchsparse_tensor(make_batch(SHAPES[3]))


def test_torchsparse_coordinates_after_a_stride(make_batch):
    theirs = torchsparse_tensor(make_batch((5, 4, 6)))
    theirs.stride = (2, 4, 2)
    back = interop.from_torchsparse_tensor(theirs)
    assert back.active_set.tensor_stride == (2, 4, 2)


def test_a_torchsparse_tensor_without_a_field_needs_one(make_batch):
    batch = make_batch((5, 4, 6))
    theirs = torchsparse_tensor(batch)
    theirs.spatial_range = None
    with pytest.raises(ValueError, match=r"give spatial_range=\(B, X, Y, Z\)"):
        interop.from_torchsparse_tensor(theirs)
    back = interop.from_torchsparse_tensor(theirs, spatial_range=(4, 5, 4, 6))
    assert_equal_with_gradients(batch, back)


def test_axes_with_more_than_one_site_are_not_dropped(make_batch):
    theirs = torchsparse_tensor(make_batch((5, 4, 6)))
    with pytest.raises(ValueError, match="does not have 2 dimensions"):
        interop.from_torchsparse_tensor(theirs, dimensions=2)


def test_the_old_column_order_of_torchsparse_is_noticed(make_batch):
    theirs = torchsparse_tensor(make_batch((5, 4, 6)))
    theirs.coords = theirs.coords[:, [1, 2, 3, 0]].contiguous()
    with pytest.raises(ValueError, match="out of range"):
        interop.from_torchsparse_tensor(theirs)


@pytest.mark.parametrize("density", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sparse_coo(make_batch, shape, density):
    batch = make_batch(shape, density=density)
    theirs = interop.to_sparse_coo(batch)
    assert theirs.is_coalesced()
    assert torch.equal(theirs.to_dense().movedim(-1, 1), batch.to_dense())
    assert_equal_with_gradients(batch, interop.from_sparse_coo(theirs))


def test_an_uncoalesced_tensor_is_summed_gradients_included():
    values = torch.tensor([[1.0], [2.0], [4.0]], requires_grad=True)
    index = torch.tensor([[0, 0, 0], [2, 2, 1]])
    theirs = torch.sparse_coo_tensor(index, values, (1, 5, 1), check_invariants=True)
    batch = interop.from_sparse_coo(theirs)
    assert batch.to_dense().flatten().tolist() == [0, 4, 3, 0, 0]
    (grad,) = torch.autograd.grad(batch.to_dense()[0, 0, 2], values)
    assert grad.flatten().tolist() == [1, 1, 0]


def test_other_layouts_are_refused():
    dense = torch.eye(3)[None, ..., None]
    for wrong in (dense, dense.to_sparse(), dense.to_sparse(1)):
        with pytest.raises(ValueError, match=r"x.to_sparse\(x.ndim - 1\) makes it"):
            interop.from_sparse_coo(wrong)
    assert interop.from_sparse_coo(dense.to_sparse(3)).num_sites == 3


@pytest.mark.parametrize("name", ["spconv_tensor", "torchsparse_tensor", "sparse_coo"])
def test_a_ground_state_is_not_lost_in_silence(name, make_batch):
    batch = make_batch().replace(ground_state=torch.tensor([0.0, -2.5, 0.0]))
    convert = getattr(interop, f"to_{name}")
    with pytest.raises(ValueError, match="not zero .largest entry 2.5.*drop_ground_state=True"):
        convert(batch)
    if name == "sparse_coo":
        kept = interop.from_sparse_coo(convert(batch, drop_ground_state=True))
        expected = SparseBatch(batch.active_set, batch.features)
        assert torch.equal(kept.to_dense(), expected.to_dense())


def test_a_batch_of_no_samples_is_refused(spconv):
    nothing = SparseBatch.from_dense(torch.zeros(0, 2, 3, 3))
    with pytest.raises(ValueError, match="no samples"):
        interop.to_spconv_tensor(nothing)
