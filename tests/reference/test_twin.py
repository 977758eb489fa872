"""What a twin shares with its network, what it asks for, and what it cannot mirror."""

import copy
import pickle

import pytest
import torch
from torch import nn

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import DeepCNet, DeepCNiN
from spcnn_lightning.nn import (
    Activation,
    BatchNorm,
    FeatureDropout,
    InverseConv,
    MaxPool,
    NetworkInNetwork,
    Readout,
    SparseConv,
    SubmanifoldConv,
    functional,
    set_dropout_seed,
)
from spcnn_lightning.reference.dense_field import DenseField
from spcnn_lightning.reference.twin import dense_twin


def picture(channels=2, size=12, samples=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(samples, 1, size, size, generator=generator) < 0.2
    return torch.randn(samples, channels, size, size, generator=generator) * mask


def close(actual, expected, tolerance=1e-5):
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)


def test_parameters_and_keys_are_those_of_the_network():
    network = DeepCNiN(2, 3, 2, 4)
    twin = dense_twin(network)
    assert list(twin.state_dict()) == list(network.state_dict())
    ours, theirs = dict(network.named_parameters()), dict(twin.named_parameters())
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in ours)


def test_gradients_accumulate_in_the_same_tensors():
    network, x = DeepCNet(2, 3, 2, 4), picture()
    dense_twin(network)(x).sum().backward()
    once = [p.grad.clone() for p in network.parameters()]
    network(SparseBatch.from_dense(x)).sum().backward()
    for parameter, grad in zip(network.parameters(), once, strict=True):
        close(parameter.grad, 2 * grad)


def test_either_can_be_trained_loaded_and_converted_for_both():
    network, x = DeepCNiN(2, 3, 2, 4), picture()
    twin = dense_twin(network)
    with torch.no_grad():
        next(twin.parameters()).mul_(2)
    close(twin(x), network(SparseBatch.from_dense(x)))
    network.load_state_dict(DeepCNiN(2, 3, 2, 4).state_dict())
    close(twin(x), network(SparseBatch.from_dense(x)))
    twin.double()
    close(twin(x.double()), network(SparseBatch.from_dense(x.double())))


def test_running_statistics_are_shared():
    network = nn.Sequential(SparseConv(2, 4, (2, 2)), BatchNorm(4, statistics="all"))
    twin, x = dense_twin(network), picture()
    before = network[1].running_mean.clone()
    twin(x)
    assert not torch.equal(network[1].running_mean, before)
    network.double()
    assert twin.state_dict()["1.running_mean"].dtype == torch.float64
    network.eval()
    twin.eval()
    close(twin(x.double()), network(SparseBatch.from_dense(x.double())).to_dense())


def test_modes_are_copied_once_and_then_apart():
    network = DeepCNet(2, 6, 2, 4, dropout=0.5)
    twin = dense_twin(network)
    assert twin.eval().training is False
    assert network.training
    assert not any(module.training for module in twin.modules())
    assert dense_twin(network.eval()).training is False


def test_a_seed_set_for_the_network_reaches_a_twin_made_later():
    network, x = DeepCNet(2, 6, 2, 4, dropout=0.5), picture()
    set_dropout_seed(network, 41)
    close(dense_twin(network)(x), network(SparseBatch.from_dense(x)))


def test_the_network_is_left_as_it_was():
    network, x = DeepCNet(2, 6, 2, 4, dropout=0.5), picture()
    calls = []
    network.layers[0].register_forward_hook(lambda *_: calls.append(1))
    twin = dense_twin(network)
    twin(x)
    assert not calls
    network(SparseBatch.from_dense(x))
    assert calls == [1]
    assert [m.step for m in network.layers if isinstance(m, FeatureDropout)] == [1, 1]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda twin: pickle.loads(pickle.dumps(twin))])
def test_a_copy_is_a_twin_of_its_own(clone):
    network, x = DeepCNet(2, 3, 2, 4), picture()
    twin = dense_twin(network)
    other = clone(twin)
    close(other(x), twin(x))
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    assert not torch.allclose(other(x), twin(x))
    assert next(other.parameters()) is other.layers[0].weight


def submanifold_network():
    return nn.Sequential(
        SparseConv(2, 3, (3, 3), padding=1),
        Activation(nn.ReLU()),
        SubmanifoldConv(3, 3, (3, 3)),
        BatchNorm(3),
        MaxPool((2, 2)),
    )


