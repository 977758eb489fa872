"""Combinations that are known not to work, and the command that mends each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spcnn_lightning.commands.doctor_facts import Facts

COMPROMISED_LIGHTNING = ("2.6.2", "2.6.3")
"""Releases that carried malware: GHSA-w37p-236h-pfx3."""

TIME_UP = "the time was up"
"""What the summary of a self-test says that was too slow to come to its end."""

TORCHSPARSE_SOURCE = "https://github.com/mit-han-lab/torchsparse"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or soon will be."""

    level: str
    """"error" or "warning"."""
    text: str
    mend: str
    """A command, or what else to do."""


def find_problems(facts: Facts) -> list[Problem]:
    """Return what is wrong, the worst first."""
    rules = (_torch, _spconv_packages, _spconv_build, _torchsparse, _lightning, _backends)
    found = [problem for rule in rules for problem in rule(facts)]
    return sorted(found, key=lambda problem: problem.level != "error")


def spconv_to_install(facts: Facts) -> str:
    """Return the command that installs the engine that fits this Python and this torch."""
    python = numbers(facts["python"]["version"])[:2]
    torch = facts["torch"]
    cuda = numbers(torch.get("cuda") or "12.0")[:2]
    if torch.get("hip") or cuda[0] != 12 or python >= (3, 14):
        return "pip install spconv-triton"
    if python <= (3, 11):
        return "pip install spconv-cu120"
    if torch.get("cuda") is None or cuda < (12, 4):
        return "pip install spconv-cu121"
    return "pip install spconv-cu126" if cuda >= (12, 6) else "pip install spconv-cu124"


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, (2, 13, 0) of "2.13.0+cpu" say."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _torch(facts: Facts) -> Iterator[Problem]:
    torch = facts["torch"]
    if failure := torch.get("failure"):
        text = f"torch cannot be used: {failure}"
        yield Problem("error", text, "install it as https://pytorch.org says, 2.4 or newer")
        return
    if numbers(torch["version"]) < (2, 4):
        yield Problem(
            "error", f"torch {torch['version']} is too old", "pip install --upgrade 'torch>=2.4'"
        )
    if torch["numpy_failure"]:
        numpy = ", ".join(facts["distributions"].get("numpy", ["missing"]))
        text = f"torch {torch['version']} cannot use numpy {numpy}: {torch['numpy_failure']}"
        yield Problem("error", text, "pip install --upgrade --force-reinstall numpy")
    for sentence in torch["shadowed"]:
        text, _, mend = sentence.partition(": ")
        yield Problem("warning", text, mend)


def _spconv_packages(facts: Facts) -> Iterator[Problem]:
    for library in ("spconv", "cumm"):
        named = _versions(facts, rf"{library}(-cu\d+)?")
        if len(named) < 2:
            continue
        listed = " and ".join(f"{name} {version}" for name, version in named)
        why = f"{listed} are installed together and overwrite one another's files"
        if library in dict(named):
            why += ": the package for the CPU alone hides the one for CUDA"
        everything = _versions(facts, r"(spconv|cumm)(-cu\d+)?")
        names = " ".join(dict.fromkeys(name for name, _ in everything))
        mend = f"pip uninstall -y {names} && {spconv_to_install(facts)}"
        yield Problem("error", why, mend)
    spconvs, cumms = (_versions(facts, rf"{name}(-cu\d+)?") for name in ("spconv", "cumm"))
    if len(spconvs) != 1 or len(cumms) > 1:
        return
    ((spconv, version),) = spconvs
    wanted = spconv.replace("spconv", "cumm")
    cumm, cumm_version = cumms[0] if cumms else ("no cumm", "")
    too_new = numbers(version) >= (2, 3, 8) and numbers(cumm_version) >= (0, 8)
    if cumm != wanted or too_new:
        have = f"{cumm} {cumm_version}".rstrip()
        text = f"{spconv} {version} does not go with {have}: it needs {wanted} of its own time"
        remove = f"pip uninstall -y {cumm}; " if cumms else ""
        mend = f"{remove}pip install --force-reinstall {spconv}=={version}"
        yield Problem("error", text, mend)


