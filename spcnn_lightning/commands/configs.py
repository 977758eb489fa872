"""``spcnn configs``: the configs that ship, and how ``--config NAME`` finds them."""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from spcnn_lightning.core.errors import SpcnnError


class ConfigNotFoundError(SpcnnError, FileNotFoundError):
    """A config that is neither a file nor the name of one that ships."""


def shipped_configs() -> dict[str, Path]:
    """Return the file of each config that ships with the package, by name, sorted."""
    found = (Path(str(item)) for item in files("spcnn_lightning.configs").iterdir())
    return {path.stem: path for path in sorted(found) if path.suffix == ".yaml"}


def find_config(name: str) -> str:
    """Return the path of a config that is given as a file or by the name of one that ships.

    Args:
        name: A path, or a bare name such as ``quickstart``. A file of that name goes first.

    Raises:
        ConfigNotFoundError: If there is neither; the message lists the names that ship.
    """
    if Path(name).is_file() or "://" in name:
        return name
    configs = shipped_configs()
    if name in configs:
        return str(configs[name])
    close = get_close_matches(name, configs, n=1)
    raise ConfigNotFoundError(
        f"there is no file {name!r} in {Path.cwd()}, and no config of that name ships with "
        f"spcnn_lightning: give a path or one of {', '.join(configs)}"
        + (f" (is it {close[0]!r}?)" if close else "")
    )


def with_found_configs(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with what follows ``--config`` or ``-c`` replaced by its path."""
    found: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if found and found[-1] in ("--config", "-c"):
            found.append(find_config(argument))
        elif equals and option in ("--config", "-c"):
            found.append(f"{option}={find_config(value)}")
        else:
            found.append(argument)
    return found


def main(word: str, arguments: list[str], prog: str) -> int:
    """Run ``spcnn configs list`` or ``spcnn configs copy``."""
    parser = argparse.ArgumentParser(
        f"{prog} {word}", description="The configs that ship: list them, or copy one to edit it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print name and first line of each")
    copy = commands.add_parser("copy", help="copy one, to edit it")
    copy.add_argument("name", help="as printed by list")
    copy.add_argument(
        "destination", nargs="?", default=".", type=Path, help="file or folder (default: here)"
    )
    copy.add_argument("--force", action="store_true", help="overwrite an existing file")
    options = parser.parse_args(arguments)
    if options.command == "list":
        _print_list()
    else:
        _copy(options.name, options.destination, options.force)
    return 0


def _print_list() -> None:
    configs = shipped_configs()
    width = max(map(len, configs), default=0)
    for name, path in configs.items():
        first_line = path.read_text(encoding="utf-8").partition("\n")[0]
        print(f"{name:<{width}}  {first_line.removeprefix('#').strip()}")


def _copy(name: str, destination: Path, force: bool) -> None:
    configs = shipped_configs()
    if name not in configs:
        raise ConfigNotFoundError(
            f"no config {name!r} ships with spcnn_lightning: there are {', '.join(configs)}"
        )
    target = destination / f"{name}.yaml" if destination.is_dir() else destination
    try:
        with target.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(configs[name].read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise SpcnnError(
            f"{target} exists: give another name, or --force to overwrite it"
        ) from error
    except OSError as error:
        raise SpcnnError(f"{target} can't be written: {error.strerror}") from error
    print(target)