def test_a_network_that_needs_the_mask_says_so():
    twin = dense_twin(submanifold_network())
    assert twin.needs_mask
    with pytest.raises(
        ValueError, match=r"2 \(SubmanifoldConv\), .*3 \(BatchNorm\).*\(3, 12, 12\)"
    ):
        twin(picture())
    assert twin.eval().needs_mask
    with pytest.raises(
        ValueError, match=r"2 \(SubmanifoldConv\) depends on which sites are active"
    ):
        twin(picture())
    norm = dense_twin(nn.Sequential(BatchNorm(2)))
    assert norm.needs_mask
    assert not norm.eval().needs_mask
    assert not dense_twin(nn.Sequential(BatchNorm(2, statistics="all"))).needs_mask
    assert not dense_twin(DeepCNiN(2, 3, 2, 4)).needs_mask


def test_with_the_mask_it_is_exact():
    network, x = submanifold_network(), picture()
    batch = SparseBatch.from_dense(x)
    mask = (x != 0).any(1)
    field = dense_twin(copy.deepcopy(network)).run(x, mask=mask)
    out = network(batch)
    close(field.values, out.to_dense())
    close(field.ground_state, out.ground_state)
    assert torch.equal(field.mask.nonzero().int(), out.coords)


@pytest.mark.parametrize(
    ("ground", "mask", "message"),
    [
        (torch.zeros(3), None, r"ground_state has shape \(3,\), expected \(2,\)"),
        (None, torch.ones(3, 12, 12), "mask is torch.float32"),
        (None, torch.ones(3, 12, 11) > 0, r"expected torch.bool of shape \(3, 12, 12\)"),
        (None, torch.zeros(3, 12, 12) > 0, "sites outside the mask differ from the ground state"),
    ],
)
def test_bad_input_is_refused(ground, mask, message):
    with pytest.raises(ValueError, match=message):
        dense_twin(DeepCNet(2, 3, 2, 4))(picture(), ground, mask)
    with pytest.raises(ValueError, match=r"x has shape \(2, 12\), expected \(B, C, \*spatial"):
        dense_twin(DeepCNet(2, 3, 2, 4))(torch.zeros(2, 12))


class Block(nn.Module):
    """A user's own block: layers in an order of its own, one of them twice."""

    def __init__(self, channels):
        super().__init__()
        self.conv = SparseConv(channels, channels, (3, 3), padding=1)
        self.act = Activation(nn.LeakyReLU(0.2))
        self.skip = None

    def forward(self, batch):
        return self.act(self.conv(self.act(self.conv(batch))))


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(NetworkInNetwork(2, 4), Block(4), MaxPool((2, 2)))
        self.again = self.stem[1]
        self.readout = Readout("max")
        self.head = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.ReLU())

    def forward(self, batch):
        return self.head(self.readout(self.again(self.stem(batch))))


def test_a_tree_of_own_modules_has_a_twin():
    network, x = Own().eval(), picture()
    twin = dense_twin(network)
    close(twin(x), network(SparseBatch.from_dense(x)))
    assert list(twin.state_dict()) == list(network.state_dict())
    twin.train()
    assert not network.head[1].training


class Swish(nn.Module):
    def forward(self, batch):
        return functional.elementwise(batch, nn.functional.silu)


class LoudConv(SparseConv):
    def forward(self, batch):
        return functional.elementwise(super().forward(batch), torch.exp)


@pytest.mark.parametrize("layer", [Swish(), LoudConv(2, 2, (2, 2))])
def test_a_layer_without_a_dense_form_is_named(layer):
    network = nn.Sequential(SparseConv(2, 2, (2, 2)), nn.Sequential(layer))
    name = type(layer).__name__
    with pytest.raises(TypeError, match=rf"Sequential\.1\.0 is a {name}, .*forms={{{name}: func"):
        dense_twin(network)


def test_a_dense_form_can_be_given():
    def swish(layer, field):
        values, ground = (nn.functional.silu(t) for t in (field.values, field.ground_state))
        return DenseField(values, ground, field.mask)

    network, x = nn.Sequential(SparseConv(2, 2, (2, 2)), Swish()), picture()
    close(dense_twin(network, {Swish: swish})(x), network(SparseBatch.from_dense(x)).to_dense())


