"""The zero-pinned mode, and its dense twin."""

import pytest
import torch
from torch import nn

from spcnn_lightning.nn import Activation, BatchNorm, MaxPool, PinGround, SparseConv
from spcnn_lightning.reference.twin import dense_twin


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        *(SparseConv(3, 4, (3, 2), padding=1), PinGround()),
        *(BatchNorm(4), PinGround(), Activation(nn.LeakyReLU(0.3))),
        *(MaxPool((2, 2)), SparseConv(4, 2, (2, 2)), PinGround()),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network.double().eval()


def test_only_inactive_sites_change(make_batch):
    batch = make_batch().replace(ground_state=torch.tensor([1.0, -2.0, 3.0], requires_grad=True))
    pinned = PinGround()(batch)
    assert pinned.active_set is batch.active_set
    assert pinned.features is batch.features
    assert pinned.ground_state.tolist() == [0, 0, 0]
    assert not pinned.ground_state.requires_grad


def test_the_dense_twin_needs_the_mask_and_is_equal(network, make_batch):
    batch = make_batch(dtype=torch.float64)
    twin, dense = dense_twin(network), batch.to_dense()
    assert twin.needs_mask
    with pytest.raises(ValueError, match="PinGround.*activity mask"):
        twin(dense)
    mask = torch.zeros(4, 9, 7, dtype=torch.bool)
    mask[tuple(batch.coords.long().T)] = True
    results = [network(batch).to_dense(), twin(dense, mask=mask)]
    torch.testing.assert_close(*results)
    seed, parameters = torch.randn_like(results[0]), list(network.parameters())
    grads = [torch.autograd.grad(r, [batch.features, *parameters], seed) for r in results]
    torch.testing.assert_close(*grads)
