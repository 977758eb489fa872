import pytest
import torch

from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.geometry import Activity, ConvGeometry

LIMITED = Capabilities(
    devices=frozenset({"cuda"}),
    dtypes={"cuda": frozenset({torch.float32, torch.float16})},
    dimensions=range(2, 4),
    activities=frozenset({Activity.DILATING, Activity.SUBMANIFOLD}),
    transposed=False,
    even_submanifold=False,
    partial_windows=False,
)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (OpRequest(ConvGeometry((2, 2)), "cpu", torch.float32), "runs on cuda, not on cpu"),
        (
            OpRequest(ConvGeometry((2, 2)), "cuda", torch.float64),
            "takes float16, float32 on cuda, not float64",
        ),
        (OpRequest(ConvGeometry((2,)), "cuda", torch.float32), "has 2 to 3 dimensions, not 1"),
        (
            OpRequest(ConvGeometry((2, 2)), "cuda", torch.float32, transposed=True),
            "has no transposed convolution",
        ),
        (
            OpRequest(ConvGeometry.submanifold((2, 3)), "cuda", torch.float32),
            "has no submanifold kernels of even size, such as (2, 3)",
        ),
        (
            OpRequest(ConvGeometry((2, 2), offsets=[(0, 0)]), "cuda", torch.float32),
            "takes full windows only, not 1 taps of (2, 2)",
        ),
    ],
)
def test_each_thing_in_the_way_is_a_sentence(request_, sentence):
    assert LIMITED.reasons_against(request_) == [sentence]


def test_nothing_in_the_way_is_an_empty_list():
    assert not LIMITED.reasons_against(OpRequest(ConvGeometry((2, 2)), "cuda", torch.float16))


def test_a_request_reads_as_a_sentence():
    text = str(OpRequest(ConvGeometry((3, 2), 2, 1), "cpu", torch.float64, transposed=True))
    assert text.startswith("transposed convolution, kernel_size (3, 2), stride (2, 2)")
    assert text.endswith("float64 on cpu")
