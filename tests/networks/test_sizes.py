"""Sizes, parameter counts and active sites of the networks of the paper."""

import math

import pytest
import torch

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import DeepCNet, DeepCNiN, network_from_notation
from spcnn_lightning.networks.notation import parse_notation
from spcnn_lightning.nn import Activation, FeatureDropout, MaxPool, NetworkInNetwork, SparseConv

PARAMETERS = [
    (DeepCNet, 4, 30, 7, 10, 147_850),
    (DeepCNet, 5, 60, 1, 10, 1_013_410),
    (DeepCNet, 5, 100, 1, 3755, 5_059_755),
    (DeepCNet, 5, 100, 9, 3755, 5_066_955),
    (DeepCNet, 6, 100, 1, 3755, 7_115_955),
    (DeepCNet, 6, 100, 7, 3755, 7_121_355),
    (DeepCNet, 6, 50, 7, 183, 1_188_783),
    (DeepCNet, 5, 300, 3, 10, 25_232_410),
    (DeepCNiN, 5, 100, 9, 3755, 5_979_055),
    (DeepCNiN, 5, 100, 3, 10, 3_722_910),
    (DeepCNiN, 5, 100, 3, 100, 3_777_000),
    (DeepCNiN, 6, 100, 9, 3755, 8_525_955),
    (DeepCNiN, 6, 64, 15, 183, 2_502_839),
    (DeepCNiN, 6, 160, 15, 3755, 19_292_715),
    (DeepCNiN, 5, 300, 3, 10, 33_428_710),
    (DeepCNiN, 5, 300, 3, 100, 33_590_800),
]
HIDDEN = [
    (DeepCNet, 5, 100, 2_803_000),
    (DeepCNiN, 5, 100, 3_715_100),
    (DeepCNiN, 6, 100, 5_886_500),
]
FIELDS = {
    4: [48, 46, 23, 22, 11, 10, 5, 4, 2, 1],
    5: [96, 94, 47, 46, 23, 22, 11, 10, 5, 4, 2, 1],
    6: [192, 190, 95, 94, 47, 46, 23, 22, 11, 10, 5, 4, 2, 1],
}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("family", "levels", "width", "m", "classes", "expected"), PARAMETERS)
def test_the_number_of_parameters(family, levels, width, m, classes, expected):
    with torch.device("meta"):
        assert count(family(levels, width, m, classes)) == expected


@pytest.mark.parametrize(("family", "levels", "width", "expected"), HIDDEN)
def test_the_number_of_parameters_without_the_output_layer(family, levels, width, expected):
    with torch.device("meta"):
        assert count(family(levels, width, 1, 10).layers) == expected


def fields(network):
    shapes = [network.spatial_shape]
    for layer in network.layers:
        if hasattr(layer, "geometry"):
            shapes.append(layer.geometry.output_shape(shapes[-1]))
    return shapes


@pytest.mark.parametrize("levels", FIELDS)
def test_the_sizes_of_the_layers(levels):
    network = DeepCNet(levels, 1, 1, 2)
    assert network.spatial_shape == (3 * 2**levels,) * 2
    assert [height for height, _ in fields(network)] == FIELDS[levels]
    channels = [layer.out_channels for layer in network.layers if isinstance(layer, SparseConv)]
    assert channels == list(range(1, levels + 2))


def test_a_layer_of_matrices_follows_each_pooling_and_the_last_convolution():
    terms = DeepCNiN(4, 100, 1, 10).notation
    assert terms == (
        "100C3-MP2-100C1-200C2-MP2-200C1-300C2-MP2-300C1-400C2-MP2-400C1-500C2-500C1-output"
    )


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_any_number_of_dimensions(dimensions):
    network = DeepCNet(2, 2, 1, 2, dimensions=dimensions)
    assert network.spatial_shape == (12,) * dimensions
    assert network.layers[0].weight.shape == (3**dimensions, 1, 2)
    assert network.layers[3].weight.shape == (2**dimensions, 2, 4)
    assert fields(network)[-1] == (1,) * dimensions


def circle(diameter=32, field=96):
    """Sites of a circle in the middle of the field: 126 for diameter 32."""
    angles = torch.arange(20_000, dtype=torch.float64) * (2 * math.pi / 20_000)
    x, y = (field / 2 + diameter / 2 * wave(angles) for wave in (torch.cos, torch.sin))
    pixels = torch.stack([x.floor(), y.floor()], 1).int().unique(dim=0)
    return torch.cat([torch.zeros(len(pixels), 1, dtype=torch.int32), pixels], 1)


def test_the_active_sites_of_a_circle():
    batch = SparseBatch(ActiveSet(circle(), (96, 96), 1), torch.ones(126, 1))
    counts = []
    for layer in DeepCNet(5, 1, 1, 2).layers:
        batch = layer(batch)
        if hasattr(layer, "geometry"):
            counts.append(batch.num_sites)
    assert counts == [378, 124, 186, 60, 90, 28, 42, 13, 16, 4, 1]


def activations(network):
    return {repr(x.function) for x in network.layers if isinstance(x, Activation)}


def test_the_activations_are_those_of_the_paper():
    assert activations(DeepCNet(2, 2, 1, 2)) == {"ReLU()"}
    assert activations(DeepCNiN(2, 2, 1, 2)) == {f"LeakyReLU(negative_slope={1 / 3})"}
    assert activations(DeepCNet(2, 2, 1, 2, slope=0.01)) == {"LeakyReLU(negative_slope=0.01)"}
    kinds = [type(x) for x in DeepCNiN(1, 2, 1, 2).layers]
    assert kinds == [
        *(SparseConv, MaxPool, Activation, NetworkInNetwork, Activation),
        *(SparseConv, Activation, NetworkInNetwork, Activation),
    ]