def _spconv_build(facts: Facts) -> Iterator[Problem]:
    torch, found = facts["torch"], _versions(facts, r"spconv(-cu\d+)?")
    # Of several that overwrite one another nobody knows which one is there.
    for name, version in found if len(found) == 1 else []:
        build = re.search(r"cu(\d+)(\d)$", name)
        mend = f"pip uninstall -y {name} && {spconv_to_install(facts)}"
        if build is None:
            text = (
                f"{name} {version} is the wheel for the CPU alone: its own kernels give wrong "
                "numbers with two or more threads, so only its kernel maps are used"
            )
            yield Problem("warning", text, mend)
        elif torch.get("hip"):
            yield Problem("error", f"{name} {version} does not run on AMD GPUs", mend)
        elif torch.get("cuda"):
            major, minor = int(build[1]), int(build[2])
            cuda = numbers(torch["cuda"])
            text = f"{name} is built for CUDA {major}.{minor}, torch for CUDA {torch['cuda']}"
            if major != cuda[0]:
                yield Problem("error", f"{text}: it crashes or finds no kernel", mend)
            elif minor > cuda[1]:
                yield Problem("warning", f"{text}: it may need a newer driver", mend)


def _torchsparse(facts: Facts) -> Iterator[Problem]:
    versions = facts["distributions"].get("torchsparse", [])
    build = f"pip uninstall -y torchsparse, then build version 2.1 from {TORCHSPARSE_SOURCE}"
    for version in versions:
        if numbers(version) < (2, 1):
            text = f"torchsparse {version} orders coordinates in another way; 2.1 is needed"
            yield Problem("error", text, build)
    if "torch-sparse" in facts["distributions"] and not versions:
        text = "torch-sparse, which is installed, is a library of PyG and not TorchSparse"
        mend = f"nothing, unless you want TorchSparse: build it from {TORCHSPARSE_SOURCE}"
        yield Problem("warning", text, mend)


def _lightning(facts: Facts) -> Iterator[Problem]:
    for version in facts["distributions"].get("lightning", []):
        if version in COMPROMISED_LIGHTNING:
            text = f"lightning {version} is a compromised release (GHSA-w37p-236h-pfx3)"
            mend = "pip install --upgrade 'lightning>=2.6.4,<3'; renew the secrets it could read"
            yield Problem("error", text, mend)
    command: dict[str, Any] = facts["lightning"]
    module = command["module"] or ""
    if command["path"] is None:
        text = "there is no command lightning on the PATH"
        yield Problem("warning", text, "spcnn fit, or python -m spcnn_lightning fit, does the same")
    elif not module.startswith("spcnn_lightning"):
        owner = command["owner"] or f"the module {module or 'of an unknown program'}"
        text = f"the command lightning ({command['path']}) belongs to {owner}"
        mend = (
            "spcnn fit does what lightning fit does; to have the name back: "
            "pip install --force-reinstall --no-deps spcnn-lightning"
        )
        yield Problem("warning", text, mend)


def _backends(facts: Facts) -> Iterator[Problem]:
    for name, backend in facts["backends"].items():
        broken = backend["crashed"] or (backend["version"] and backend["reasons"])
        if broken:
            version = backend["version"] or "the library"
            text = f"backend {name}: {version} cannot be used: {'; '.join(backend['reasons'])}"
            yield Problem("error", text, "reinstall or uninstall it; backend='torch' needs nothing")
        for check in backend.get("checks", []):
            if check["passed"]:
                continue
            where = f"{check['dtype']} on {check['device']}"
            text = f"backend {name}: self-test in {where}: {check['summary']}"
            if TIME_UP in check["summary"]:
                mend = f"run spcnn doctor --check --backends {name} when the machine is idle"
                yield Problem("warning", text, mend)
            else:
                yield Problem("error", text, f"do not use {name} in {where}")


def _versions(facts: Facts, pattern: str) -> list[tuple[str, str]]:
    return [
        (name, version)
        for name, versions in sorted(facts["distributions"].items())
        for version in versions
        if re.fullmatch(pattern, name)
    ]
