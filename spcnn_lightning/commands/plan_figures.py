"""What training a config will cost: counts from its own data, times from a rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.modules.counting import LayerCount, count_layers
from spcnn_lightning.modules.sparsity import find_sparse_batch

BYTES = 4
"""Of a feature in float32."""


@dataclass(frozen=True)
class Cost:
    """What one sample costs on the mean, for the sparse network or for its dense twin.

    Attributes:
        input_sites: Sites of the input field.
        sites: Sites that come out of all these layers together.
        forward: Multiply-adds of the forward pass.
        training: Multiply-adds of a training step; the first layer needs no gradient of its input.
        features: Bytes of what convolutions, pooling and readout return, in float32.
    """

    input_sites: float
    sites: float
    forward: float
    training: float
    features: float


@dataclass(frozen=True)
class Row:
    """A number of devices, and what a run takes on them."""

    devices: int
    batch: int
    learning_rate: float | None
    steps: int
    rate: float
    """Samples a second."""
    hours: float
    dense_hours: float


def costs_of(network: Any, batches: Sequence[SparseBatch]) -> tuple[Cost, Cost]:
    """Count the mean cost of a sample: sparse, and dense."""
    counted = [count_layers(network, batch) for batch in batches]
    samples = sum(batch.batch_size for batch in batches)
    field = batches[0].active_set.volume
    sites = sum(batch.num_sites for batch in batches) / samples
    return _cost(counted, samples, sites, False), _cost(counted, samples, field, True)


def _cost(
    counted: Sequence[Sequence[LayerCount]], samples: int, input_sites: float, dense: bool
) -> Cost:
    sites = features = forward = training = 0.0
    for counts in counted:
        macs = [count.dense_macs if dense else count.sparse_macs for count in counts]
        sizes = [count.volume if dense else count.sites for count in counts]
        sites += sum(sizes)
        features += sum(s * c.channels for s, c in zip(sizes, counts, strict=True)) * BYTES
        forward += sum(macs)
        training += 3 * sum(macs) - next((count for count in macs if count), 0)
    return Cost(input_sites, *(x / samples for x in (sites, forward, training, features)))


def sparse_batches(loader: Any, samples: int) -> list[SparseBatch]:
    """Return the first batches of a loader, of so many samples at least if there are as many."""
    batches: list[SparseBatch] = []
    for batch in loader:
        found = find_sparse_batch(batch)
        if found is not None and found.batch_size:
            batches.append(found)
        if sum(batch.batch_size for batch in batches) >= samples:
            break
    return batches


class Speed(NamedTuple):
    """How fast a device trains.

    Attributes:
        macs: Useful multiply-adds a second, beside launching.
        step: Seconds that a step takes whatever is in it: a host has to launch it.
    """

    macs: float
    step: float = 0.0

    def seconds(self, macs: float) -> float:
        """Return how long a step of so many multiply-adds takes."""
        return self.step + macs / self.macs


def plan_rows(
    costs: tuple[Cost, Cost],
    samples: int,
    epochs: int,
    batch_size: int,
    learning_rate: float | None,
    devices: Sequence[int],
    speeds: tuple[Speed, Speed],
    efficiency: float,
) -> list[Row]:
    """Return what a run of ``epochs`` over ``samples`` takes, for each number of devices.

    Every device has a batch of its own and the learning rate grows with their number.

    Args:
        costs: Sparse and dense, from `costs_of`.
        samples: Of an epoch.
        epochs: Of the run.
        batch_size: Of a device.
        learning_rate: For one device; None if it is not known.
        devices: Numbers of devices.
        speeds: Of a device, sparse and dense.
        efficiency: Share of it that is left on more than one device.
    """
    rows = []
    for count in devices:
        batch = batch_size * count
        steps = -(-samples // batch)
        left = efficiency if count > 1 else 1.0
        hours, dense_hours = (
            steps * epochs * speed.seconds(cost.training * batch_size) / left / 3600
            for cost, speed in zip(costs, speeds, strict=True)
        )
        rows.append(
            Row(
                devices=count,
                batch=batch,
                learning_rate=None if learning_rate is None else learning_rate * count,
                steps=steps,
                rate=samples * epochs / hours / 3600 if hours else 0.0,
                hours=hours,
                dense_hours=dense_hours,
            )
        )
    return rows
