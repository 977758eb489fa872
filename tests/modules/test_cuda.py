"""Training by Lightning on a GPU: the numbers of the CPU, every precision, DDP over NCCL."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

Make = Callable[..., Any]

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
    # What Lightning and torch think of the machine and of so small a run is not tested here.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(autouse=True)
def no_process_group_stays() -> Iterator[None]:
    """One over NCCL would be asked for numbers on the CPU by the next test."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def weights_after(
    make_module: Make, make_trainer: Make, data: Any, arguments: dict[str, Any]
) -> dict[str, Any]:
    trainer = make_trainer(max_epochs=2, **arguments)
    module = make_module(dropout=0.5)
    trainer.fit(module, data)
    logged = trainer.test(module, data, verbose=False)[0]
    return {"loss": logged["test/loss"], **{k: v.cpu() for k, v in module.state_dict().items()}}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Largest relative difference of the weights, by norm, and of the test loss."""
    loss = abs(one["loss"] - other["loss"]) / other["loss"]
    names = [name for name in one if name != "loss" and one[name].is_floating_point()]
    norms = [
        float((one[name] - other[name]).norm() / other[name].norm().clamp(min=1e-6))
        for name in names
    ]
    return max(loss, *norms)


@pytest.mark.parametrize(
    ("arguments", "tolerance"),
    [
        ({"accelerator": "gpu"}, 1e-4),
        ({"accelerator": "gpu", "strategy": "ddp", "use_distributed_sampler": False}, 1e-4),
        ({"accelerator": "gpu", "precision": "bf16-mixed"}, 0.2),
        ({"accelerator": "gpu", "precision": "16-mixed"}, 0.1),
    ],
    ids=["one device", "ddp over nccl", "bf16-mixed", "16-mixed"],
)
def test_training_gives_the_weights_of_the_cpu(
    arguments: dict[str, Any], tolerance: float, make_module: Make, make_trainer: Make, data: Any
) -> None:
    expected = weights_after(make_module, make_trainer, data, {})
    if arguments.get("precision") == "16-mixed":
        # From its usual scale it would skip the first of these few steps.
        scaler = torch.amp.GradScaler("cuda", init_scale=64.0)
        plugin = MixedPrecision("16-mixed", "cuda", scaler)
        arguments = {"accelerator": "gpu", "plugins": [plugin]}
    found = weights_after(make_module, make_trainer, data, arguments)
    assert difference(found, expected) < tolerance
