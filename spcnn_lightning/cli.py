"""LightningCLI for this project: ``lightning fit --config quickstart`` and validate, test, predict.

A config states what only a person can know. What the data know (classes, channels, field size) is
linked to the network; classes of this project go by their short names; a class of your own is found
beside the place where the command runs.
"""

import importlib.util
import logging
import os
import shlex
import sys
import warnings
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ModelSummary
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)

# Imported classes go by their short names in a config.
import spcnn_lightning.datamodules.handwriting
import spcnn_lightning.datamodules.image_padding
import spcnn_lightning.networks  # noqa: F401
from spcnn_lightning.cli_advice import advice
from spcnn_lightning.cli_checkpoints import WORDS, require_fit, resolve_checkpoint
from spcnn_lightning.commands.configs import with_found_configs
from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.modules import LastCheckpoint, SparseClassifier, default_callbacks

DATA_FACTS = ("num_classes", "in_channels", "spatial_shape")


class ConfigError(SpcnnError, ValueError):
    """A config asks for something that can't be built."""


def link_data_to_network(parser: LightningArgumentParser) -> None:
    """Let the network learn from the data what a config would otherwise repeat.

    The attributes ``num_classes``, ``in_channels`` and ``spatial_shape`` of the data module become
    arguments of the network, where it has arguments of these names and the data module such
    attributes. For your own ``LightningCLI`` in sub-class mode::

        class MyCLI(LightningCLI):
            def add_arguments_to_parser(self, parser):
                link_data_to_network(parser)

        MyCLI(subclass_mode_model=True, subclass_mode_data=True)

    Args:
        parser: Has the sub-class arguments "model" (with an argument ``network``) and "data".
    """
    for fact in DATA_FACTS:
        parser.link_arguments(
            f"data.{fact}", f"model.init_args.network.init_args.{fact}", apply_on="instantiate"
        )


