"""``spcnn export``: a trained network as ONNX, and as safetensors with a JSON beside it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spcnn_lightning.core.errors import SpcnnError

if TYPE_CHECKING:
    from spcnn_lightning.commands.experiment import Experiment
    from spcnn_lightning.core.sparse_batch import SparseBatch

DESCRIPTION = """
Write the network of a config and a checkpoint to a folder: model.onnx (its dense twin, for any
number of samples), model.safetensors and config.json. What was written is read back, run on test
samples and compared with the sparse network. Options of the config can follow, as for spcnn fit.
"""
TOLERANCE = 1e-4
"""Largest difference of ONNX and the sparse network, over the largest logit, that is accepted."""


class ExportCheckError(SpcnnError):
    """What was exported does not give what the network gives."""


def main(word: str, arguments: list[str], prog: str) -> int:
    """Run ``spcnn export``."""
    parser = argparse.ArgumentParser(
        f"{prog} {word}",
        description=DESCRIPTION,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="file or shipped name")
    parser.add_argument("--ckpt_path", default="best", help="file, best (default) or last")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--samples", type=int, default=32, metavar="N", help="test samples to compare (default 32)"
    )
    asked, overrides = parser.parse_known_args(arguments)
    if asked.samples < 1:
        parser.error(f"--samples is {asked.samples}, expected at least 1")

    from spcnn_lightning.export import require_extra

    # Before anything is built.
    require_extra("onnx", "onnxscript", "onnxruntime", "safetensors")
    from spcnn_lightning.commands.experiment import load_experiment

    experiment = load_experiment(asked.config, overrides, asked.ckpt_path, prog)
    _export(experiment, asked.out, asked.samples)
    return 0


def _export(experiment: Experiment, folder: Path, samples: int) -> None:
    from spcnn_lightning.commands.export_check import check_export
    from spcnn_lightning.export import ONNX, load_exported, save_exported, write_onnx
    from spcnn_lightning.networks import SparseNetwork

    network = experiment.network
    if not isinstance(network, SparseNetwork):
        raise SpcnnError(
            f"the config's network is a {type(network).__name__}: only a SparseNetwork, a row of "
            "sparse layers, has a plain dense form"
        )
    network = network.cpu().float().eval()
    # The engine of training may need a GPU, and rounds otherwise.
    network.backend = "torch"
    experiment.data.prepare_data()
    facts = describe_data(experiment)
    save_exported(network, folder, _network_arguments(experiment), facts)
    print(f"weights and description: {folder}")
    write_onnx(network, folder / ONNX, facts)
    batch = test_samples(experiment, samples)
    check = check_export(folder, network, load_exported(folder, "torch"), batch)
    print(check.as_text())
    close = check.largest_difference <= TOLERANCE * check.largest_logit  # NaN is not
    if not (close and check.same_weights):
        raise ExportCheckError(
            f"{folder} differs from the network it was made of (see above): do not use it, and "
            "report this with the config"
        )


def describe_data(experiment: Experiment) -> dict[str, Any]:
    """Return what a user of the network has to know of its input and output, in plain types."""
    data = experiment.data
    encoder = getattr(data, "encoder", None)
    scale = getattr(data, "feature_scale", None)
    section: Mapping[str, Any] = experiment.config.get("data") or {}
    return {
        "class_names": list(getattr(data, "class_names", ())),
        "channel_names": list(getattr(encoder, "channel_names", ())),
        # Features are divided by these before they enter the network.
        "feature_scale": None if scale is None else scale.tolist(),
        "data": {"class_path": section.get("class_path"), "init_args": section.get("init_args")},
    }


def test_samples(experiment: Experiment, count: int) -> SparseBatch:
    """Return the first samples of the test data; fewer if there are fewer."""
    from spcnn_lightning.core.sparse_batch import SparseBatch

    data = experiment.data
    data.setup("test")
    batches, found = [], 0
    try:
        for batch in _sparse_batches(data.test_dataloader()):
            batches.append(batch.to("cpu"))
            found += batch.batch_size
            if found >= count:
                break
    finally:
        data.teardown("test")
    if not found:
        raise SpcnnError("the data of the config have no test samples to compare on")
    from spcnn_lightning.bench.values import first_samples

    return first_samples(SparseBatch.concatenate_samples(batches), count)


def _sparse_batches(loader: Any) -> Iterator[SparseBatch]:
    for entry in loader:
        yield entry[0] if isinstance(entry, (tuple, list)) else entry


def _network_arguments(experiment: Experiment) -> dict[str, Any]:
    model = experiment.config["model"]
    section = (model.get("init_args") or {}).get("network") or {}
    return dict(section.get("init_args") or {})