class Peeking(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = Activation(nn.ReLU())

    def forward(self, batch):
        return self.act(batch.replace(batch.features * 2))


def test_a_forward_that_looks_into_the_batch_is_refused_when_it_runs():
    with pytest.raises(
        AttributeError, match=r"used SparseBatch\.replace, which its dense form does"
    ):
        dense_twin(Peeking())(picture())
    with pytest.raises(AttributeError, match="of SparseBatch has no attribute 'nonsense'"):
        _ = DenseField(picture(), torch.zeros(2)).nonsense


def test_it_can_be_traced_for_export():
    twin, x = dense_twin(DeepCNiN(2, 3, 2, 4)).eval(), picture()
    exported = torch.export.export(twin, (x,)).module()
    close(exported(picture(seed=1)), twin(picture(seed=1)))


class Hourglass(nn.Module):
    """Down and up again to the sites it came from, as in a U-net."""

    def __init__(self, bias, **window):
        super().__init__()
        self.first = SparseConv(2, 3, (2, 2))
        self.down = SparseConv(3, 4, **window)
        self.up = InverseConv(4, 3, **window, bias=bias)
        self.last = nn.Sequential(Activation(nn.LeakyReLU()), NetworkInNetwork(3, 2))

    def forward(self, batch):
        fine = self.first(batch)
        return self.last(self.up(self.down(fine), fine.active_set))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_size": (2, 2), "stride": 2},
        {"kernel_size": (3, 2), "stride": 2, "padding": ((1, 0), (0, 1))},
        {"kernel_size": (3, 3), "dilation": 2},
    ],
    ids=["2/2", "padded", "dilated"],
)
def test_an_inverse_convolution_is_exact_with_the_mask(window, bias):
    torch.manual_seed(0)
    network = Hourglass(bias, **window).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    mask = picture(1, samples=4, seed=1)[:, 0] != 0
    mask[1] = False
    ground = torch.randn(2, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(int(mask.sum()), 2, dtype=torch.float64, requires_grad=True)
    batch = SparseBatch(ActiveSet(mask.nonzero().int(), (12, 12), 4), rows, ground)
    field = dense_twin(network).run(batch.to_dense(), ground, mask)
    out = network(batch)
    assert torch.equal(field.mask.nonzero().int(), out.coords)
    leaves = [rows, ground, *network.parameters()]
    results = []
    for values, state in [(field.values, field.ground_state), (out.to_dense(), out.ground_state)]:
        loss = (values * torch.linspace(-1, 1, values.numel()).view_as(values)).sum()
        loss = loss + (state * torch.tensor([1.0, -2.0])).sum()
        results.append([values, state, *torch.autograd.grad(loss, leaves)])
    for one, other in zip(*results, strict=True):
        limit = 1e-12 * max(1.0, float(other.detach().abs().max()))
        # The bias of what comes before cancels, and leaves a gradient of rounding alone.
        torch.testing.assert_close(one, other, rtol=0, atol=limit)


def test_an_inverse_convolution_asks_for_the_mask_and_the_right_sites():
    twin = dense_twin(Hourglass(True, kernel_size=(2, 2), stride=2))
    assert twin.needs_mask
    with pytest.raises(ValueError, match=r"up \(InverseConv\) depends on which sites are active"):
        twin(picture())

    class Wrong(Hourglass):
        def forward(self, batch):
            fine = self.first(batch)
            return self.up(fine, fine.active_set)

    x = picture()
    with pytest.raises(ValueError, match=r"from \(11, 11\) to \(5, 5\), but the field is \(11, 11"):
        dense_twin(Wrong(True, kernel_size=(2, 2), stride=2)).run(x, mask=(x != 0).any(1))


def test_the_sites_of_a_dense_field_are_only_handed_on():
    sites = DenseField(torch.zeros(1, 2, 3, 4), torch.zeros(2)).active_set
    assert sites.spatial_shape == (3, 4)
    with pytest.raises(AttributeError, match=r"used ActiveSet.num_sites, which its dense form"):
        _ = sites.num_sites
    with pytest.raises(AttributeError, match="dense form of ActiveSet has no attribute 'nonesuch'"):
        _ = sites.nonesuch
