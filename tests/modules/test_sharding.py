"""A network whose weights are spread over processes computes what the whole network computes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys
from functools import partial
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard
from spcnn_lightning import DeepCNet, SparseConv
from spcnn_lightning.datamodules import HandwritingDataModule
from spcnn_lightning.modules import SparseClassifier

how, accumulated = sys.argv[1], int(sys.argv[2])
devices = 1 if how == "whole" else 2

class Sharded(SparseClassifier):
    def configure_model(self):
        if devices == 1:
            return
        mesh = self.device_mesh["data_parallel"]
        for layer in self.network.layers if how != "network" else ():
            if isinstance(layer, SparseConv):
                fully_shard(layer, mesh=mesh, reshard_after_forward=how == "layers")
        fully_shard(self.network, mesh=mesh)

seed_everything(1)
data = HandwritingDataModule(box=8, batch_size=12 // devices, augment=False)
network = DeepCNet(3, 3, data.in_channels, data.num_classes, dropout=0.5)
module = Sharded(network, partial(torch.optim.SGD, lr=0.1, momentum=0.9)).double()
trainer = Trainer(
    accelerator="cpu", devices=devices, max_steps=5, accumulate_grad_batches=accumulated,
    strategy=ModelParallelStrategy(2, 1) if devices == 2 else "auto", gradient_clip_val=0.5,
    logger=False, enable_checkpointing=False, enable_model_summary=False,
    enable_progress_bar=False, limit_val_batches=2, num_sanity_val_steps=0,
)
trainer.fit(module, data)
weights = {
    name: (weight.full_tensor() if devices == 2 else weight).detach()
    for name, weight in network.named_parameters()
}
if trainer.is_global_zero:
    torch.save(weights, f"{how}.pt")
if devices == 2:
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "accumulated"), [("network", 2), ("kept", 1)])
def test_training_equals_that_of_the_whole_network(
    how: str, accumulated: int, run_python: Callable, tmp_path: Path
):
    """With dropout, clipping and accumulation; ``kept``: layers are not sharded again at once."""
    (tmp_path / "train.py").write_text(SCRIPT)
    for each in (how, "whole"):
        result = run_python("train.py", each, str(accumulated))
        assert result.returncode == 0, result.stderr[-3000:]
    found, expected = (torch.load(tmp_path / f"{each}.pt") for each in (how, "whole"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_layers_that_are_sharded_again_after_their_forward_pass_are_an_error(
    run_python: Callable, tmp_path: Path
):
    """torch gathers weights for the backward pass by hooks on tensors; in a batch it sees none."""
    (tmp_path / "train.py").write_text(SCRIPT)
    result = run_python("train.py", "layers", "1")
    assert result.returncode != 0
    assert "out of bounds for storage of size 0" in result.stderr
