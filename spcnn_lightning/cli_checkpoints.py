"""Finds what ``--ckpt_path best`` and ``last`` mean in a new process: files of earlier runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from spcnn_lightning.core.errors import SpcnnError

WORDS = ("best", "last")


class CheckpointNotFoundError(SpcnnError, FileNotFoundError):
    """No checkpoint file is what was asked for."""


class CheckpointMismatchError(SpcnnError, ValueError):
    """The file is no checkpoint, or one of another network."""


def resolve_checkpoint(asked: str, trainer: Trainer, config: Mapping[str, Any]) -> str:
    """Return the checkpoint file that ``--ckpt_path`` means, and print it if it was searched for.

    "best" and "last" are taken from the newest earlier run of the same network on the same data,
    as the ``config.yaml`` that each run leaves beside its checkpoints tells. Other words that
    Lightning knows ("hpc", "registry:...") and addresses are returned as they are.

    Args:
        asked: The value of ``--ckpt_path``.
        trainer: Knows the folders: of its ``ModelCheckpoint`` if one is set, of its loggers, or
            its default root.
        config: The present config in plain types: "model" and "data".

    Raises:
        CheckpointNotFoundError: If there is no such file.
    """
    if asked == "hpc" or asked.startswith("registry") or "://" in asked:
        return asked
    if asked not in WORDS:
        if Path(asked).exists():
            return asked
        raise CheckpointNotFoundError(
            f"--ckpt_path {asked}: no such file in {Path.cwd()}; 'best' and 'last' are searched for"
        )
    folder = _newest_folder(asked, trainer, config)
    path = _last(folder) if asked == "last" else _best(folder)
    rank_zero_info(f"--ckpt_path {asked} is {path}")
    return str(path)


def require_fit(path: str, module: LightningModule) -> None:
    """Refuse a checkpoint that holds other weights than ``module`` has, before data are read.

    What cannot be judged here is left to Lightning: addresses, folders of sharded checkpoints, and
    files that hold more than tensors and plain values.

    Raises:
        CheckpointMismatchError: If it is no checkpoint, or keys or shapes differ.
    """
    file = Path(path)
    if file.is_dir() and not (file / ".metadata").exists():
        raise CheckpointMismatchError(
            f"--ckpt_path {path} is a folder: give a file in it ({_names(file) or 'none is there'})"
        )
    if not file.is_file():
        return
    if not is_zipfile(file):
        raise CheckpointMismatchError(
            f"--ckpt_path {path} is no checkpoint, or a damaged one: its {file.stat().st_size} "
            f"bytes are not in the format of torch.save"
        )
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except Exception:
        return
    then = {key: tuple(value.shape) for key, value in saved.items()}
    now = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    differing = [key for key in {**now, **then} if now.get(key) != then.get(key)]
    if module.strict_loading and differing:
        key = differing[0]
        raise CheckpointMismatchError(
            f"--ckpt_path {path} is of another network: {key} has the shape "
            f"{then.get(key, 'none: it is missing')} there and {now.get(key, 'none')} here "
            f"({len(differing)} tensors differ); use the config of that run"
        )


def _newest_folder(asked: str, trainer: Trainer, config: Mapping[str, Any]) -> Path:
    """Return the folder with the newest checkpoint of the present network and data."""
    places = list(_places(trainer))
    folders = {
        path.parent: path.stat().st_mtime_ns
        for place, pattern in places
        for path in sorted(place.glob(pattern), key=lambda file: file.stat().st_mtime_ns)
    }
    others = []
    for folder in sorted(folders, key=lambda folder: folders[folder], reverse=True):
        if _is_same_experiment(folder.parent / "config.yaml", config):
            return folder
        others.append(folder)
    searched = ", ".join(str(place / pattern) for place, pattern in places)
    runs = f"; those of {len(others)} runs are of another network or other data" if others else ""
    raise CheckpointNotFoundError(
        f"--ckpt_path {asked}: no checkpoint of this network and data in {searched}{runs}. "
        f"Train first (fit), set trainer.default_root_dir to where it was trained, or give a file"
    )


def _places(trainer: Trainer) -> Iterator[tuple[Path, str]]:
    """Yield where Lightning's ``ModelCheckpoint`` puts files: a folder and a pattern in it."""
    fixed = [
        callback.dirpath
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and callback.dirpath
    ]
    if fixed:
        yield from ((Path(folder), "*.ckpt") for folder in fixed)
    elif trainer.loggers:
        logger = trainer.loggers[0]
        yield Path(logger.save_dir or trainer.default_root_dir) / str(logger.name), "*/*/*.ckpt"
    else:
        yield Path(trainer.default_root_dir) / "checkpoints", "*.ckpt"


def _is_same_experiment(config_file: Path, config: Mapping[str, Any]) -> bool:
    """Whether a run's config has the present network and data; a run without one may be any."""
    try:
        saved = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return True
    then, now = _experiment(saved), _experiment(config)
    # An argument that only one of two versions has says nothing.
    return all(then[key] == now[key] for key in then.keys() & now.keys())


def _experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint depends on: classes, the network's arguments, source and size.

    The engine is left out, since any engine runs any checkpoint.
    """
    model, data = config.get("model") or {}, config.get("data") or {}
    network = (model.get("init_args") or {}).get("network")
    of_data = data.get("init_args") or {}
    source, encoder = of_data.get("source"), of_data.get("encoder")
    parts = {
        "model": model,
        "network": network,
        "data": data,
        "source": source,
        "encoder": encoder,
    }
    found = {name: _class_name(part) for name, part in parts.items()}
    found |= {key: of_data[key] for key in ("box", "spatial_shape") if key in of_data}
    if isinstance(network, Mapping):
        arguments = network.get("init_args") or {}
        found |= {f"network.{key}": arguments[key] for key in arguments if key != "backend"}
    return found


def _class_name(part: Any) -> Any:
    # Without the module: a class may be written by its short name or have moved.
    return part.get("class_path", "").rpartition(".")[2] if isinstance(part, Mapping) else part


def _last(folder: Path) -> Path:
    files = list(folder.glob(f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}*.ckpt"))
    if not files:
        raise CheckpointNotFoundError(
            f"--ckpt_path last: the newest run left no last.ckpt in {folder}; give ModelCheckpoint "
            f"save_last: true, or --ckpt_path one of {_names(folder)}"
        )
    return max(files, key=lambda file: file.stat().st_mtime_ns)


def _best(folder: Path) -> Path:
    """Return the best checkpoint, as the newest file in the folder remembers it."""
    newest = max(folder.glob("*.ckpt"), key=lambda file: file.stat().st_mtime_ns)
    state = torch.load(newest, map_location="cpu", weights_only=True, mmap=True)
    remembered = [
        Path(callback["best_model_path"])
        for callback in state.get("callbacks", {}).values()
        # Without a metric Lightning calls the newest one best.
        if callback.get("monitor") and callback.get("best_model_path")
    ]
    for best in remembered:
        # The second place is where it lies when the whole run was moved.
        for path in (best, folder / best.name):
            if path.is_file():
                return path
    reason = (
        f"{newest} names {', '.join(map(str, remembered))}, which does not exist"
        if remembered
        else f"the run of {newest} chose no best one: it had no validation data (train_on_all), or "
        f"was stopped before it first validated"
    )
    raise CheckpointNotFoundError(
        f"--ckpt_path best: {reason}; give --ckpt_path last or one of {_names(folder)}"
    )


def _names(folder: Path) -> str:
    return ", ".join(sorted(str(path) for path in folder.glob("*.ckpt")))