K14 = (
    "3x126x126-320C2-320C2-MP2-640C2-640C2-MP2-960C2-960C2-MP2-1280C2-1280C2-MP2-1600C2-1600C2-MP2"
    "-1920C2-1920C1-10C1-softmax"
)


def test_the_network_of_the_kaggle_contest():
    with torch.device("meta"):
        network = network_from_notation(K14, in_channels=3, dropout=0.5, slope=1 / 3)
    assert network.spatial_shape == (126, 126)
    assert network.num_classes == 10
    ramp = [layer.p for layer in network.layers if isinstance(layer, FeatureDropout)]
    assert ramp == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5])


def test_the_dropout_of_a_level_reaches_its_matrices_too():
    network = DeepCNiN(5, 2, 1, 2, dropout=0.5)
    ramp = [layer.p for layer in network.layers if isinstance(layer, FeatureDropout)]
    # The layer of matrices behind a pooling belongs to the level below it.
    assert ramp == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5])
    listed = DeepCNet(5, 2, 1, 2, dropout=[0, 0, 0, 0.2, 0.2, 0.3])
    assert [x.p for x in listed.layers if isinstance(x, FeatureDropout)] == [0.2, 0.2, 0.3]
    numbers = [layer.layer for layer in network.layers if isinstance(layer, FeatureDropout)]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("100C3-MP2", "has no output layer: end it with '-output'"),
        ("", "has no output layer"),
        ("output", "has no hidden convolution"),
        ("MP2-output", "has no hidden convolution"),
        ("100C3-MQ2-output", "'MQ2' in '100C3-MQ2-output' cannot be read"),
        ("100C0-output", "'100C0'"),
        ("0C3-output", "'0C3'"),
        ("100C3--output", "''"),
    ],
)
def test_a_shorthand_that_cannot_be_read_is_refused(notation, message):
    with pytest.raises(ValueError, match=message):
        parse_notation(notation)


def test_the_shorthand_gives_the_classes_or_they_are_given():
    assert network_from_notation("4C2-7C1", 1).num_classes == 7
    assert network_from_notation("input-4C2-output", 1, 5).num_classes == 5
    with pytest.raises(ValueError, match="ends with no number of classes: give num_classes"):
        network_from_notation("4C2-output", 1)
    with pytest.raises(ValueError, match=r"num_classes is 5 and .* ends with 7 classes"):
        network_from_notation("4C2-7C1", 1, 5)


def test_levels_that_do_not_fit_the_field_are_refused():
    with pytest.raises(ValueError, match=r"field \(48, 48\) is too small .* shrunk to \(1, 1\)"):
        DeepCNet(5, 2, 1, 2, spatial_shape=(48, 48))
    with pytest.raises(
        ValueError, match=r"\(96, 96\) shrinks to \(4, 4\).*change the levels or th"
    ):
        DeepCNet(4, 2, 1, 2, spatial_shape=(96, 96))
    with pytest.raises(ValueError, match=r"spatial_shape is \(96,\), which has 1 entries"):
        DeepCNet(5, 2, 1, 2, spatial_shape=(96,))
    with pytest.raises(ValueError, match="levels is 0 and width 2: both must be at least 1"):
        DeepCNet(0, 2, 1, 2)
    with pytest.raises(ValueError, match=r"dropout has 2 entries, expected 3"):
        DeepCNet(2, 2, 1, 2, dropout=[0, 0.5])
    assert DeepCNet(4, 2, 1, 2, spatial_shape=(96, 96), readout="max").spatial_shape == (96, 96)


def test_a_batch_of_another_field_or_other_channels_is_refused():
    network = DeepCNet(2, 2, 1, 2)
    for x in (torch.ones(1, 1, 12, 13), torch.ones(1, 2, 12, 12)):
        with pytest.raises(
            ValueError, match=r"takes 1 channels on a field \(12, 12\), the batch ha"
        ):
            network(SparseBatch.from_dense(x))


def test_the_backend_is_set_for_all_layers_and_is_not_saved():
    network = DeepCNet(2, 2, 1, 2, backend="torch")
    convolutions = [layer for layer in network.layers if isinstance(layer, SparseConv)]
    assert {layer.backend for layer in convolutions} == {"torch"}
    keys = set(network.state_dict())
    network.backend = "spconv:native"
    assert network.backend == "spconv:native"
    assert set(network.state_dict()) == keys
    convolutions[0].backend = "auto"
    assert network.backend == "mixed"


def test_the_window_of_a_level_is_a_geometry_as_any_other():
    assert DeepCNet(2, 2, 1, 2).layers[1].geometry == ConvGeometry((2, 2), 2)


@pytest.mark.parametrize(("family", "slope"), [(DeepCNet, 0.0), (DeepCNiN, 1 / 3)])
def test_start_values_know_the_slope_of_the_activation(family, slope):
    torch.manual_seed(0)
    network = family(3, 40, 9, 10)
    for layer in network.layers:
        if isinstance(layer, SparseConv | NetworkInNetwork):
            fan_in = layer.weight.numel() / layer.weight.shape[-1]
            expected = math.sqrt(2 / ((1 + slope**2) * fan_in))
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.04)


def test_a_dense_tensor_is_refused_with_the_way_to_make_it_sparse():
    with pytest.raises(TypeError, match=r"SparseBatch, not a dense tensor: SparseBatch.from_dense"):
        DeepCNet(2, 2, 1, 2)(torch.ones(1, 1, 12, 12))
