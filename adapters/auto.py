"""``backend="auto"``: which engine runs a convolution that nobody chose one for.

On the CPU it is always torch: it is as fast there as any engine, and needs nothing. On CUDA (NVIDIA
or AMD) it is the first of spconv, spconv_triton and torchsparse that is installed, has passed its
self-test in this dtype on this device (``spcnn doctor --check``; a forward pass never starts one)
and can run the convolution; else torch. On other devices it is torch. Backends of other
distributions run when they are named, and never by themselves.

What was chosen, and why, is said once in the log ``spcnn_lightning.adapters.auto``, by rank zero.

With several processes each reads the file of results. Where these may differ (other machines, other
files) call `agree_on_backends` in every process before the first step. Nothing else communicates,
so no pass ever waits for another process.
"""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from spcnn_lightning.adapters.check_results import check_key, read_results
from spcnn_lightning.adapters.registry import get_backend
from spcnn_lightning.core.backend import OpRequest

PREFERENCE: dict[str, tuple[str, ...]] = {"cuda": ("spconv", "spconv_triton", "torchsparse")}
"""The engines that are tried before torch, by type of device, the best first."""

DOCTOR = "spcnn doctor --check"
"""The command that runs the self-tests."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")

Trusted = frozenset[tuple[str, str, str]]
"""(backend, type of device, dtype) of every engine that "auto" may choose."""

_log = logging.getLogger(__name__)
_said: set[str] = set()
_agreed: list[Trusted] = []
"""The last agreement of all processes, if there is one."""


@dataclass(frozen=True)
class Choice:
    """What "auto" chose, and the sentence why."""

    name: str
    reason: str


@functools.lru_cache(maxsize=4096)
def choose(request: OpRequest) -> Choice:
    """Return the engine for ``request`` and why; the order stands at the head of this module.

    Each choice with another reason is announced in the log once.
    """
    choice = _decide(request)
    dtype = str(request.dtype).removeprefix("torch.")
    text = f"backend auto: {choice.name} for {dtype} on {request.device}: {choice.reason}"
    if text not in _said and _is_rank_zero():
        _said.add(text)
        # What the user can mend is a warning; a plain statement is not.
        _log.log(logging.WARNING if DOCTOR in choice.reason else logging.INFO, text)
    return choice


def _decide(request: OpRequest) -> Choice:
    passed_over = []
    for name in PREFERENCE.get(request.device, ()):
        if reason := _reason_against(name, request):
            passed_over.append(f"{name} {reason}")
        else:
            version = get_backend(name).version()
            return Choice(name, f"{version} passed its self-test on this {request.device} device")
    if passed_over:
        return Choice("torch", "; ".join(passed_over))
    if request.device == "cpu":
        return Choice("torch", "the engine for CPUs")
    return Choice("torch", f"no other engine is known for {request.device}")


def _reason_against(name: str, request: OpRequest) -> str:
    backend = get_backend(name)
    if backend.version() is None:
        return "is not installed"
    # Asked first: a library that has not passed is not even imported.
    if (name, request.device, str(request.dtype)) not in trusted_engines(request.device):
        dtype = str(request.dtype).removeprefix("torch.")
        return f"has not passed its self-test in {dtype} on this device: `{DOCTOR}` runs it"
    return "; ".join(backend.unsupported_reasons(request))


def trusted_engines(device: str) -> Trusted:
    """Return what "auto" may choose on a type of device: as agreed, or as this process knows."""
    return _agreed[-1] if _agreed else _passed_here(device)


@functools.cache
def _passed_here(device: str) -> Trusted:
    results = read_results()
    passed = set()
    for name in PREFERENCE.get(device, ()):
        backend = get_backend(name)
        for dtype in DTYPES if backend.version() else ():
            result = results.get(check_key(backend, device, dtype))
            if result is not None and result.passed:
                passed.add((name, device, str(dtype)))
    return frozenset(passed)


def agree_on_backends() -> Trusted:
    """Let all processes of a distributed run choose alike; call it in each, before the first step.

    Rank 0 decides: its list of engines holds for all ranks, less those that another rank does not
    have in the same version, or cannot load. It is a collective operation of the default process
    group, and without one it does nothing but read the results.

    Returns:
        The engines that "auto" may choose from now on.
    """
    forget_choices()
    usable = {
        entry: get_backend(entry[0]).version()
        for device in PREFERENCE
        for entry in _passed_here(device)
        if not get_backend(entry[0]).availability()
    }
    if not (distributed.is_available() and distributed.is_initialized()):
        return frozenset(usable)
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, usable)
    decided: dict[tuple[str, str, str], str] = everyone[0]
    common = frozenset(
        entry
        for entry, version in decided.items()
        if all(other.get(entry) == version for other in everyone)
    )
    lacking = sorted(f"{name} in {dtype}" for name, _, dtype in decided.keys() - common)
    if lacking and _is_rank_zero():
        _log.warning(
            "backend auto: %s passed its self-test on rank 0 but not, or in another version, on "
            "every rank, and is not used: run `%s` on each machine",
            ", ".join(lacking),
            DOCTOR,
        )
    _agreed.append(common)
    return common


def forget_choices() -> None:
    """Forget choices, agreement and results, so that all are made and read again."""
    _agreed.clear()
    _passed_here.cache_clear()
    choose.cache_clear()


def _is_rank_zero() -> bool:
    if distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    # A launcher says it here before there is a process group.
    ranks = [os.environ[name] for name in RANK_VARIABLES if name in os.environ]
    return not ranks or ranks[0] == "0"
