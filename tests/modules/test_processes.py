"""Several processes compute what one process computes with their batches joined."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback

from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules import (
    Characters,
    HandwritingDataModule,
    PenDigits8,
    SiteBatchSampler,
    Subset,
    count_sites,
)
from spcnn_lightning.modules import SparseClassifier
from spcnn_lightning.networks import DeepCNet
from spcnn_lightning.nn import BatchNorm

Make = Callable[..., Any]
Shares = Sequence[Sequence[int]]
"""The samples of each process in one batch."""

SAMPLES, CLASSES, FIELD, STEPS = 60, 7, (6, 6), 20

pytestmark = [
    # Lightning's advice on loaders, which are lists here, and on forked processes.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*use of fork.* may lead to deadlocks"),
]


@pytest.fixture(autouse=True)
def no_seed_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning hands it to the processes that it starts, but not to the one that they equal."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


class Batches:
    """A list that Lightning does not take for a list of loaders."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class SharedData(LightningDataModule):
    """Random pictures, one of them empty, handed out as ``shares`` says."""

    def __init__(self, train: Sequence[Shares] = (), evaluation: Sequence[Shares] = ()) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.samples = []
        for number in range(SAMPLES):
            picture = torch.rand(1, 1, *FIELD, generator=generator)
            picture *= picture < (0.0 if number == 7 else 0.3)
            self.samples.append((SparseBatch.from_dense(picture), (5 * number) % CLASSES))
        self.shares = {"train": train, "evaluation": evaluation}

    def batches(self, name: str) -> list[Any]:
        assert self.trainer is not None
        rank, found = self.trainer.global_rank, []
        for shares in self.shares[name]:
            chosen = [self.samples[number] for number in shares[rank]]
            sparse, target = collate(chosen or self.samples[:1])
            if not chosen:
                empty = torch.zeros(0, 1, *FIELD)
                sparse, target = SparseBatch.from_dense(empty), target[:0]
            found.append((sparse, target))
        return found

    def train_dataloader(self) -> Batches:
        return Batches(self.batches("train"))

    def val_dataloader(self) -> Batches:
        return Batches(self.batches("evaluation"))

    test_dataloader = val_dataloader


def joined(steps: Sequence[Shares], accumulated: int = 1) -> list[Shares]:
    """Return the batches of one process that holds what ``accumulated`` batches of all held."""
    return [
        [
            [
                number
                for shares in steps[start : start + accumulated]
                for part in shares
                for number in part
            ]
        ]
        for start in range(0, len(steps), accumulated)
    ]


