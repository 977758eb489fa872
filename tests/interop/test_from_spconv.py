"""Plain spconv networks and what `from_spconv` makes of them give the same results."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from spcnn_lightning import interop
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import BatchNorm, InverseConv, NetworkInNetwork, SparseConv


@pytest.fixture
def native(spconv):
    """Options that make a spconv layer run on CPU."""
    from spconv.core import ConvAlgo

    return {"algo": ConvAlgo.Native}


@pytest.fixture
def network(spconv, native):
    """Convolutions with bias of every known kind, norms and activations; numbers all random."""
    torch.manual_seed(0)
    layers = spconv.SparseSequential(
        spconv.SubMConv2d(3, 8, 3, bias=True, indice_key="a", **native),
        nn.BatchNorm1d(8),
        nn.ReLU(inplace=True),
        spconv.SparseSequential(
            spconv.SparseConv2d(8, 6, (3, 2), (2, 1), (1, 0), bias=True, **native),
            nn.LeakyReLU(0.3),
            nn.Linear(6, 5),
            nn.Sigmoid(),
        ),
        spconv.SubMConv2d(5, 4, 1, bias=True, **native),
        spconv.SparseConv2d(4, 4, 1, bias=False, **native),
        spconv.SparseConv2d(4, 6, 1, 2, bias=True, **native),
        nn.BatchNorm1d(6, eps=0.01, momentum=0.3),
        nn.Identity(),
    )
    with torch.no_grad():
        for norm in (m for m in layers.modules() if isinstance(m, nn.BatchNorm1d)):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                tensor.normal_()
            norm.running_var.uniform_(0.5, 2)
    return layers


def run_theirs(network, batch):
    return interop.from_spconv_tensor(network(interop.to_spconv_tensor(batch)))


def evaluation(network):
    """Evaluation mode, but for the convolutions: on CPU spconv refuses a bias there."""
    network.eval()
    for module in network.modules():
        if hasattr(module, "indice_key"):
            module.train()
    return network


def assert_same(ours, theirs):
    assert not ours.ground_state.any()
    assert ours.num_sites == theirs.num_sites
    torch.testing.assert_close(ours.to_dense(), theirs.to_dense(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_results_are_equal(network, make_batch, training):
    network = network if training else evaluation(network)
    ours, batch = interop.from_spconv(network), make_batch()
    assert_same(ours(batch), run_theirs(network, batch))
    if training:  # the running statistics have moved alike
        norms = [m for m in ours.modules() if isinstance(m, BatchNorm)]
        originals = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
        for one, other in zip(norms, originals, strict=True):
            torch.testing.assert_close(one.running_mean, other.running_mean)
            torch.testing.assert_close(one.running_var, other.running_var)


def test_the_gradients_are_equal(network, make_batch):
    ours, batch = interop.from_spconv(network), make_batch()
    twin = batch.replace(features=batch.features.detach().clone().requires_grad_())
    outs = [ours(batch).to_dense(), run_theirs(network, twin).to_dense()]
    seed = torch.randn(outs[0].shape)
    for out in outs:
        out.backward(seed)
    torch.testing.assert_close(batch.features.grad, twin.features.grad, atol=1e-4, rtol=1e-4)
    first = interop.weight_from_spconv(network[0].weight.grad)
    torch.testing.assert_close(ours[0].weight.grad, first, atol=1e-4, rtol=1e-4)


def test_names_copies_and_modes_are_kept(network):
    network[0].weight.requires_grad_(False)
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    ours = interop.from_spconv(network, backend="torch")
    assert isinstance(ours, nn.Sequential)
    assert {"0.weight", "0.bias", "1.running_mean", "3_2.weight"} <= set(ours.state_dict())
    assert not ours[0].weight.requires_grad
    assert ours.training
    assert not ours.get_submodule("1").training
    assert {m.backend for m in ours.modules() if isinstance(m, SparseConv)} == {"torch"}
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_double_precision_is_kept(spconv, native, make_batch):
    layer = spconv.SubMConv2d(3, 4, 3, **native).double()
    ours, batch = interop.from_spconv(layer), make_batch(dtype=torch.float64)
    difference = ours(batch).to_dense() - run_theirs(layer, batch).to_dense()
    assert difference.abs().max() < 1e-13


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_every_dimension(spconv, native, make_batch, dimensions):
    torch.manual_seed(0)
    shape = (6, 5, 4, 3)[:dimensions]
    network = spconv.SparseSequential(
        getattr(spconv, f"SparseConv{dimensions}d")(3, 4, 2, 1, 0, **native),
        getattr(spconv, f"SubMConv{dimensions}d")(4, 5, 3, **native),
    )
    batch = make_batch(shape)
    assert_same(interop.from_spconv(network)(batch), run_theirs(network, batch))


def test_dilated_windows(spconv, native, make_batch):
    network = spconv.SparseSequential(
        spconv.SubMConv2d(3, 4, 3, dilation=2, **native),
        spconv.SparseConv2d(4, 5, 3, 1, 2, dilation=(1, 2), **native),
    )
    batch = make_batch((11, 10))
    assert_same(interop.from_spconv(network)(batch), run_theirs(network, batch))


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), ((3, 2), (2, 1), (0, 1))], ids=str)
def test_inverse_convolutions_return_to_the_sites_they_came_from(
    spconv, native, make_batch, window
):
    network = spconv.SparseSequential(
        spconv.SparseConv2d(3, 4, *window, indice_key="down", **native),
        nn.BatchNorm1d(4),
        spconv.SparseSequential(
            spconv.SubMConv2d(4, 4, 3, **native),
            spconv.SparseInverseConv2d(4, 5, window[0], indice_key="down", **native),
        ),
        nn.ReLU(),
    )
    ours, batch = interop.from_spconv(network), make_batch()
    assert any(isinstance(layer, InverseConv) for layer in ours)
    result = ours(batch)
    assert result.active_set is batch.active_set
    assert_same(result, run_theirs(network, batch))


# spconv 2.3.6 indexes with a list of tensors in dense().
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_dense_layers_after_to_dense(spconv, native, make_batch):
    network = spconv.SparseSequential(
        spconv.SparseConv2d(3, 4, 3, 2, **native),
        nn.ReLU(),
        spconv.ToDense(),
        nn.Conv2d(4, 2, 2),
        nn.Sequential(nn.Flatten(), nn.AlphaDropout(), nn.Linear(12, 3)),
    )
    network[4].eval()
    ours, batch = interop.from_spconv(network), make_batch()
    torch.testing.assert_close(ours(batch), network(interop.to_spconv_tensor(batch)))
    assert ours.get_submodule("3").weight is not network[3].weight


def test_max_pools_are_clamped_on_request(spconv, native, make_batch):
    network = spconv.SparseSequential(
        spconv.SubMConv2d(3, 4, 3, **native), spconv.SparseMaxPool2d(2, 2, **native)
    )
    with pytest.raises(ValueError, match=r"1 .SparseMaxPool2d.*clamp_pools=True"):
        interop.from_spconv(network)
    for density in (0.3, 1.0):
        batch = make_batch((8, 6), density=density)
        ours = interop.from_spconv(network, clamp_pools=True)
        assert_same(ours(batch), run_theirs(network, batch))


def test_pinning_keeps_inactive_sites_at_zero_where_ours_would_move_them(network, make_batch):
    ours, batch = interop.from_spconv(network), make_batch()
    free = nn.Sequential(*(m for m in ours if type(m).__name__ != "PinGround"))
    assert free(batch).ground_state.any()
    assert not torch.allclose(free(batch).to_dense(), ours(batch).to_dense(), atol=0.1)


def test_a_batch_without_sites(network):
    batch = SparseBatch.from_dense(torch.zeros(2, 3, 9, 7))
    out = interop.from_spconv(evaluation(network))(batch)
    assert out.num_sites == 0
    assert not out.to_dense().any()


def test_unknown_modules_are_named(spconv, native):
    class Block(spconv.SparseModule):
        def forward(self, x):
            return x

    conv = spconv.SubMConv2d(3, 4, 3, **native)
    for module, message in [
        (spconv.SparseSequential(conv, spconv.SparseSequential(Block())), "1_0 is a Block"),
        (spconv.SparseSequential(conv, nn.PReLU()), "1 is a PReLU"),
        (spconv.SparseSequential(conv, nn.AlphaDropout()), "1 is a AlphaDropout"),
        (spconv.SparseSequential(spconv.SparseGlobalMaxPool()), "0 is a SparseGlobalMaxPool"),
    ]:
        with pytest.raises(TypeError, match=message):
            interop.from_spconv(module)


def test_properties_that_ours_lack_are_named(spconv, native):
    for module, message in [
        (spconv.SubMConv2d(3, 4, 2, **native), "even kernel"),
        (spconv.SparseConvTranspose2d(3, 4, 2, **native), "transposed convolution to new sites"),
        (spconv.SparseInverseConv2d(3, 4, 2, indice_key="x", **native), "no earlier layer has it"),
        (spconv.SparseInverseConv2d(3, 4, 1, indice_key="x", **native), "inverse of one tap"),
        (nn.BatchNorm1d(3, momentum=None), "momentum None"),
        (nn.BatchNorm1d(3, track_running_stats=False), "running statistics False"),
    ]:
        with pytest.raises(ValueError, match=message):
            interop.from_spconv(module)


def test_a_norm_without_affine_parameters(spconv, make_batch):
    (layer, _) = interop.from_spconv(norm := nn.BatchNorm1d(3, affine=False))
    batch = make_batch()
    torch.testing.assert_close(layer(batch).features, norm(batch.features))
    assert not any(p.requires_grad for p in layer.parameters())


def test_a_linear_layer_alone(spconv):
    (layer,) = interop.from_spconv(linear := nn.Linear(3, 4, bias=False))
    assert isinstance(layer, NetworkInNetwork)
    assert torch.equal(layer.weight, linear.weight.T)


def test_a_module_that_occurs_twice_runs_twice(spconv, native, make_batch):
    torch.manual_seed(0)
    relu = nn.ReLU()
    network = spconv.SparseSequential(
        spconv.SubMConv2d(3, 4, 3, **native), relu, spconv.SubMConv2d(4, 4, 3, **native), relu
    )
    batch = make_batch()
    assert_same(interop.from_spconv(network)(batch), run_theirs(network, batch))


def test_dropout_does_nothing_in_evaluation(spconv, native, make_batch):
    layer = spconv.SubMConv2d(3, 4, 3, bias=False, **native)
    network = evaluation(spconv.SparseSequential(layer, nn.Dropout(0.9)))
    batch = make_batch()
    assert_same(interop.from_spconv(network).eval()(batch), run_theirs(network, batch))


class Doubling(nn.BatchNorm1d):
    def forward(self, rows):
        return 2 * super().forward(rows)


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda conv, s: s(conv(), Doubling(4)), "is a Doubling, which from_spconv does not know"),
        (lambda conv, s: s(*[conv()] * 2), "1 is 0 again .* share their weights"),
        (
            lambda conv, s: s(OrderedDict(a=s(OrderedDict(b=conv())), a_b=conv())),
            "two layers would both be called 'a_b'",
        ),
    ],
)
def test_what_would_be_lost_is_refused(spconv, native, build, error):
    network = build(lambda: spconv.SubMConv2d(4, 4, 3, **native), spconv.SparseSequential)
    with pytest.raises((TypeError, ValueError), match=error):
        interop.from_spconv(network)
