"""Batches share tensors, with each other and with layers: none may change under another's hands."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import Activation, FeatureDropout, InverseConv, MaxPool, SparseConv


def test_an_activation_in_place_changes_nothing_but_its_result(make_batch):
    batch = make_batch("sparse", (7, 6))
    before = batch.features.clone(), batch.ground_state.clone()
    pooled = MaxPool((2, 2))(batch)
    out = Activation(nn.Sequential(nn.ReLU(inplace=True)))(pooled)
    assert torch.equal(batch.features, before[0])
    assert torch.equal(batch.ground_state, before[1])
    expected = Activation(nn.ReLU())(MaxPool((2, 2))(batch))
    assert torch.equal(out.ground_state, expected.ground_state)
    assert torch.equal(out.features, expected.features)


def test_a_bias_that_is_the_ground_state_is_left_alone(make_batch):
    batch = make_batch("sparse", (6, 6))
    inverse = InverseConv(4, 2, (2, 2), stride=2).double()
    with torch.no_grad():
        inverse.bias.copy_(torch.tensor([-1.0, 2.0]))
        coarse = SparseConv(3, 4, (2, 2), stride=2).double()(batch)
        Activation(nn.ReLU(inplace=True))(inverse(coarse, batch.active_set))
    assert inverse.bias.tolist() == [-1, 2]


def test_a_parameter_per_feature_works(make_batch):
    batch = make_batch("sparse", (5, 4))
    prelu = nn.PReLU(3).double()
    with torch.no_grad():
        prelu.weight.copy_(torch.tensor([0.1, 0.2, 0.3]))
    dense = prelu(batch.to_dense())
    torch.testing.assert_close(Activation(prelu)(batch).to_dense(), dense, rtol=0, atol=1e-15)


def test_a_recomputed_dropout_repeats_its_mask(make_batch):
    batch = make_batch("sparse", (5, 4), channels=20)
    gradients = []
    for again in (False, True):
        dropout = FeatureDropout(0.5, seed=3)

        def run(rows, dropout=dropout):
            return dropout(batch.replace(rows)).features.square().sum()

        for _ in range(2):  # the step that follows draws a mask of its own
            rows = batch.features
            loss = checkpoint(run, rows, use_reentrant=False) if again else run(rows)
            gradients.append(torch.autograd.grad(loss, batch.features)[0])
        assert dropout.step == 2
    assert torch.equal(gradients[0], gradients[2])
    assert torch.equal(gradients[1], gradients[3])
    assert not torch.equal(gradients[0], gradients[1])


def test_an_inverse_convolution_needs_the_sites_that_its_window_leads_to(make_batch):
    one, other = make_batch("sparse", (6, 6), seed=1), make_batch("sparse", (6, 6), seed=2)
    layer = SparseConv(3, 4, (2, 2), stride=2).double()
    coarse = layer(one)
    # As many sites, in another order.
    sites = ActiveSet(coarse.coords.flip(0), coarse.spatial_shape, 5)
    wrong = SparseBatch(sites, coarse.features, coarse.ground_state)
    inverse = InverseConv(4, 2, (2, 2), stride=2).double()
    inverse(coarse, one.active_set)
    for batch, fine in ((wrong, one), (coarse, other)):
        with pytest.raises(ValueError, match="pass the set and the geometry"):
            inverse(batch, fine.active_set)
