"""``spcnn plan``: what training a config will cost, and what sparsity saves on its data."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spcnn_lightning.core.errors import SpcnnError

if TYPE_CHECKING:
    from spcnn_lightning.commands.experiment import Experiment
    from spcnn_lightning.commands.plan_figures import Cost, Row
    from spcnn_lightning.core.sparse_batch import SparseBatch

DESCRIPTION = """
Count sites, multiply-adds and features on training samples of a config, and say what a run takes
  spcnn plan --config casia_deepcnet --data.source SimulatedHanzi
  spcnn plan --config quickstart --gpus 1,4 --tflops 30 --price 2.50
Nothing is trained and no GPU is needed. Options of the config can follow, as for fit.
"""
MIB = 2.0**20


def main(word: str, arguments: list[str], prog: str) -> int:
    """Run ``spcnn plan``."""
    asked, overrides = _parser(f"{prog} {word}").parse_known_args(arguments)
    from spcnn_lightning.commands.experiment import load_experiment
    from spcnn_lightning.commands.plan_figures import Speed, costs_of, plan_rows, sparse_batches

    first, *further = asked.config
    overrides = [word for config in further for word in ("--config", config)] + overrides
    asked.config = first
    experiment = load_experiment(first, overrides, prog=f"{prog} {word}")
    data = experiment.data
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    batches = sparse_batches(loader, asked.samples)
    samples = len(loader.dataset)
    data.teardown("fit")
    if not batches:
        raise SpcnnError(f"the training data of {asked.config} give no samples to count")
    costs = costs_of(experiment.network, batches)
    epochs = asked.epochs or experiment.config["trainer"]["max_epochs"]
    if not epochs or epochs < 1:
        raise SpcnnError(f"{asked.config} states no max_epochs: give --epochs")
    batch_size = int(getattr(data, "batch_size", batches[0].batch_size))
    print(f"{asked.config}: {samples:,} training samples, batch {batch_size}, {epochs} epochs\n")
    print(_table(_cost_lines(costs, sum(batch.batch_size for batch in batches))))
    if not asked.no_measure:
        rate = _measured(experiment, batches[0])
        print(f"\n{_here(rate, costs[0], samples * epochs)}")
    speeds = (
        Speed(asked.tflops * 1e12 / 2, asked.step_ms / 1e3),
        Speed(asked.dense_tflops * 1e12 / 2, asked.dense_step_ms / 1e3),
    )
    rate_of_config = _learning_rate(experiment.config)
    rows = plan_rows(
        costs, samples, epochs, batch_size, rate_of_config, asked.gpus, speeds, asked.efficiency
    )
    print(
        f"\na step on a GPU takes {asked.step_ms:g} ms and its work at {asked.tflops:g} TFLOP/s (a "
        f"multiply-add is two), that of the dense twin {asked.dense_step_ms:g} ms and "
        f"{asked.dense_tflops:g} TFLOP/s; on several {asked.efficiency:.0%} as fast:"
    )
    print(_table(_run_lines(rows, asked.price)))
    print(
        _verdict(
            costs, rows[0], speeds[0].step > speeds[0].seconds(costs[0].training * batch_size) / 2
        )
    )
    for line in _short_runs(rows, epochs, experiment.config):
        print(line)
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", required=True, action="append", help="file or shipped name; several as for fit"
    )
    parser.add_argument("--samples", type=_positive, default=256, help="to count on; default: 256")
    parser.add_argument("--epochs", type=_positive, help="default: max_epochs of the config")
    parser.add_argument("--gpus", type=_numbers, default=[1, 8, 64], help="default: 1,8,64")
    measured = "measured on an H200 with DeepCNet(6, 100), docs/performance.md"
    for name, default, text in (
        ("--tflops", 25.0, "useful float32 work of a GPU, beside launching"),
        ("--step-ms", 20.0, "what a step takes besides; about 10 with KernelMapsAhead"),
        ("--dense-tflops", 50.0, "the same of the dense twin, in TF32"),
        ("--dense-step-ms", 4.0, "and what its step takes besides"),
    ):
        parser.add_argument(
            name, type=_rate, default=default, help=f"{text}; default: {default:g}, {measured}"
        )
    parser.add_argument("--efficiency", type=_share, default=0.9, help="on several; default: 0.9")
    parser.add_argument("--price", type=_rate, help="of an hour of a GPU")
    parser.add_argument("--no-measure", action="store_true", help="do not time steps here")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 1")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [_positive(number.strip()) for number in text.split(",")]


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


def _share(text: str) -> float:
    value = _rate(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a share of at most 1")
    return value


def _cost_lines(costs: tuple[Cost, Cost], counted: int) -> list[Sequence[str]]:
    sparse, dense = costs
    lines: list[Sequence[str]] = [
        (f"per sample, mean of {counted:,}", "sparse", "dense", "dense / sparse")
    ]
    for name, unit, one, other in (
        ("sites of the input", 1, sparse.input_sites, dense.input_sites),
        ("sites of all layers", 1, sparse.sites, dense.sites),
        ("million multiply-adds, forward", 1e6, sparse.forward, dense.forward),
        ("million multiply-adds, training step", 1e6, sparse.training, dense.training),
        ("MiB of features, float32", MIB, sparse.features, dense.features),
    ):
        ratio = f"{other / one:,.1f}" if one else "-"
        lines.append((name, f"{one / unit:,.1f}", f"{other / unit:,.1f}", ratio))
    return lines


def _run_lines(rows: Sequence[Row], price: float | None) -> list[Sequence[str]]:
    head = ["GPUs", "batch", "learning rate", "steps/epoch", "samples/s", "time", "dense time"]
    lines: list[Sequence[str]] = [[*head, *(["cost", "dense cost"] if price else [])]]
    for row in rows:
        rate = "-" if row.learning_rate is None else f"{row.learning_rate:g}"
        cells = [str(row.devices), f"{row.batch:,}", rate, f"{row.steps:,}", f"{row.rate:,.0f}"]
        cells += [_duration(row.hours), _duration(row.dense_hours)]
        if price:
            hourly = price * row.devices
            cells += [f"{row.hours * hourly:,.2f}", f"{row.dense_hours * hourly:,.2f}"]
        lines.append(cells)
    return lines


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _duration(hours: float) -> str:
    for unit, size in (("days", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if hours >= 2 * size:
            return f"{hours / size:,.1f} {unit}"
    return f"{hours * 3600:,.1f} s"


def _measured(experiment: Experiment, batch: SparseBatch) -> float:
    """Return samples a second of training steps on this machine, the best of three."""
    from spcnn_lightning.core.active_set import ActiveSet
    from spcnn_lightning.core.sparse_batch import SparseBatch

    network = copy.deepcopy(experiment.network).train()
    best = float("inf")
    for _ in range(4):  # the first warms up
        # New sites, so that kernel maps are built anew as in training.
        sites = ActiveSet(batch.coords, batch.spatial_shape, batch.batch_size, validate=False)
        fresh = SparseBatch(sites, batch.features, batch.ground_state, validate=False)
        start = time.perf_counter()
        network(fresh).float().square().mean().backward()
        best = min(best, time.perf_counter() - start)
    return batch.batch_size / best


def _here(rate: float, cost: Cost, samples: int) -> str:
    import torch

    from spcnn_lightning.bench.machine import machine_facts

    facts = machine_facts(torch.device("cpu"))
    useful = rate * cost.training / 1e9
    return (
        f"measured here ({facts['cpu']}, {facts['threads']} threads, float32, without optimiser): "
        f"{rate:,.0f} samples/s, {useful:,.1f} billion multiply-adds/s; the run takes "
        f"{_duration(samples / rate / 3600)}"
    )


def _learning_rate(config: Mapping[str, Any]) -> float | None:
    model = config.get("model") or {}
    optimizer = (model.get("init_args") or model).get("optimizer") or {}
    rate = (optimizer.get("init_args") or {}).get("lr")
    return float(rate) if isinstance(rate, (int, float)) else None


def _verdict(costs: tuple[Cost, Cost], row: Row, launching: bool) -> str:
    sparse, dense = costs
    saved, ratio = 1 - sparse.training / dense.training, dense.training / sparse.training
    text = (
        f"\nOn these data sparsity saves {saved:.1%} of the multiply-adds: {ratio:.1f} times fewer "
        f"than the dense twin. On {row.devices} GPU{'s' if row.devices > 1 else ''} the run takes "
        f"{_duration(row.hours)} instead of {_duration(row.dense_hours)}."
    )
    if launching:
        text += "\nMost of a sparse step is spent launching it: larger batches cost little more."
    if row.hours > 0.8 * row.dense_hours:
        text += "\nThat is little or nothing gained: measure both (spcnn bench --device cuda)."
    return (
        f"{text}\nAssumed: loading keeps up, every GPU has its own batch, and the learning rate "
        "grows with\ntheir number (linear rule; warm up)."
    )


def _short_runs(rows: Sequence[Row], epochs: int, config: Mapping[str, Any]) -> list[str]:
    """Return a line for each row with so few steps that its learning rate makes no sense."""
    model = config.get("model") or {}
    warmup = int((model.get("init_args") or model).get("warmup_steps") or 0)
    return [
        f"On {row.devices} GPUs the run has {row.steps * epochs:,} steps, not many more than the "
        f"{warmup:,} of warmup_steps: take a smaller batch on each, or more epochs."
        for row in rows
        if row.steps * epochs < 5 * warmup
    ]
