"""onnxruntime beside ours: the same function, in inference on a CPU alone."""

import pytest

from spcnn_lightning.bench.measure import Options, run_bench
from spcnn_lightning.bench.workload import named_workload

pytest.importorskip("onnxruntime", reason="needs the extra 'export'")


def measured(network, *backends, **others):
    given = {"repeats": 2, "memory": False, "training": False} | others
    workload = named_workload(network, batch_size=1, in_channels=2, num_classes=5)
    return run_bench(workload, Options(backends, **given)).contenders


@pytest.mark.parametrize("memory", [True, False])
def test_it_computes_the_network(memory):
    ours, theirs = measured("DeepCNet(2, 4)", "torch", "onnxruntime", memory=memory)
    assert (ours.reasons, theirs.reasons) == ((), ())
    assert theirs.engine.startswith("onnxruntime 1.")
    assert theirs.error < 1e-5
    assert theirs.gradient_error is None
    assert theirs.time.step.median > 0
    assert (theirs.memory is not None) == memory


def test_what_it_cannot_do_is_said():
    (training,) = measured("DeepCNet(2, 4)", "onnxruntime", training=True)
    assert training.reasons == ("runs inference on the CPU here, without autocast",)
    (layer,) = measured("SubmanifoldConv(2, 4, (3, 3))", "onnxruntime")
    assert layer.reasons == ("takes a whole network in float32",)
