"""``spcnn bench``: time, memory and error of a network on each engine, in one table."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spcnn_lightning.core.errors import SpcnnError

if TYPE_CHECKING:
    from spcnn_lightning.bench.measure import Options
    from spcnn_lightning.bench.results import BenchReport
    from spcnn_lightning.bench.workload import Workload

DTYPES = ("float32", "float64", "bfloat16", "float16")
DESCRIPTION = """
Measure a network on several engines: of a config, on real batches of its data
  spcnn bench --config quickstart --backends torch,spconv,dense --model.network.levels 5
or of a name, on synthetic fields
  spcnn bench --network "DeepCNet(5, 100)" --field strokes --classes 3755
  spcnn bench --network "SubmanifoldConv(64, 64, (3, 3, 3))" --field random --sites 100000
Engines run in turns in one process, with a fresh active set in each repetition; peak memory is
measured in processes of their own. Exit status 1: an engine that was named did not run.
"""


def main(word: str, arguments: list[str], prog: str) -> int:
    """Run ``spcnn bench``."""
    parser = _parser(f"{prog} {word}")
    asked, rest = parser.parse_known_args(arguments)
    if rest and asked.config is None:
        parser.error(f"unknown options: {' '.join(rest)} (options of a config need --config)")
    if asked.plot is not None:
        from spcnn_lightning.bench.plot import check_plot

        check_plot(asked.plot)
    from spcnn_lightning.bench.measure import run_bench

    if asked.threads is not None:
        import torch

        torch.set_num_threads(asked.threads)
    options = _options(asked)
    workload = _workload(asked, rest, prog)
    command = shlex.join([prog, word, *arguments])
    report = run_bench(workload, options, command, None if asked.quiet else _say)
    _write(report, asked)
    named = asked.backends is not None
    return int(named and any(contender.reasons for contender in report.contenders))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="file or shipped name; its options can follow")
    what.add_argument("--network", help="name with arguments, or the paper's shorthand")
    fields = parser.add_argument_group("synthetic fields, with --network")
    fields.add_argument("--field", default="strokes", help="strokes, circle, square, full, random")
    fields.add_argument("--in-channels", type=int, default=9, metavar="N")
    fields.add_argument("--classes", type=int, default=10, metavar="N")
    fields.add_argument("--dimensions", type=int, default=2, metavar="D")
    fields.add_argument("--field-width", type=int, metavar="SITES", help="default: as needed")
    fields.add_argument("--box", type=int, metavar="SITES", help="default: a third of the field")
    fields.add_argument("--sites", type=int, metavar="N", help="of the whole batch, for random")
    fields.add_argument("--dropout", type=float, default=0.0, metavar="P")
    fields.add_argument("--seed", type=int, default=0, metavar="N")
    how = parser.add_argument_group("measuring")
    how.add_argument("--backends", help="list with commas: torch,spconv,dense; default: all")
    how.add_argument("--mode", choices=("train", "infer"), default="train")
    how.add_argument(
        "--batch-size", type=_positive, metavar="B", help="default: the config's, or 32"
    )
    how.add_argument("--device", default="cpu")
    how.add_argument("--dtype", choices=DTYPES, default="float32")
    how.add_argument("--autocast", choices=("bfloat16", "float16"))
    how.add_argument("--threads", type=_positive, metavar="N", help="of torch's arithmetic")
    how.add_argument("--repeats", type=int, default=7, metavar="N")
    how.add_argument("--check-samples", type=int, default=2, metavar="N", help="0: no errors")
    how.add_argument("--no-layers", action="store_true", help="do not time layers one by one")
    how.add_argument("--no-memory", action="store_true", help="do not measure peak memory")
    how.add_argument("--gemm", action="store_true", help="compare with the best matrix product")
    out = parser.add_argument_group("output")
    out.add_argument("--json", type=Path, metavar="FILE", help="everything, '-' for stdout")
    out.add_argument("--markdown", type=Path, metavar="FILE")
    out.add_argument("--plot", type=Path, metavar="FILE", help=".png, .svg or .pdf")
    out.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _positive(text: str) -> int:
    """Return a whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _options(asked: argparse.Namespace) -> Options:
    import torch

    from spcnn_lightning.bench.contenders import check_names, contender_names
    from spcnn_lightning.bench.measure import Options

    names = contender_names()
    if asked.backends is not None:
        names = [name.strip() for name in asked.backends.split(",") if name.strip()]
    check_names(names)
    return Options(
        backends=names,
        device=asked.device,
        dtype=getattr(torch, asked.dtype),
        autocast=asked.autocast and getattr(torch, asked.autocast),
        training=asked.mode == "train",
        repeats=asked.repeats,
        layers=not asked.no_layers,
        memory=not asked.no_memory,
        check_samples=asked.check_samples,
        gemm=asked.gemm,
    )


def _workload(asked: argparse.Namespace, overrides: Sequence[str], prog: str) -> Workload:
    if asked.config is not None:
        return _config_workload(asked, overrides, prog)
    from spcnn_lightning.bench.workload import named_workload

    return named_workload(
        asked.network,
        field=asked.field,
        batch_size=32 if asked.batch_size is None else asked.batch_size,
        in_channels=asked.in_channels,
        num_classes=asked.classes,
        dimensions=asked.dimensions,
        field_width=asked.field_width,
        box=asked.box,
        num_sites=asked.sites,
        dropout=asked.dropout,
        seed=asked.seed,
    )


def _config_workload(asked: argparse.Namespace, overrides: Sequence[str], prog: str) -> Workload:
    """Return the network of a config and the first batch that it would train or test on."""
    from spcnn_lightning.bench.workload import Workload
    from spcnn_lightning.commands.experiment import load_experiment
    from spcnn_lightning.core.sparse_batch import SparseBatch

    sizes = [f"--data.batch_size={asked.batch_size}"] if asked.batch_size is not None else []
    experiment = load_experiment(asked.config, [*overrides, *sizes], prog=f"{prog} bench")
    data = experiment.data
    data.prepare_data()
    data.setup("fit" if asked.mode == "train" else "test")
    loader = data.train_dataloader() if asked.mode == "train" else data.test_dataloader()
    first = next(iter(loader))
    data.teardown("fit" if asked.mode == "train" else "test")
    batch, targets = first if isinstance(first, (tuple, list)) else (first, None)
    if not isinstance(batch, SparseBatch):
        raise SpcnnError(
            f"the data of {asked.config} give batches of {type(batch).__name__}: a bench needs a "
            "SparseBatch, or a SparseBatch and targets"
        )
    title = f"{Path(asked.config).stem} {' '.join(overrides)}".strip()
    return Workload(title, experiment.network.cpu().float(), batch.to("cpu"), targets)


def _write(report: BenchReport, asked: argparse.Namespace) -> None:
    from spcnn_lightning.bench.report import as_markdown, as_text

    as_json = json.dumps(report.as_dict(), indent=1)
    if asked.json == Path("-"):
        print(as_json)
    else:
        print(as_text(report))
        if asked.json is not None:
            asked.json.write_text(as_json + "\n", encoding="utf-8")
    if asked.markdown is not None:
        asked.markdown.write_text(as_markdown(report), encoding="utf-8")
    if asked.plot is not None and any(contender.time for contender in report.contenders):
        from spcnn_lightning.bench.plot import plot

        plot(report, asked.plot)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)
