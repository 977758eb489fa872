"""Says what is wrong in a config in one sentence, where jsonargparse says it in twenty lines."""

import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

import spcnn_lightning.networks
from spcnn_lightning.datamodules import (
    Augmentation,
    ColourShift,
    Encoder,
    PictureAugmentation,
    PictureSource,
    Sparsifier,
    StrokeSource,
)

# What may stand under a key of a config.
_BASES: dict[str, tuple[type, ...]] = {
    "model": (LightningModule,),
    "data": (LightningDataModule,),
    "source": (StrokeSource, PictureSource),
    "encoder": (Encoder,),
    "encoders": (Encoder,),
    "sparsifier": (Sparsifier,),
    "augmentation": (Augmentation, PictureAugmentation),
    "augmentations": (Augmentation,),
    "colour": (ColourShift,),
}

_GROUPS = ("config", "seed_everything", "trainer", "model", "data", "ckpt_path")


def advice(message: str, options: Sequence[str] = _GROUPS) -> str | None:
    """Return a sentence for the mistakes that people make most, or None for any other.

    These are: no config, an argument that a class does not have or that is missing, a class that
    does not exist, and a value of another type.

    Args:
        message: The error message of jsonargparse.
        options: What the command has, without what follows after a dot.
    """
    stray = partial(_stray, options)
    rules = (_no_config, stray, _argument, _missing, _unimportable, _number, _class, _type)
    key = ".".join(re.findall(r'[Pp]arser key "([^"]+)"', message))
    return next(filter(None, (rule(message, key) for rule in rules)), None)


def _no_config(message: str, key: str) -> str | None:
    base_class = re.search(r"class_path 'lightning\.Lightning(Data)?Module'", message)
    if base_class or re.search(r"arguments are required: \w+\.(data|model)", message):
        return "no model and no data: give --config FILE_OR_NAME (spcnn configs list shows names)"
    return None


def _stray(options: Sequence[str], message: str, key: str) -> str | None:
    stray = re.search(r"not accept option '([\w.]+)'|unrecognized arguments: --([\w.-]+)", message)
    return _stray_option(stray[1] or stray[2], options) if stray else None


def _argument(message: str, key: str) -> str | None:
    classes = re.findall(r"class_path(?: |=)'([^']+)'", message.partition("Given value")[0])
    option = re.search(r"Option '(\w+)' is not accepted", message)
    return f"{key}: {_wrong_argument(option[1], classes[-1])}" if option and classes else None


def _missing(message: str, key: str) -> str | None:
    found = re.search(
        r"class_path '([^']+)':\s+the following arguments are required: (.+)", message
    )
    if not found:
        return None
    path, names = found.groups()
    first = names.partition(",")[0]
    return f"{key}: {path.rpartition('.')[2]} needs {names}: give --{key}.{first} VALUE"


def _unimportable(message: str, key: str) -> str | None:
    found = re.search(r"class_path '([^']+)':\s+(No module named .*|module .*)", message)
    return f"{key}: there is no class {found[1]}: {found[2]}. {_own_class()}" if found else None


def _number(message: str, key: str) -> str | None:
    found = re.search(r"Expected a dot import path string: (\S+)", message)
    if found and "Expected a <class 'float'>" in message:
        return f"{key} is {found[1]!r}: it needs a number"
    return None


def _class(message: str, key: str) -> str | None:
    missing = re.search(r"Expected a dot import path string: (\S+)", message)
    missing = missing or re.search(r"has no attribute '\w+'\. Got value: ([\w.]+)$", message, re.M)
    if not missing:
        return None
    # What may stand at the place is said last before what stands there.
    *_, kinds = ["", *re.findall(r"Subtypes: (\[.*\])", message[: missing.start()])]
    fitting = re.findall(r"(\w+)'>", kinds)
    return f"{key}: {_wrong_class(missing[1], key.rpartition('.')[2], fitting)}"


def _type(message: str, key: str) -> str | None:
    wrong = re.search(r"Expected an? <class '(\w+)'>\. Got value: (.*)", message)
    return f"{key} is {wrong[2]!r}: it needs to be of type {wrong[1]}" if wrong else None


def _stray_option(option: str, options: Sequence[str]) -> str:
    group, _, name = option.partition(".")
    if group == "trainer" and name:
        known = list(inspect.signature(Trainer).parameters)
        return f"there is no option {option}{_closest(name.partition('.')[0], known)}"
    listed = ", ".join(options)
    return f"there is no option {option}{_closest(group, options)}; there are {listed}"


def _wrong_argument(option: str, path: str) -> str:
    known = list(inspect.signature(_import(path)).parameters)
    name = path.rpartition(".")[2]
    return f"{name} has no argument {option!r}{_closest(option, known)}; it has {', '.join(known)}"


def _wrong_class(path: str, key: str, fitting: Sequence[str]) -> str:
    module, _, name = path.rpartition(".")
    if module:
        try:
            there = [word for word in dir(importlib.import_module(module)) if word[0].isupper()]
        except ImportError as error:
            return f"there is no class {path}: {error}. {_own_class()}"
        return f"there is no class {name} in {module}{_closest(name, there)}"
    known = sorted(_known_classes(key, fitting))
    listed = f"; known are {', '.join(known)}" if known else ""
    if name in set(_known_classes(key)) - set(known):
        return f"{name} is of another kind{listed}"
    return f"there is no class {name}{_closest(name, known)}{listed}. {_own_class()}"


def _own_class() -> str:
    return (
        f"A class of your own is written module.Class, with module.py in the folder of the "
        f"command, {Path.cwd()}"
    )


def _known_classes(key: str, fitting: Sequence[str] = ()) -> Iterator[str]:
    """Yield what may stand under a key: where some of ``fitting`` may, only what is one of them."""
    if key == "network":
        names = spcnn_lightning.networks.__all__
        yield from (name for name in names if isinstance(_network(name), type))
    elif key in _BASES:
        bases = [base for base in _BASES[key] if base.__name__ in fitting] or _BASES[key]
        found = (kind for base in bases for kind in (base, *_subclasses(base)))
        yield from (kind.__name__ for kind in found if _is_ours(kind))


def _network(name: str) -> object:
    return getattr(spcnn_lightning.networks, name)


def _is_ours(kind: type) -> bool:
    listed = not (kind.__name__.startswith("_") or inspect.isabstract(kind))
    return listed and kind.__module__.startswith("spcnn_lightning.")


def _subclasses(kind: type) -> Iterator[type]:
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _closest(word: str, known: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), by_lower, n=1)
    return f" (is it {by_lower[close[0]]!r}?)" if close else ""


def _import(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found
