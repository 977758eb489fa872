"""The programs ``spcnn`` and ``lightning``: they look the word up and hand the rest on.

Nothing heavy is imported here, so that help and mistyped words answer at once.
"""

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

DEBUG_VARIABLES = ("SPCNN_DEBUG", "JSONARGPARSE_DEBUG")


class Command(NamedTuple):
    """A word of the command line.

    Attributes:
        module: Module with a function ``main(word, arguments, prog) -> exit status``.
        summary: What the command does, for ``--help``.
    """

    module: str
    summary: str


TRAINING = {
    "fit": Command("spcnn_lightning.cli", "train a network"),
    "validate": Command("spcnn_lightning.cli", "evaluate it on the validation data"),
    "test": Command("spcnn_lightning.cli", "evaluate it on the test data"),
    "predict": Command("spcnn_lightning.cli", "write a table of its predictions"),
}
COMMANDS = TRAINING | {
    "configs": Command("spcnn_lightning.commands.configs", "list or copy the configs that ship"),
    "bench": Command("spcnn_lightning.commands.bench", "compare engines: time, memory, error"),
    "data": Command("spcnn_lightning.commands.data", "prepare pen strokes, count and draw them"),
    "doctor": Command("spcnn_lightning.commands.doctor", "say what works here and what does not"),
    "plan": Command("spcnn_lightning.commands.plan", "say what training a config will cost"),
    "export": Command("spcnn_lightning.commands.export", "write ONNX, safetensors and JSON"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``spcnn`` and return its exit status: 0, or 2 for what the user can mend."""
    word, rest = _split(arguments)
    if word in COMMANDS:
        return _run(word, rest, "spcnn")
    return _answer(word, "spcnn", COMMANDS, hint="")


def lightning_main(arguments: Sequence[str] | None = None) -> int:
    """Run ``lightning``: the training words are ours, any other is for lightning-sdk."""
    word, rest = _split(arguments)
    if word in TRAINING:
        return _run(word, rest, "lightning")
    if word is not None and not word.startswith("-"):
        for entry_point in _lightning_sdk():
            return int(entry_point.load()() or 0)
    hint = (
        "This command belongs to spcnn-lightning, which has more of them: spcnn --help.\n"
        "Every other word is handed to lightning-sdk if that is installed."
    )
    return _answer(word, "lightning", TRAINING, hint)


def _split(arguments: Sequence[str] | None) -> tuple[str | None, list[str]]:
    words = list(sys.argv[1:] if arguments is None else arguments)
    return (words[0], words[1:]) if words else (None, [])


def _run(word: str, arguments: list[str], prog: str) -> int:
    """Run a command; an error of our own becomes a message instead of a traceback."""
    try:
        return int(importlib.import_module(COMMANDS[word].module).main(word, arguments, prog))
    except KeyboardInterrupt:
        print(f"\n{prog} {word}: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if any(os.environ.get(name) for name in DEBUG_VARIABLES) or not _is_ours(error):
            raise
        print(f"{prog} {word}: {type(error).__name__}: {error}", file=sys.stderr)
        print("(SPCNN_DEBUG=1 shows where it was raised)", file=sys.stderr)
        return 2


def _is_ours(error: Exception) -> bool:
    from spcnn_lightning.core.errors import SpcnnError

    return isinstance(error, SpcnnError)


def _answer(word: str | None, prog: str, commands: dict[str, Command], hint: str) -> int:
    """Print the help, the version or what is wrong with ``word``."""
    if word in ("-V", "--version"):
        from spcnn_lightning import __version__

        print(f"spcnn-lightning {__version__}")
        return 0
    if word in ("-h", "--help"):
        print(_help(prog, commands, hint))
        return 0
    problem = "no command given" if word is None else f"unknown command {word!r}"
    print(f"{_help(prog, commands, hint)}\n\n{prog}: {problem}", file=sys.stderr)
    return 2


def _help(prog: str, commands: dict[str, Command], hint: str) -> str:
    width = max(map(len, commands))
    lines = [
        f"usage: {prog} COMMAND [options]",
        "",
        "Spatially-sparse convolutional networks with an exact ground state.",
        "",
        *(f"  {word:<{width}}  {command.summary}" for word, command in commands.items()),
        "",
        f"{prog} COMMAND --help shows the options of a command.",
        f"Begin with: {prog} fit --config quickstart",
    ]
    return "\n".join([*lines, *(["", hint] if hint else [])])


def _lightning_sdk() -> importlib.metadata.EntryPoints:
    """Return the entry point behind the ``lightning`` command of lightning-sdk, if installed."""
    try:
        entry_points = importlib.metadata.distribution("lightning-sdk").entry_points
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.EntryPoints()
    return entry_points.select(group="console_scripts", name="lightning")
