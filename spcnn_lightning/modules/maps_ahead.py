"""Callback: kernel maps built by the workers that load the data, not in the training step."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from spcnn_lightning.core.map_plan import MapPlan, plan_of
from spcnn_lightning.modules.warm_up import made_up_sample
from spcnn_lightning.networks.sparse_network import without_filling


class KernelMapsAhead(Callback):
    """Has the data module build the kernel maps of its batches where it loads them.

    They depend on the sites alone. On a GPU the host then waits nowhere in a step to learn how many
    sites a layer has, and has less to launch; on a CPU with cores to spare they are built beside
    the step. Results are the same. It acts in ``fit``, on training and validation batches.

    It serves the data modules of this project, modules whose ``network`` is a `SparseNetwork`, and
    the ``torch`` backend; for others it warns and does nothing. In a Lightning project with its own
    data, pass ``collate_fn=CollateWithMaps(collate, plan)`` to the DataLoader.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out which maps the network needs, and tell the data module."""
        self._forget(trainer)
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "map_plan"):
            rank_zero_warn(
                f"KernelMapsAhead: {type(data).__name__} has no map_plan, so kernel maps are built "
                "in the step: pass collate_fn=CollateWithMaps(collate, plan) to your DataLoader"
            )
            return
        # An engine is chosen by the dtype that it computes in.
        with trainer.precision_plugin.train_step_context():
            plan = plan_for(pl_module)
        if plan is None or not plan.windows:
            rank_zero_warn(
                "KernelMapsAhead: the module has no SparseNetwork, or its backend builds kernel "
                "maps of its own, so none are built ahead: train with backend torch"
            )
            return
        data.map_plan = plan

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let later batches, of another network maybe, be without kernel maps again."""
        self._forget(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Do the same."""
        self._forget(trainer)

    @staticmethod
    def _forget(trainer: Trainer) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if hasattr(data, "map_plan"):
            data.map_plan = None


def plan_for(module: Any) -> MapPlan | None:
    """Return the plan of the kernel maps that the network of a module needs; None if unknown."""
    network: Any = getattr(module, "network", None)
    if not (hasattr(network, "in_channels") and hasattr(network, "spatial_shape")):
        return None
    weight = next(iter(network.parameters()))
    batch = made_up_sample(network, weight.device)
    modes = {layer: layer.training for layer in network.modules()}
    try:
        # The sites of one made-up sample say nothing of how full fields are.
        with torch.no_grad(), without_filling(network):
            network.eval()(batch)
    finally:
        for layer, mode in modes.items():
            layer.training = mode
    return plan_of(batch.active_set)
