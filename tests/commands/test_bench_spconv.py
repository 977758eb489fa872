"""spconv's own layers beside ours: fast or slow, but another function."""

import pytest
import torch

from spcnn_lightning.adapters import get_backend
from spcnn_lightning.bench.measure import Options, run_bench
from spcnn_lightning.bench.workload import named_workload


@pytest.fixture(autouse=True)
def spconv_computes():
    spconv = get_backend("spconv")
    if reasons := spconv.availability():
        pytest.skip(f"spconv: {'; '.join(reasons)}")
    if spconv.computes_in_torch("cpu"):
        pytest.skip("this build of spconv computes wrongly on a CPU")


def measured(workload, *backends, **others):
    given = {"repeats": 1, "memory": False} | others
    return run_bench(workload, Options(backends, **given)).contenders


@pytest.mark.parametrize("training", [True, False])
def test_without_biases_they_are_the_same_network(training):
    workload = named_workload("DeepCNet(2, 4)", batch_size=3, in_channels=2, num_classes=5)
    with torch.no_grad():
        for name, parameter in workload.network.named_parameters():
            if name.endswith("bias") and not name.startswith("classifier"):
                parameter.zero_()
    ours, theirs = measured(workload, "torch", "spconv_layers", training=training)
    assert theirs.reasons == ()
    assert "no ground state" in theirs.engine
    assert theirs.error < 1e-5
    assert ours.error < 1e-5


def test_with_biases_only_the_adapter_computes_the_network():
    workload = named_workload("DeepCNet(2, 4)", batch_size=3, in_channels=2, num_classes=5)
    with torch.no_grad():
        for layer in workload.network.layers:
            if getattr(layer, "bias", None) is not None:
                layer.bias.fill_(0.3)
    adapter, layers = measured(workload, "spconv", "spconv_layers")
    assert adapter.error < 1e-5
    assert layers.error > 0.01


@pytest.mark.parametrize("memory", [True, False])
def test_one_layer(memory):
    workload = named_workload(
        "SubmanifoldConv(3, 4, (3, 3, 3))", field="random", num_sites=200, batch_size=1
    )
    (found,) = measured(workload, "spconv_layers", memory=memory)
    assert found.reasons == ()
    assert found.error < 1e-5
    assert (found.memory is not None) == memory


def test_biases_are_those_of_the_network():
    workload = named_workload(
        "SparseConv(2, 3, (2, 2))", field="full", field_width=5, batch_size=1, in_channels=2
    )
    with torch.no_grad():
        workload.network[0].bias.copy_(torch.tensor([0.3, -0.2, 0.1]))
    (found,) = measured(workload, "spconv_layers")  # every site is active: nothing is missing
    assert found.error < 1e-5


def test_a_layer_without_a_form_is_named():
    workload = named_workload("SparseConv(2, 3, (3, 3), padding=1)", batch_size=1, in_channels=2)
    (found,) = measured(workload, "spconv_layers")
    assert found.reasons == ("a padded SparseConv has no form in spconv's layers here",)
