"""Build network and data from a config as training would, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from spcnn_lightning.cli import SpcnnCLI
from spcnn_lightning.core.errors import SpcnnError

# A config may ask for accelerators that matter to training alone.
ON_ONE_CPU = (
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.num_nodes=1",
    "--trainer.strategy=auto",
    "--trainer.precision=32-true",
)


class ExperimentError(SpcnnError, ValueError):
    """A config or checkpoint that cannot be used for more than training."""


@dataclass(frozen=True)
class Experiment:
    """What a config builds.

    Attributes:
        module: The LightningModule, with the weights of the checkpoint if one was asked for.
        network: Its attribute ``network``.
        data: The data module, with the state that the checkpoint has of it.
        config: The whole config in plain types: "model", "data", "trainer" ...
        checkpoint: The file that was loaded, or None.
    """

    module: LightningModule
    network: nn.Module
    data: LightningDataModule
    config: Mapping[str, Any]
    checkpoint: Path | None


def load_experiment(
    config: str, overrides: Sequence[str] = (), ckpt_path: str | None = None, prog: str = "spcnn"
) -> Experiment:
    """Return network and data of a config.

    Args:
        config: A file, or the name of a config that ships.
        overrides: Options as of ``spcnn fit``, such as ``--model.network.levels=5``.
        ckpt_path: A checkpoint file, ``"best"``, ``"last"``, or None for the initial weights.
        prog: Name of the program, for messages.

    Raises:
        SpcnnError: If the config or the checkpoint cannot be used; the message says why.
    """
    # Without a checkpoint as "fit", since "test" would warn that there is none.
    word = "fit" if ckpt_path is None else "test"
    arguments = [word, "--config", config, *overrides, *ON_ONE_CPU]
    arguments += ["--ckpt_path", ckpt_path] if ckpt_path else []
    built = _Builder(prog, arguments, seed_everything_default=0)
    network = getattr(built.model, "network", None)
    if not isinstance(network, nn.Module):
        raise ExperimentError(
            f"{type(built.model).__name__} of {config} has no attribute 'network' that is a "
            "torch module: only its network can be taken out of a config"
        )
    plain = yaml.safe_load(built.parser.dump(built.config, skip_none=False))[word]
    found = built.config_init[word].ckpt_path if ckpt_path else None
    if found is not None:
        _load_checkpoint(Path(found), built.model, built.datamodule)
    return Experiment(
        built.model, network, built.datamodule, plain, None if found is None else Path(found)
    )


class _Builder(SpcnnCLI):
    def _run_subcommand(self, subcommand: str) -> None:
        """Build only."""


def _load_checkpoint(path: Path, module: LightningModule, data: LightningDataModule) -> None:
    if not path.is_file():
        raise ExperimentError(f"checkpoint {path} is not a file: give the path of a .ckpt file")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(saved["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise ExperimentError(
            f"checkpoint {path} does not fit the network of the config: {error}"
        ) from error
    # Where Lightning keeps the state of a data module.
    state = saved.get(type(data).__qualname__)
    if state is not None:
        data.load_state_dict(state)
