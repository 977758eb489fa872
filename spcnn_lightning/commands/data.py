"""``spcnn data``: prepare pen strokes once for fast reading, describe them; draw any samples."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spcnn_lightning.core.errors import DataError, SpcnnError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTIONS = {
    "prepare": "Convert a source into a folder of shards, which the source Shards reads from disk "
    "without loading them, or of chunks for object storage. Broken off, it goes on when it is "
    "started again.",
    "info": "Count the characters, strokes and points of a source or a folder of shards, or the "
    "pictures of a source, and say how large they are.",
    "show": "Draw characters or pictures of a source, or a folder of shards, into a PNG file; with "
    "--config, what a config feeds to its network: augmented, in the field, with the active sites.",
}
HELP = """usage: {prog} {word} prepare --source CLASS --root FOLDER --out FOLDER [options]
       {prog} {word} info FOLDER | --source CLASS --root FOLDER
       {prog} {word} show FOLDER | --source CLASS --root FOLDER [--out FILE]
       {prog} {word} show --config FILE-or-NAME [--part val] [--out FILE] [options as for fit]

{descriptions}

CLASS is a source of this project or your own class, as in a config: QuickDraw, my_file.MySource.
Its arguments are given as --source.NAME VALUE; --root FOLDER is short for --source.root FOLDER.
A FOLDER alone is one that `{prog} {word} prepare` has written.
{prog} {word} prepare --help shows the options; --source.help CLASS those of a source."""


def main(word: str, arguments: list[str], prog: str) -> int:
    """Run ``spcnn data prepare``, ``info`` or ``show``."""
    action, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if action not in DESCRIPTIONS:
        descriptions = "\n".join(f"  {name:8} {text}" for name, text in DESCRIPTIONS.items())
        text = HELP.format(prog=prog, word=word, descriptions=descriptions)
        if action in ("-h", "--help"):
            print(text)
            return 0
        problem = f"unknown action {action!r}" if action else "no action given"
        print(f"{text}\n\n{prog} {word}: {problem}", file=sys.stderr)
        return 2
    # So that a class in a file beside the place where the command runs can be named.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if action == "show" and any(option.startswith("--config") for option in rest):
        return _show_config(rest, f"{prog} {word} {action}")
    parser = _parser(action, f"{prog} {word} {action}")
    config = _parse(parser, _with_source(rest, shards=action != "prepare"))
    described = config.source.as_dict()
    source = _build(described)
    from spcnn_lightning.datamodules.parts import require_words

    require_words(source, "class_names", "citation")
    try:
        _run(action, source, described, config)
    except SpcnnError:
        raise
    except ValueError as error:
        raise DataError(f"{type(source).__name__}: {error}") from error
    return 0


def _run(action: str, source: Any, described: Any, config: Namespace) -> None:
    """Do what was asked for, with the source that was built from its description."""
    if action == "prepare":
        from spcnn_lightning.commands.data_prepare import prepare_with_progress

        plain = json.loads(json.dumps(described, default=str))
        prepare_with_progress(
            source, plain, config.out, config.parts, config.skip_damaged, config.format
        )
    elif action == "info":
        from spcnn_lightning.commands.data_info import print_info

        print_info(source, config.parts)
    else:
        from spcnn_lightning.commands.data_show import show

        show(source, config.part, config.samples, config.out, config.seed)


def _parser(action: str, prog: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    import spcnn_lightning.datamodules  # noqa: F401  # its classes go by their short names
    from spcnn_lightning.datamodules.pictures import PictureSource
    from spcnn_lightning.datamodules.sources import StrokeSource

    parser = ArgumentParser(
        prog=prog, description=DESCRIPTIONS[action], allow_abbrev=False, exit_on_error=False
    )
    kinds = (StrokeSource,) if action == "prepare" else (StrokeSource, PictureSource)
    parser.add_subclass_arguments(kinds, "source", required=True)
    if action in ("prepare", "info"):
        parser.add_argument(
            "--parts", nargs="+", choices=["train", "test"], default=["train", "test"]
        )
    if action == "prepare":
        parser.add_argument("--out", type=Path, required=True, help="folder to write")
        parser.add_argument(
            "--format",
            choices=["shards", "litdata"],
            default="shards",
            help="plain files that Shards maps from disk, or chunks that StreamedShards reads from "
            "object storage",
        )
        parser.add_argument(
            "--skip-damaged",
            action="store_true",
            help="leave damaged records out and list them, instead of stopping",
        )
    if action == "show":
        _add_show_options(parser, ["train", "test"])
        parser.add_argument("--seed", type=int, default=0, help="decides which")
    return parser


def _parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Return the arguments parsed; what is wrong with them becomes one sentence."""
    from jsonargparse import ArgumentError

    from spcnn_lightning.cli import ConfigError
    from spcnn_lightning.cli_advice import advice

    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        options = [name.replace("_", "-") for name in parser.get_defaults().as_dict()]
        otherwise = f"{error} ({parser.prog} --help shows the options)"
        raise ConfigError(advice(str(error), options) or otherwise) from error


def _add_show_options(parser: argparse.ArgumentParser, parts: list[str]) -> None:
    parser.add_argument("--part", choices=parts, default="train")
    parser.add_argument("--samples", type=int, default=48, help="how many (default 48)")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="PNG file")


def _show_config(arguments: list[str], prog: str) -> int:
    """Run ``spcnn data show --config``, whose further options are those of ``spcnn fit``."""
    from spcnn_lightning.commands.data_show_config import show_config

    parser = argparse.ArgumentParser(
        prog=prog, description=DESCRIPTIONS["show"], allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="file or shipped name")
    _add_show_options(parser, ["train", "val", "test"])
    parser.add_argument("--channel", type=int, help="draw this one, in place of colours or of 0")
    asked, overrides = parser.parse_known_args(arguments)
    show_config(
        asked.config, overrides, asked.part, asked.samples, asked.out, channel=asked.channel
    )
    return 0


def _build(described: Any) -> Any:
    """Return the source that was described, of the kind that the parser accepted."""
    if not (isinstance(described, dict) and "class_path" in described):
        return described
    arguments = {name: _build(value) for name, value in described.get("init_args", {}).items()}
    module, _, name = described["class_path"].rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    try:
        return kind(**arguments)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error


def _with_source(arguments: list[str], shards: bool) -> list[str]:
    """Spell out the short forms: ``FOLDER`` alone and ``--root FOLDER``."""
    if shards and arguments and not arguments[0].startswith("-"):
        arguments = ["--source=Shards", f"--source.root={arguments[0]}", *arguments[1:]]
    return [
        f"--source.root{argument.removeprefix('--root')}"
        if argument == "--root" or argument.startswith("--root=")
        else argument
        for argument in arguments
    ]
