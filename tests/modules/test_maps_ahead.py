"""KernelMapsAhead: training does not change, and the step builds no map."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from spcnn_lightning import DeepCNet
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.core import kernel_map
from spcnn_lightning.datamodules import ImagePaddingDataModule
from spcnn_lightning.modules import KernelMapsAhead, SparseClassifier, maps_ahead
from spcnn_lightning.modules.maps_ahead import plan_for
from spcnn_lightning.networks import SparseNetwork
from spcnn_lightning.nn import BatchNorm, SparseConv

Make = Callable[..., Any]


class Builds(Callback):
    """Counts the tables of maps that this process builds within training steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.inside, build = 0, False, kernel_map.build_tables

        def counted(*arguments: Any) -> Any:
            self.count += self.inside
            return build(*arguments)

        monkeypatch.setattr(kernel_map, "build_tables", counted)

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.inside = True

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.inside = False


def trained(make_trainer: Make, workers: int, *callbacks: Callback) -> tuple[Trainer, Any]:
    torch.manual_seed(3)
    network = DeepCNet(4, 64, 1, 10, dropout=0.5)  # wide, so that no field is filled
    module = SparseClassifier(network, optimizer=partial(torch.optim.SGD, lr=0.01))
    data = ImagePaddingDataModule(spatial_shape=(48, 48), num_workers=workers, seed=1)
    trainer = make_trainer(max_steps=3, limit_val_batches=1, callbacks=list(callbacks))
    trainer.fit(module, data)
    return trainer, module


@pytest.mark.parametrize("workers", [0, 1])
def test_training_gives_the_same_weights_and_builds_no_map_in_a_step(
    workers: int, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = Builds(monkeypatch)
    _, expected = trained(make_trainer, workers, builds)
    assert builds.count >= 3 * 4  # of five convolutions and four pools; full fields need none
    builds.count = 0
    trainer, found = trained(make_trainer, workers, builds, KernelMapsAhead())
    assert builds.count == 0
    assert trainer.datamodule.map_plan is None  # it was for this network
    for name, weight in expected.state_dict().items():
        assert torch.equal(weight, found.state_dict()[name]), name


def test_a_plan_has_the_maps_of_fields_that_are_not_filled(
    make_module: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_module()
    expected = plan_for(module)
    monkeypatch.setattr(TorchBackend, "prefers_full", lambda *operands: True)
    assert plan_for(module) == expected
    assert "fills" not in vars(module.network)


def test_planning_leaves_no_trace(make_module: Make) -> None:
    module = make_module(dropout=0.5)
    layers = [SparseConv(1, 3, (3, 3)), BatchNorm(3), SparseConv(3, 2, (2, 2))]
    module.network = SparseNetwork(layers, 2, 7, 1, (6, 6), "mean")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.network.layers[1].eval()
    assert len(plan_for(module).windows) == 1
    assert [layer.training for layer in module.network.layers] == [True, False, True]
    module.network.train()
    plan_for(module)
    for name, value in before.items():
        assert torch.equal(value, module.state_dict()[name]), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_plans_for_the_precision_of_the_training(
    precision: str, make_module: Make, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        maps_ahead, "plan_for", lambda module: seen.append(torch.is_autocast_enabled("cpu"))
    )
    data = ImagePaddingDataModule(spatial_shape=(6, 6))
    trainer = make_trainer(precision=precision, callbacks=[KernelMapsAhead()], max_steps=0)
    with pytest.warns(UserWarning, match="no SparseNetwork, or its backend"):
        trainer.fit(make_module(), data)
    assert seen == [precision == "bf16-mixed"]


def test_it_says_where_it_does_nothing(data: Any, make_module: Make, make_trainer: Make) -> None:
    with pytest.warns(UserWarning, match="TinyData has no map_plan"):
        make_trainer(callbacks=[KernelMapsAhead()]).fit(make_module(), data)

    module = make_module()
    data.map_plan = None
    module.network = torch.nn.Sequential(module.network)
    with pytest.warns(UserWarning, match="no SparseNetwork, or its backend"):
        make_trainer(callbacks=[KernelMapsAhead()]).fit(module, data)
    assert data.map_plan is None
