"""The network as plain torch.nn modules."""

import pytest
import torch
from torch import nn

from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import DeepCNet, DeepCNiN, SparseNetwork
from spcnn_lightning.nn import (
    Activation,
    AvgPool,
    BatchNorm,
    FeatureDropout,
    MaxPool,
    NetworkInNetwork,
    SparseConv,
    SubmanifoldConv,
)
from spcnn_lightning.reference.export import ExportError, export_dense


def picture(channels, shape, samples=3):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(samples, 1, *shape, generator=generator) < 0.2
    mask[0] = False
    x = torch.randn(samples, channels, *shape, generator=generator, dtype=torch.float64)
    return x * mask


def with_biases(network):
    torch.manual_seed(3)
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return network.double().eval()


def agree(network, x):
    plain = export_dense(network)
    for module in plain.modules():
        assert type(module).__module__.startswith("torch.nn.")
    expected = network(SparseBatch.from_dense(x))
    torch.testing.assert_close(plain(x), expected, rtol=1e-11, atol=1e-12)
    return plain


def every_layer(dimensions, readout):
    def of(*sizes):
        return sizes[:dimensions]

    layers = [
        SparseConv(2, 4, of(3, 2, 2), padding=1),
        Activation(nn.LeakyReLU(1 / 3)),
        BatchNorm(4),
        SparseConv(4, 5, of(2, 3, 2), padding=[(2, 1), (0, 2), (1, 0)][:dimensions], dilation=2),
        FeatureDropout(0.5),
        MaxPool(of(3, 2, 2), of(2, 1, 2), [(2, 1), (0, 1), (0, 0)][:dimensions]),
        NetworkInNetwork(5, 6),
        Activation(nn.Tanh()),
        SparseConv(6, 3, of(2, 2, 2), stride=2, padding=1, bias=False),
        AvgPool(of(2, 2, 1), padding=of(1, 0, 0)),
    ]
    if dimensions == 2:
        diagonal = ConvGeometry((2, 2), padding=1, offsets=[(0, 0), (1, 1)])
        layers.append(SparseConv(3, 3, geometry=diagonal))
    return SparseNetwork(layers, 3, 4, 2, of(9, 8, 7), readout)


@pytest.mark.parametrize("readout", ["mean", "max"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_layer_has_a_plain_form(dimensions, readout):
    network = with_biases(every_layer(dimensions, readout))
    agree(network, picture(2, network.spatial_shape))


@pytest.mark.parametrize("family", [DeepCNet, DeepCNiN])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_families_of_the_paper(family, dimensions):
    network = with_biases(family(2, 3, 2, 4, dimensions=dimensions, dropout=0.5))
    agree(network, picture(2, network.spatial_shape))


def test_weights_are_copied_and_the_network_is_left_alone():
    network = with_biases(DeepCNet(1, 2, 2, 3)).train()
    x = picture(2, (6, 6))
    plain = export_dense(network)
    assert network.training
    assert not any(module.training for module in plain.modules())
    before = plain(x)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(plain(x), before)


def test_it_goes_through_the_exporters_of_torch(tmp_path):
    network = with_biases(every_layer(2, "mean"))
    x = picture(2, network.spatial_shape)
    plain = export_dense(network)
    exported = torch.export.export(plain, (x,))
    torch.testing.assert_close(exported.module()(x), plain(x))
    torch.save(plain.state_dict(), tmp_path / "weights.pt")
    assert all(type(key) is str for key in torch.load(tmp_path / "weights.pt"))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is (deprecated|not supported):DeprecationWarning")
def test_it_can_be_traced(tmp_path):
    plain = export_dense(DeepCNiN(1, 2, 2, 3))
    x = picture(2, (6, 6)).float()
    traced = torch.jit.trace(plain, (x,))
    torch.testing.assert_close(traced(2 * x[:2]), plain(2 * x[:2]))


class Own(SparseNetwork):
    def forward(self, batch):
        return super().forward(batch) * 2


class OwnLayer(nn.Module):
    def forward(self, batch):
        return batch


class OwnConv(SparseConv):
    def forward(self, batch):
        return batch


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (DeepCNet(1, 2, 2, 3, dimensions=4), "has 4 dimensions and torch.nn has .* up to 3"),
        (
            SparseNetwork([SubmanifoldConv(2, 2, (3, 3))], 2, 3, 2, (6, 6), "mean"),
            r"layer0 is a submanifold convolution.*dense_twin\(network\) with a mask",
        ),
        (
            SparseNetwork([AvgPool((2, 2), padding=[(0, 1), (0, 0)])], 2, 3, 2, (6, 6), "mean"),
            r"layer0 is average pooling with padding \(\(0, 1\), \(0, 0\)\)",
        ),
        (
            SparseNetwork([AvgPool((3, 1), padding=(2, 0))], 2, 3, 2, (6, 6), "mean"),
            "by half a window at most",
        ),
        (SparseNetwork([OwnLayer()], 2, 3, 2, (6, 6), "max"), "layer0 is a OwnLayer, which has no"),
        (
            SparseNetwork([OwnConv(2, 2, (2, 2))], 2, 3, 2, (6, 6), "max"),
            "layer0 is a OwnConv, which has no plain",
        ),
        (Own([], 2, 3, 2, (1, 1)), "Own is not a SparseNetwork with its own layers in a row"),
        (nn.Sequential(), "Sequential is not a SparseNetwork"),
    ],
)
def test_what_has_no_plain_form_is_named(network, message):
    with pytest.raises(ExportError, match=message):
        export_dense(network)
