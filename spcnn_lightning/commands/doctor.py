"""``spcnn doctor``: what is installed, what works, what does not, and the command that mends it."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from dataclasses import asdict
from typing import Any

from spcnn_lightning import __version__
from spcnn_lightning.commands.doctor_check import as_json, run_checks
from spcnn_lightning.commands.doctor_facts import Facts, gather
from spcnn_lightning.commands.doctor_rules import Problem, find_problems, spconv_to_install

DTYPES = {"float64", "float32", "float16", "bfloat16"}
INDENT = " " * 15


def main(word: str, arguments: list[str], prog: str) -> int:
    """Run ``spcnn doctor`` and return 0 if nothing is broken, 1 otherwise."""
    parser = argparse.ArgumentParser(
        f"{prog} {word}",
        description="Say what is installed, which backends can be used here and why others cannot, "
        "and how to mend what is broken. The exit status is 1 if something is.",
    )
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    parser.add_argument(
        "--check",
        action="store_true",
        help="test the engines on this device, in at most 2 minutes; backend=auto chooses a "
        "compiled engine only after that",
    )
    parser.add_argument("--backends", help="check only these, with commas between them")
    parser.add_argument("--device", help="check them here (default: cuda if there is one, or cpu)")
    options = parser.parse_args(arguments)
    facts = gather()
    facts["spcnn_lightning"] = __version__
    if options.check:
        facts["checks"] = _check(facts, options.backends, options.device, options.json)
    problems = find_problems(facts)
    if options.json:
        print(as_json({**facts, "problems": [asdict(problem) for problem in problems]}))
    else:
        print("\n".join([*_screen(facts), "", *_problem_lines(problems)]))
    broken = any(problem.level == "error" for problem in problems)
    failed = any(not check["ok"] for check in facts.get("checks", []))
    return int(broken or failed)


def _check(facts: Facts, only: str | None, device: str | None, quiet: bool) -> list[dict[str, Any]]:
    kinds = [entry["kind"] for entry in facts["torch"].get("devices", [])]
    device = device or ("cuda" if "cuda" in kinds else "cpu")
    kind = device.partition(":")[0]
    usable = [name for name, found in facts["backends"].items() if found["dtypes"].get(kind)]
    asked = usable if only is None else [name.strip() for name in only.split(",")]
    # Our own engine runs without a test: it comes last, should the time be short.
    names = sorted((name for name in asked if _base(name) in usable), key=lambda n: n == "torch")
    unusable = [
        {"backend": name, "device": device, "ok": False, "dtypes": [], "reasons": [reason]}
        for name in asked
        if _base(name) not in usable
        for reason in [_why_not(facts, name, kind)]
    ]
    return [*run_checks(names, device, quiet), *unusable]


def _why_not(facts: Facts, name: str, kind: str) -> str:
    found = facts["backends"].get(_base(name))
    if found is None:
        return f"there is no such backend; known: {', '.join(facts['backends']) or 'none'}"
    return "; ".join(found["reasons"] or found["refusals"].get(kind, [f"does not run on {kind}"]))


def _base(name: str) -> str:
    """Return the name of a backend without its algorithm."""
    return name.partition(":")[0]


def _screen(facts: Facts) -> list[str]:
    python, torch = facts["python"], facts["torch"]
    lines = [f"{'spcnn':<15}{facts['spcnn_lightning']}"]
    lines += [f"{'Python':<15}{python['version']}, {python['executable']}"]
    if failure := torch.get("failure"):
        return [*lines, *_wrapped("torch", f"cannot be used: {failure}")]
    build = f"CUDA {torch['cuda']}" if torch["cuda"] else "built without CUDA"
    build = f"ROCm {torch['hip']}" if torch["hip"] else build
    lines += [f"{'torch':<15}{torch['version']}, {build}"]
    lines += [f"{'device':<15}{entry['kind']}: {entry['name']}" for entry in torch["devices"]]
    command = facts["lightning"]
    owner = command["owner"] or command["module"]
    said = f"{command['path']}, of {owner}" if command["path"] else "not on the PATH"
    lines += [*_wrapped("lightning", said), "", f"{'backend':<15}version, and where it runs"]
    for name, backend in facts["backends"].items():
        lines += _wrapped(name, _describe(backend))
    lines += [line for check in facts.get("checks", []) for line in _check_lines(check)]
    if not any(facts["distributions"].get(name) for name in _engines(facts)):
        lines += _wrapped("", f"a compiled engine for this Python: {spconv_to_install(facts)}")
    return lines


def _engines(facts: Facts) -> list[str]:
    return [name for name in facts["distributions"] if name.startswith(("spconv", "torchsparse"))]


def _describe(backend: dict[str, Any]) -> str:
    if backend["reasons"]:
        version = f"{backend['version']}: " if backend["version"] else ""
        return f"{version}{'; '.join(backend['reasons'])}"
    places = [
        f"{kind} ({'every dtype' if set(dtypes) == DTYPES else ', '.join(dtypes)})"
        for kind, dtypes in backend["dtypes"].items()
    ]
    places += [f"not {kind}: {'; '.join(why)}" for kind, why in backend["refusals"].items()]
    passed = [f"{c['dtype']} on {c['device']}" for c in backend["checks"] if c["passed"]]
    tested = f"; passed its self-test in {', '.join(passed)}" if passed else ""
    return f"{backend['version']}: {'; '.join(places)}{tested}"


def _check_lines(check: dict[str, Any]) -> list[str]:
    title = f"self-test of {check['backend']} on {check['device']}"
    reasons = "; ".join(check.get("reasons", []))
    seconds = f", {check['seconds']} s" if "seconds" in check else ""
    lines = ["", f"{title}: {'passed' if check['ok'] else 'not passed'}{seconds}"]
    lines += _wrapped("", reasons) if reasons else []
    for part in check["dtypes"]:
        lines += _wrapped(f"  {part['dtype']}", part["summary"])
    return [*lines, *([check["cache_problem"]] if check.get("cache_problem") else [])]


def _problem_lines(problems: list[Problem]) -> list[str]:
    if not problems:
        return ["No problem found."]
    lines = []
    for problem in problems:
        lines += _wrapped(problem.level, problem.text)
        lines += _wrapped("  to mend", problem.mend)
    return lines


def _wrapped(label: str, text: str) -> list[str]:
    width = max(60, min(100, shutil.get_terminal_size().columns))
    # A command has to stay whole enough to be copied.
    return textwrap.wrap(
        text,
        width,
        initial_indent=f"{label:<15}",
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
