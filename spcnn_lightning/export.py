"""A trained network outside of training: safetensors with a JSON beside it, and ONNX.

An exported folder holds ``model.safetensors`` (the weights), ``config.json`` (how to build the
network, and what its input and output mean) and ``model.onnx`` (its dense twin). Needs the extra
``spcnn-lightning[export]``; reading a folder back needs safetensors alone.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spcnn_lightning import __version__
from spcnn_lightning.core.errors import MissingExtraError, SpcnnError
from spcnn_lightning.networks import SparseNetwork
from spcnn_lightning.reference.twin import export_dense

FORMAT = "spcnn-lightning network"
FORMAT_VERSION = 1
"""Grows when an older reader could misread the folder."""

CONFIG, WEIGHTS, ONNX = "config.json", "model.safetensors", "model.onnx"
INPUT, OUTPUT = "field", "logits"
"""Names of the tensors of the ONNX model: (B, C, *spatial_shape) and (B, num_classes)."""

LARGEST_ONNX = 2 * 10**9
"""Bytes; larger weights don't fit into one protobuf and lie beside it."""


class ExportedFolderError(SpcnnError, ValueError):
    """A folder that does not hold an exported network, or one that does not fit together."""


def require_extra(*modules: str) -> None:
    """Raise MissingExtraError, which names the extra, if one of the modules is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"export needs {', '.join(missing)}, not installed here; install with "
            "pip install 'spcnn-lightning[export]'"
        )


def save_exported(
    network: SparseNetwork,
    folder: Path,
    arguments: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and description of a network, so that `load_exported` builds it again.

    Args:
        network: Of a class that can be imported.
        folder: Made if it is not there; files of an earlier export are replaced.
        arguments: What the class was called with, in plain types; an object is a mapping with
            ``class_path`` and ``init_args``. ``backend`` is left out, and what the network knows
            by itself (its channels, classes and field) is added.
        facts: What else a reader needs: class names, scales of the features. Plain types.

    Raises:
        MissingExtraError: If safetensors is not installed.
    """
    require_extra("safetensors")
    save = importlib.import_module("safetensors.torch").save
    kind = type(network)
    known = inspect.signature(kind).parameters
    added = {
        name: getattr(network, name)
        for name in ("in_channels", "num_classes", "spatial_shape")
        if name in known
    }
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spcnn_lightning": __version__,
        "network": {
            "class_path": _public_path(kind),
            "init_args": {
                name: value
                for name, value in {**arguments, **added}.items()
                if name != "backend" and value is not None
            },
        },
        **(facts or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # First, so that what cannot be written as JSON leaves no half folder.
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    tensors = {name: t.detach().contiguous().cpu() for name, t in network.state_dict().items()}
    # As bytes: the library's own file would be readable by its owner alone.
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(text, encoding="utf-8", newline="\n")


def load_config(folder: Path | str) -> dict[str, Any]:
    """Return ``config.json`` of an exported folder, checked.

    Raises:
        ExportedFolderError: If it is not there, damaged, or of a later version.
    """
    path = Path(folder) / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = config["format"] == FORMAT and config["network"].keys() >= {"class_path"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportedFolderError(
            f"{path} cannot be read ({error}): give a folder that spcnn export wrote"
        ) from error
    if not known or config.get("format_version", 0) > FORMAT_VERSION:
        raise ExportedFolderError(
            f"{path} is {config['format']!r} version {config.get('format_version')}, this "
            f"spcnn-lightning {__version__} reads {FORMAT!r} up to {FORMAT_VERSION}: update it"
        )
    return config


def load_exported(folder: Path | str, backend: str = "auto") -> SparseNetwork:
    """Return the network of an exported folder, in evaluation mode.

    The class that the folder names is imported and called: load only folders that you trust.

    Args:
        folder: With ``config.json`` and ``model.safetensors``.
        backend: Engine of the convolutions; an export knows none.

    Raises:
        MissingExtraError: If safetensors is not installed.
        ExportedFolderError: If a file is missing, or the weights do not fit the network.
    """
    require_extra("safetensors")
    load_file = importlib.import_module("safetensors.torch").load_file
    config, weights = load_config(folder), Path(folder) / WEIGHTS
    try:
        network = _build(config["network"])
        # Opened here: the library's own error for a missing file is not an OSError.
        weights.open("rb").close()
        network.load_state_dict(load_file(weights))
    except Exception as error:
        raise ExportedFolderError(
            f"{folder} does not hold a network that can be built: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(network, SparseNetwork):
        raise ExportedFolderError(f"{folder} holds a {type(network).__name__}, no SparseNetwork")
    network.backend = backend
    return network.eval()


def write_onnx(network: SparseNetwork, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the dense twin of a network as ONNX, for any number of samples.

    Args:
        network: On the CPU, float32.
        path: The file.
        metadata: Kept in the model as JSON texts, by name.

    Raises:
        MissingExtraError: If onnx or onnxscript is not installed.
        ExportError: If the network has no plain dense form.
    """
    require_extra("onnx", "onnxscript")
    plain: nn.Module = export_dense(network)
    # Two samples, since the exporter takes a size of one for a constant.
    example = torch.zeros(2, network.in_channels, *network.spatial_shape)
    with _quiet_exporter():
        program = torch.onnx.export(
            plain,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None  # with dynamo=True it never is
        for name, value in metadata.items():
            program.model.metadata_props[name] = json.dumps(value, ensure_ascii=False)
        size = sum(p.numel() * p.element_size() for p in plain.parameters())
        program.save(str(path), external_data=size > LARGEST_ONNX)


def open_session(path: Path) -> Any:
    """Return an onnxruntime session of a model, with as many threads as torch uses."""
    # By name, since onnxruntime is optional and has no types.
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(session: Any, field: Tensor) -> Tensor:
    """Return the logits (B, num_classes) of a dense field (B, C, *spatial_shape)."""
    (logits,) = session.run([OUTPUT], {INPUT: field.numpy()})
    return torch.from_numpy(logits)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says of its own use of torch and of packages nobody needs."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _public_path(kind: type) -> str:
    """Return the shortest path by which a class can be imported."""
    parts = kind.__module__.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        if getattr(importlib.import_module(module), kind.__name__, None) is kind:
            return f"{module}.{kind.__name__}"
    raise SpcnnError(
        f"{kind.__module__}.{kind.__qualname__} cannot be imported by name: define the network's "
        "class at the top level of a module"
    )


def _build(value: Any) -> Any:
    """Turn mappings with ``class_path`` into objects, and leave the rest as it is."""
    if isinstance(value, Mapping) and "class_path" in value:
        module, _, name = value["class_path"].rpartition(".")
        arguments = {key: _build(entry) for key, entry in value.get("init_args", {}).items()}
        return getattr(importlib.import_module(module), name)(**arguments)
    if isinstance(value, list):
        return [_build(entry) for entry in value]
    return value
