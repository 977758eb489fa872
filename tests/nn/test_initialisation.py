import math

import pytest
import torch

from spcnn_lightning.networks import DeepCNet, DeepCNiN
from spcnn_lightning.nn.initialisation import initialise


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def fills(weight, bound, share=0.98):
    # float32 may round a bound up.
    return share * bound < float(weight.detach().abs().max()) <= bound * (1 + 1e-6)


@pytest.mark.parametrize(
    ("shape", "kernel", "pool", "fan"),
    [
        ((9, 7, 100), 3, 2, 7 * 9 + 100 * 1.5**2),  # alpha = (kernel / stride / pool)^2
        ((4, 100, 200), 2, 2, 100 * 4 + 200),
        ((4, 400, 500), 2, 1, 400 * 4 + 500 * 4),
        ((100, 100), 1, 1, 200),
    ],
)
def test_the_start_values_of_the_paper_fill_their_interval(shape, kernel, pool, fan):
    weight = torch.empty(shape)
    initialise(weight, "paper", kernel_size=kernel, pool_size=pool)
    bound = math.sqrt(6 / fan)
    assert fills(weight, bound)
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_stride_counts_in_the_start_values_of_the_paper():
    weight = torch.empty(9, 50, 50)
    initialise(weight, "paper", kernel_size=3, stride=3)
    assert fills(weight, math.sqrt(6 / (450 + 50)))


@pytest.mark.parametrize("slope", [0.0, 1 / 3])
def test_he_keeps_the_variance_of_leaky_layers(slope):
    weight = torch.empty(4, 200, 100)
    initialise(weight, "he", slope=slope)
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / ((1 + slope**2) * 800)), rel=0.02)


def test_the_networks_use_the_window_and_the_pooling_that_follow():
    network = DeepCNiN(2, 60, 3, 10, init="paper")
    convolutions = [layer for layer in network.layers if hasattr(layer, "weight")]
    fans = [27 + 60 * 2.25, 60 + 60, 240 + 120, 120 + 120, 480 + 180 * 4, 180 + 180]
    for layer, fan in zip(convolutions, fans, strict=True):
        assert fills(layer.weight, math.sqrt(6 / fan), 0.97)
        assert not layer.bias.any()


@pytest.mark.parametrize(("init", "classes"), [("paper", 101), ("paper", 10), ("he", 100)])
def test_the_classifier_starts_as_in_the_programs_of_the_paper(init, classes):
    classifier = DeepCNet(2, 60, 3, classes, init=init).classifier
    assert fills(classifier.weight, math.sqrt(6 / (180 + classes)))
    assert not classifier.bias.any()


def test_the_classifier_of_many_classes_starts_next_to_zero_but_not_at_zero():
    classifier = DeepCNet(2, 60, 3, 101).classifier
    assert fills(classifier.weight, 0.01 * math.sqrt(6 / (180 + 101)))
    assert not classifier.bias.any()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="init is 'xavier', expected 'paper' or 'he'"):
        DeepCNet(1, 2, 1, 2, init="xavier")
