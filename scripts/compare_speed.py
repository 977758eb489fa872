"""Our torch backend beside spconv's own layers and the dense twin: times in turns, and ratios.

    python scripts/compare_speed.py a b --threads 2
    python scripts/compare_speed.py b --mode infer --batch-size 1

Workloads, each a training step without optimiser (kernel maps, pooling, ground state, bias and
activation included) or inference:

- a: DeepCNet(5, 100), simulated hanzi of 32 in 96 sites, 9 features, 3,755 classes
- b: DeepCNet(6, 100), the same of 64 in 192
- c: DeepCNiN(5, 100) on full pictures of 32 x 32 in 96, 3 channels
- d: DeepCNet(6, 32) in three dimensions on curves
- e: a submanifold convolution of 3 x 3 x 3 on 100,000 sites, 64 to 64 channels

spconv computes another function, without ground states and biases at inactive sites, with its
Native algorithm, the only one that runs on CPUs. Processor time is not wall time: leave the machine
alone. All engines build their kernel maps anew in each repetition.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spcnn_lightning import ActiveSet, DeepCNet, DeepCNiN, SparseBatch, SubmanifoldConv, compiled
from spcnn_lightning.bench.facts import layer_facts, train_macs
from spcnn_lightning.bench.fields import make_field
from spcnn_lightning.bench.machine import gemm_rate, machine_facts, machine_line
from spcnn_lightning.datamodules import (
    HandwritingAugmentation,
    HandwritingDataset,
    Octogram,
    Rasteriser,
    SimulatedHanzi,
)
from spcnn_lightning.reference import export_dense

CLASSES, FEATURES = 3755, 9
Step = Callable[[], Any]


def main() -> None:
    """Print a table for each workload."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="+", choices=list(WORKLOADS))
    parser.add_argument("--mode", choices=["train", "infer"], default="train")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--without", nargs="*", default=[], choices=["spconv", "dense"])
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    compiled.WORTH_COMPILING = 0
    print(machine_line(machine_facts(torch.device("cpu"))))
    for name in asked.workloads:
        torch.manual_seed(0)
        compare(name, asked)


def compare(name: str, asked: argparse.Namespace) -> None:
    """Measure the engines in turns and print medians and paired ratios."""
    network, batch = WORKLOADS[name](asked.batch_size)
    training = asked.mode == "train"
    network.train(training)
    steps = {"torch": step_of(network, lambda: fresh(batch), training)}
    if "spconv" not in asked.without:
        from plain_spconv import PlainSpconv, spconv_tensor

        plain = PlainSpconv(layers_of(network), getattr(network, "classifier", None))
        steps["spconv"] = step_of(plain.train(training), lambda: spconv_tensor(batch), training)
    if "dense" not in asked.without and name in "abc":
        dense = export_dense(network).train(training).to(memory_format=torch.channels_last)
        field = batch.to_dense().contiguous(memory_format=torch.channels_last)
        steps["dense"] = step_of(dense, lambda: field, training)
    times = take_turns(steps, asked.repeats)
    print(f"\n{name}: batch of {asked.batch_size}, {batch.num_sites} sites, {asked.mode}")
    for engine, taken in times.items():
        ratio = np.median(taken / times["torch"])
        print(f"  {engine:7} {1e3 * np.median(taken):9.1f} ms   {ratio:6.2f} x torch")
    facts = layer_facts(network, batch)
    work = train_macs(facts) if training else sum(layer.macs for layer in facts)
    rate = gemm_rate(torch.device("cpu"), torch.float32)
    share = work / np.median(times["torch"]) / rate
    print(
        f"  torch does {share:.0%} of the best matrix product, {rate / 1e9:.0f} G multiply-adds/s"
    )


def step_of(network: nn.Module, make: Callable[[], Any], training: bool) -> Step:
    """Return a step, forward and in training backward too, on a new input each time."""

    def infer() -> Tensor:
        with torch.inference_mode():
            return rows_of(network(make()))

    def train() -> None:
        network.zero_grad(set_to_none=True)
        rows = rows_of(network(make()))
        rows.backward(torch.full_like(rows, 1 / len(rows)))

    return train if training else infer


def take_turns(steps: dict[str, Step], repeats: int) -> dict[str, np.ndarray]:
    """Return the seconds of each repetition; the first one of each engine does not count."""
    seconds: dict[str, list[float]] = {engine: [] for engine in steps}
    for _ in range(repeats + 1):
        for engine, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[engine].append(time.perf_counter() - start)
    return {engine: np.array(taken[1:]) for engine, taken in seconds.items()}


def layers_of(network: nn.Module) -> Any:
    """Return the layers of a network, or a layer as the only one."""
    return getattr(network, "layers", [network])


def rows_of(result: Any) -> Tensor:
    """Return the scores, or the rows of a batch."""
    return result.features if isinstance(result, SparseBatch) else result


def fresh(batch: SparseBatch) -> SparseBatch:
    """Return the batch without its kernel maps."""
    sites = ActiveSet(batch.coords, batch.spatial_shape, batch.batch_size, validate=False)
    return SparseBatch(sites, batch.features, validate=False)


def handwriting(levels: int, batch_size: int) -> tuple[nn.Module, SparseBatch]:
    """Return DeepCNet(levels, 100) and simulated hanzi in a third of its field."""
    network = DeepCNet(levels, 100, in_channels=FEATURES, num_classes=CLASSES, dropout=0.0)
    box = network.spatial_shape[0] // 3
    rasteriser = Rasteriser(network.spatial_shape, box, Octogram(), HandwritingAugmentation())
    characters = SimulatedHanzi(train_writers=2, test_writers=1).characters("train")
    places = np.linspace(0, len(characters) - 1, batch_size).astype(int)
    return network, HandwritingDataset(characters, rasteriser).prepare(places.tolist())[0]


def pictures(batch_size: int) -> tuple[nn.Module, SparseBatch]:
    """Return DeepCNiN(5, 100) and full squares."""
    network = DeepCNiN(5, 100, in_channels=3, num_classes=10, dropout=0.0)
    return network, make_field("square", network.spatial_shape, batch_size, 3, box=32)


def curves(batch_size: int) -> tuple[nn.Module, SparseBatch]:
    """Return DeepCNet(6, 32) in three dimensions and curves."""
    network = DeepCNet(6, 32, in_channels=1, num_classes=10, dimensions=3, dropout=0.0)
    return network, make_field("strokes", network.spatial_shape, batch_size, 1)


def submanifold(batch_size: int) -> tuple[nn.Module, SparseBatch]:
    """Return a submanifold convolution and 100,000 sites of surfaces by chance."""
    batch = make_field("random", (100, 100, 100), 1, 64, num_sites=100_000)
    return SubmanifoldConv(64, 64, (3, 3, 3)), batch


WORKLOADS: dict[str, Callable[[int], tuple[nn.Module, SparseBatch]]] = {
    "a": lambda batch_size: handwriting(5, batch_size),
    "b": lambda batch_size: handwriting(6, batch_size),
    "c": pictures,
    "d": curves,
    "e": submanifold,
}


if __name__ == "__main__":
    main()
