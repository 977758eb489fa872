"""Callback: the first use of an engine, which may take long, before processes wait for another."""

from datetime import timedelta
from itertools import product
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch


class WarmUp(Callback):
    """Has each process of a DDP run compute once before the first of them waits in training.

    An engine that is loaded, compiled or tuned at its first use may take minutes, in some processes
    only: those with cold files, or nothing compiled yet. The others would wait in a collective
    operation, and the strategy's ``timeout``, which is there for processes that hang, would end the
    run. Here each computes scores and gradients of a made-up sample, and then waits for the others
    for up to ``patience``. Nothing of it remains: no gradient, statistics or random number.

    It serves modules whose ``network`` is a `SparseNetwork`; for others it does nothing.

    Args:
        patience: Seconds to wait for the slowest process.
    """

    def __init__(self, patience: float = 1800.0) -> None:
        if patience <= 0:
            raise ValueError(f"patience is {patience} seconds: it needs to be positive")
        self.patience = patience

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute, and wait."""
        network: Any = getattr(pl_module, "network", None)
        known = hasattr(network, "in_channels") and hasattr(network, "spatial_shape")
        if trainer.world_size == 1 or not known or not isinstance(trainer.strategy, DDPStrategy):
            return
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        modes = {module: module.training for module in pl_module.modules()}
        try:
            with trainer.precision_plugin.train_step_context():
                # Batch norm keeps its statistics, and asks nobody for theirs.
                scores = pl_module.eval()(made_up_sample(network, pl_module.device))
            if isinstance(scores, Tensor):
                # Not backward(), at which DDP would begin to communicate.
                torch.autograd.grad(scores.float().sum(), weights, allow_unused=True)
        finally:
            for module, mode in modes.items():
                module.training = mode
        # A group is made when all have come, and each may have a limit of its own. It stays until
        # the strategy ends all groups: at once, another process may still be connecting.
        distributed.new_group(backend="gloo", timeout=timedelta(seconds=self.patience))


def made_up_sample(network: Any, device: torch.device) -> SparseBatch:
    """Return one sample with sites in the middle of the field, up to 4 along each axis."""
    middle = [range(size // 2, min(size, size // 2 + 4)) for size in network.spatial_shape]
    coords = torch.tensor([(0, *site) for site in product(*middle)], dtype=torch.int32)
    dtype = next((weight.dtype for weight in network.parameters()), torch.float32)
    features = torch.ones(len(coords), network.in_channels, dtype=dtype)
    return SparseBatch(ActiveSet(coords, network.spatial_shape, 1), features).to(device)