class _Parser(LightningArgumentParser):
    """Says in a sentence what is wrong, where it can."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        # Parsers inside of parsers only hand their message on.
        short = advice(message) if self.exit_on_error else None
        if short is None or os.environ.get("SPCNN_DEBUG"):
            super().error(message, ex)
        raise ConfigError(short)


class SpcnnCLI(LightningCLI):
    """The command line with this project's habits; see the module's docstring."""

    def __init__(self, prog: str, args: list[str], **kwargs: Any) -> None:
        self.words = args
        _choose_messages()
        strict = {"allow_abbrev": False}  # a mistyped option is an error, not another option
        parsers = {
            word: {"usage": f"{prog} {word} --config FILE_OR_NAME [options]", **strict}
            for word in self.subcommands()
        }
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_class=_Parser,
            parser_kwargs={"prog": prog, **strict, **parsers},
            args=args,
            **kwargs,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the facts of the data to the network."""
        link_data_to_network(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments, with names of shipped configs turned into their files."""
        words = args if isinstance(args, list) else sys.argv[1:]
        self.config = parser.parse_args(with_found_configs(words))

    def _parse_ckpt_path(self) -> None:
        """Leave the config alone: Lightning would let a checkpoint override what was asked for."""

    def instantiate_classes(self) -> None:
        """Build data, network, module and trainer; wrong values become one sentence."""
        try:
            super().instantiate_classes()
        except (ValueError, FileNotFoundError, MisconfigurationException) as error:
            first = _first_cause(error)
            if isinstance(first, SpcnnError):
                raise first from None
            raise ConfigError(f"the config can't be built: {first}") from error
        self._require_agreement()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with our callbacks besides those of the config."""
        trainer = self.config_init[self.subcommand].trainer
        # Lightning would choose the same, and warn of its history with TensorBoard.
        if trainer.logger in (None, True) and not trainer.barebones and not _has_tensorboard():
            trainer.logger = CSVLogger(trainer.default_root_dir or os.getcwd())
        given = trainer.callbacks or []
        given = given if isinstance(given, list) else [given]
        if not trainer.barebones:
            trainer.callbacks = [*given, *self._callbacks_besides(given, trainer)]
            if isinstance(self.model, SparseClassifier):
                # Ours is among the callbacks, or was not wanted.
                trainer.enable_model_summary = False
        return super().instantiate_trainer(**kwargs)

    def after_instantiate_classes(self) -> None:
        """Turn ``--ckpt_path`` into a file."""
        arguments = self.config_init[self.subcommand]
        if arguments.ckpt_path:
            asked = str(arguments.ckpt_path)
            present = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
            found = resolve_checkpoint(asked, self.trainer, present[self.subcommand])
            arguments.ckpt_path = found
            if isinstance(self.model, SparseClassifier):
                require_fit(found, self.model)
            if os.path.isfile(found) and (asked in WORDS or self.subcommand != "fit"):
                self._continue_folder(os.path.dirname(found))
        elif self.subcommand != "fit":
            rank_zero_warn(
                f"{self.subcommand} without --ckpt_path runs the network as it was initialised: "
                f"give --ckpt_path best, last or a file"
            )

    def before_fit(self) -> None:
        """Warn if a launcher started several processes that will not know of each other."""
        started = os.environ.get("WORLD_SIZE", "1")
        if started != "1" and self.trainer.world_size == 1:
            rank_zero_warn(
                f"WORLD_SIZE is {started}, but this run has one process: each process trains for "
                "itself; give --trainer.devices, --trainer.num_nodes and --trainer.strategy ddp"
            )

    def after_fit(self) -> None:
        """Say where the checkpoints lie, and what to type next."""
        found = [
            (callback, Path(callback.best_model_path))
            for callback in self.trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint) and callback.best_model_path
        ]
        for callback, path in found:
            score = "last"
            if callback.monitor and callback.best_model_score is not None:
                score = f"best {callback.monitor}, {callback.best_model_score:.4g}"
            rank_zero_info(f"{score}: {os.path.relpath(path)}")
        if found:
            best = " (or best)" if any(callback.monitor for callback, _ in found) else ""
            words = shlex.join(drop_checkpoint(self.words[1:]))
            rank_zero_info(f"next: {self.parser.prog} test {words} --ckpt_path last{best}")

    def _continue_folder(self, folder: str) -> None:
        """Let a resumed run keep its folder: in a new one Lightning would forget the best score."""
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = folder

    def _callbacks_besides(self, given: list[Callback], trainer: Namespace) -> list[Callback]:
        checkpointing = trainer.enable_checkpointing is not False and not trainer.fast_dev_run
        callbacks: list[Callback] = []
        if isinstance(self.model, SparseClassifier):
            callbacks = default_callbacks(
                given, logging=trainer.logger is not False, checkpointing=checkpointing
            )
        elif checkpointing and not any(isinstance(c, ModelCheckpoint) for c in given):
            # The metrics of somebody else's module, and so its best checkpoint, are not known here.
            callbacks = [LastCheckpoint()]
        if trainer.enable_model_summary is False:
            callbacks = [c for c in callbacks if not isinstance(c, ModelSummary)]
        return callbacks

    def _require_agreement(self) -> None:
        """Refuse an argument that contradicts the data: the link would silently override it."""
        network = self.config[self.subcommand].get("model.init_args.network.init_args") or {}
        for fact in DATA_FACTS:
            asked, known = network.get(fact), getattr(self.datamodule, fact, None)
            if None in (asked, known) or _plain(asked) == _plain(known):
                continue
            raise ConfigError(
                f"model.network.{fact} is {asked}, but {type(self.datamodule).__name__} has "
                f"{known}: leave it out of the config, the network learns it from the data"
            )


def _has_tensorboard() -> bool:
    return any(importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX"))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, list)) else value


def _first_cause(error: BaseException) -> BaseException:
    """Return the error that a constructor raised, without what jsonargparse wrapped around it."""
    while error.__cause__ is not None and error.__traceback__ is not None:
        *_, (frame, _) = walk_tb(error.__traceback__)
        if not frame.f_globals.get("__name__", "").startswith("jsonargparse"):
            break
        error = error.__cause__
    return error


def main(word: str, arguments: list[str], prog: str) -> int:
    """Run fit, validate, test or predict."""
    # As for `python script.py`, so that a config can name classes in files beside it; with several
    # devices the other processes run the same command in the same folder.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    SpcnnCLI(prog, [word, *arguments])
    return 0


def drop_checkpoint(words: list[str]) -> list[str]:
    """Return the words of a command line without ``--ckpt_path`` and its value."""
    return [
        word
        for before, word in zip(["", *words], words, strict=False)
        if "--ckpt_path" not in (before, word) and not word.startswith("--ckpt_path=")
    ]


def _choose_messages() -> None:
    """Show which engine "auto" chose; leave out what no user of this command can act on."""
    choices = logging.getLogger("spcnn_lightning.adapters.auto")
    if not choices.handlers:
        choices.addHandler(logging.StreamHandler())
        choices.setLevel(logging.INFO)
    # Lightning's advertisements.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in str(record.msg) and "litmodels" not in str(record.msg)
    )
    # No validation data, as a config with train_on_all asks for.
    warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
    # Lightning's use of what torch has renamed.
    warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.` is deprecated")