def uneven(count: int, processes: int) -> list[Shares]:
    """Return batches of 0 to 4 samples, of all sizes in all processes; some are empty for all."""
    sizes = torch.randint(0, 5, (count, processes), generator=torch.Generator().manual_seed(8))
    sizes[count // 2] = 0
    starts = sizes.flatten().cumsum(0).roll(1).reshape(sizes.shape)
    starts[0, 0] = 0
    return [
        [[(int(s) + i) % SAMPLES for i in range(int(n))] for s, n in zip(first, each, strict=True)]
        for first, each in zip(starts, sizes, strict=True)
    ]


class Few(PenDigits8):
    """60 characters to train and hold out, and some to test."""

    def __init__(self, num_test: int) -> None:
        super().__init__()
        self.num_test = num_test

    def characters(self, part: str) -> Characters:
        numbers = range(60 if part == "train" else self.num_test)
        return Subset(super().characters(part), np.array(numbers))


class Agreement(Callback):
    """Fails where a process ends with other weights than the first one, or after other steps."""

    def __init__(self, steps: int = STEPS) -> None:
        self.steps = steps

    def on_train_end(self, trainer: Trainer, module: SparseClassifier) -> None:
        assert trainer.global_step == self.steps
        for weight in module.parameters():
            first = trainer.strategy.broadcast(weight.detach())
            torch.testing.assert_close(weight.detach(), first, rtol=0, atol=0)


@pytest.fixture
def fit(make_module: Make, make_trainer: Make) -> Make:
    """Train on as many processes as there are shares; return the weights and what was logged."""

    def run(
        data: SharedData,
        accumulated: int = 1,
        norm: str | None = None,
        single: bool = False,
        **module: Any,
    ) -> tuple[Any, dict[str, float]]:
        classifier = make_module(**module).to(torch.float32 if single else torch.float64)
        if norm is not None:
            layers = classifier.network.layers
            layers.insert(1, BatchNorm(layers[0].out_channels, statistics=norm).double())
        trainer = make_trainer(
            sync_batchnorm=norm is not None,
            **processes(len(data.shares["train"][0])),
            accumulate_grad_batches=accumulated,
            callbacks=[Agreement(-(-len(data.shares["train"]) // accumulated))],
            gradient_clip_val=0.5,
        )
        trainer.fit(classifier, data)
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return classifier.network.state_dict(), logged

    return run


def processes(number: int) -> dict[str, Any]:
    return {"devices": number, "strategy": "ddp_fork" if number > 1 else "auto"}


@pytest.mark.parametrize("dropout", [0.0, 0.5], ids=["", "dropout"])
@pytest.mark.parametrize(
    ("number", "accumulated", "short"), [(2, 1, 0), (4, 1, 0), (2, 2, 0), (1, 3, 2)]
)
def test_n_processes_train_as_one_does_with_the_joined_batches(
    number: int, accumulated: int, short: int, dropout: float, fit: Make
):
    """With batches that are uneven and empty; ``short``: the last step accumulates fewer."""
    steps = uneven(STEPS * accumulated - short, number)
    evaluation = uneven(3, number)
    weights, logged = fit(SharedData(steps, evaluation), accumulated, dropout=dropout)
    one = SharedData(joined(steps, accumulated), joined(evaluation))
    expected, expected_logged = fit(one, dropout=dropout)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-10)
    step = "train/loss_step"  # of a single batch, which here is not the same batch
    assert {**logged, step: 0} == {**expected_logged, step: 0}
    if accumulated == 1:
        assert logged[step] == pytest.approx(expected_logged[step], abs=1e-10)


@pytest.mark.parametrize("number", [2, 4])
def test_in_single_precision_the_first_steps_are_the_same(number: int, fit: Make):
    """Later ones drift: a maximum may fall on another site of a window."""
    steps, evaluation = uneven(STEPS, number)[:3], uneven(3, number)
    weights, _ = fit(SharedData(steps, evaluation), single=True)
    expected, _ = fit(SharedData(joined(steps), joined(evaluation)), single=True)
    for name, found in weights.items():
        assert found.dtype == torch.float32
        assert torch.dist(found, expected[name]) <= 1e-5 * expected[name].norm(), name


def test_test_figures_are_equal_to_the_last_digit(make_module: Make, make_trainer: Make):
    steps = [[[0], []], *uneven(4, 2)]
    results = []
    for shares in (steps, joined(steps)):
        trainer = make_trainer(**processes(len(shares[0])))
        module, data = make_module(), SharedData(evaluation=shares)
        results.append(trainer.test(module, data, verbose=False))
    assert results[0] == results[1]
    assert 0 < results[0][0]["test/error"] < 100


@pytest.mark.parametrize("statistics", ["active", "all"])
@pytest.mark.parametrize("number", [2, 4])
def test_batch_norm_takes_its_statistics_from_the_rows_of_all_processes(
    number: int, statistics: str, fit: Make
):
    """Some processes have no row, and once all have none."""
    steps, evaluation = uneven(STEPS, number), uneven(3, number)
    weights, logged = fit(SharedData(steps, evaluation), norm=statistics)
    expected, expected_logged = fit(SharedData(joined(steps), joined(evaluation)), norm=statistics)
    assert "layers.1.running_var" in weights
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-10)
    assert logged == pytest.approx(expected_logged, rel=1e-7)


@pytest.mark.parametrize("num_test", [13, 1])
def test_data_modules_share_what_one_process_sees(num_test: int, make_trainer: Make):
    """Nobody seeded the processes, and the test part cannot be dealt out evenly."""
    results = []
    for number, batch_size in ((2, 6), (1, 12)):
        # Processes that are forked would share a seed.
        class Unseeded(HandwritingDataModule):
            def setup(self, stage: str | None = None) -> None:
                torch.manual_seed(5 + self.trainer.global_rank)
                super().setup(stage)

        source = Few(num_test)
        data = Unseeded(source, box=8, batch_size=batch_size, validation_fraction=0.2)
        torch.manual_seed(1)
        network = DeepCNet(3, 3, data.in_channels, data.num_classes, dropout=0.5)
        module = SparseClassifier(network, partial(torch.optim.SGD, lr=0.1)).double()
        trainer = make_trainer(**processes(number), max_epochs=2)
        trainer.fit(module, data)
        fitted = {name: float(value) for name, value in trainer.callback_metrics.items()}
        tested = make_trainer(**processes(number)).test(module, data, verbose=False)
        results.append((module.network.state_dict(), fitted, tested))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-10)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-7)
    assert results[0][2] == results[1][2]


def test_processes_count_sites_together(make_trainer: Make):
    arguments = {"box": 8, "sites_per_batch": 300, "augment": False, "seed": 1}
    data = HandwritingDataModule(Few(3), **arguments)
    data.setup("fit")
    steps = len(SiteBatchSampler(count_sites(data.evaluation_data("train")), 300, world_size=2))
    network = DeepCNet(3, 3, data.in_channels, data.num_classes)
    trainer = make_trainer(**processes(2), callbacks=[Agreement(steps)])
    module = SparseClassifier(network, partial(torch.optim.SGD, lr=0.1))
    trainer.fit(module, HandwritingDataModule(Few(3), **arguments))
    assert steps > 2


def test_a_loss_that_is_not_finite_stops_every_process(make_module: Make, make_trainer: Make):
    """One process alone would leave the others waiting."""

    class Spoils(SharedData):
        def train_dataloader(self) -> Batches:
            batches = self.batches("train")
            if self.trainer is not None and self.trainer.global_rank == 1:
                batches[1][0].features.fill_(1e38)
            return Batches(batches)

    with pytest.raises(Exception, match="train/loss is (nan|inf) in epoch 0, batch 1"):
        make_trainer(**processes(2)).fit(make_module(), Spoils([[[0], [1]]] * 3, [[[0], [1]]]))
