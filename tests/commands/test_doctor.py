"""``spcnn doctor``: it never crashes, and names what mends what is broken."""

import copy
import importlib.metadata
import json
import sys
from types import SimpleNamespace

import pytest

from spcnn_lightning.adapters.check_results import read_results
from spcnn_lightning.commands import doctor, doctor_check, doctor_facts
from spcnn_lightning.commands.doctor_rules import find_problems, spconv_to_install
from spcnn_lightning.commands.isolated import Answer, IsolatedCall

TORCH = {"version": "torch 2.13.0", "reasons": [], "dtypes": {"cpu": ["float32"]}, "refusals": {}}
HEALTHY = {
    "spcnn_lightning": "0.1.0",
    "python": {"version": "3.11.7", "executable": "/usr/bin/python"},
    "torch": {
        "version": "2.13.0",
        "cuda": "12.6",
        "hip": None,
        "devices": [{"kind": "cpu", "name": "threads: 2"}],
        "numpy_failure": "",
        "shadowed": [],
    },
    "distributions": {"torch": ["2.13.0"], "numpy": ["2.4.6"], "lightning": ["2.6.6"]},
    "lightning": {
        "path": "/usr/bin/lightning",
        "module": "spcnn_lightning.commands.main",
        "owner": "spcnn-lightning 0.1.0",
        "claimed_by": ["spcnn-lightning 0.1.0"],
    },
    "backends": {"torch": {**TORCH, "checks": [], "crashed": False}},
}


@pytest.fixture
def facts():
    return copy.deepcopy(HEALTHY)


def broken_backend(**changes):
    return {**copy.deepcopy(HEALTHY["backends"]["torch"]), **changes}


def only_problem(facts):
    (problem,) = find_problems(facts)
    return problem


def test_a_healthy_machine_has_no_problem(facts):
    assert find_problems(facts) == []


@pytest.mark.parametrize(
    ("installed", "level", "text", "mend"),
    [
        (
            {"spconv": "2.3.8", "spconv-cu120": "2.3.6", "cumm": "0.7.11"},
            "error",
            "overwrite one another's files: the package for the CPU alone hides the one for CUDA",
            "pip uninstall -y cumm spconv spconv-cu120 && pip install spconv-cu120",
        ),
        (
            {"spconv-cu120": "2.3.6", "cumm-cu120": "0.4.11", "cumm-cu118": "0.4.11"},
            "error",
            "cumm-cu118 0.4.11 and cumm-cu120 0.4.11 are installed together",
            "pip uninstall -y cumm-cu118 cumm-cu120 spconv-cu120 && pip install",
        ),
        (
            {"spconv-cu120": "2.3.6", "cumm-cu118": "0.4.11"},
            "error",
            "spconv-cu120 2.3.6 does not go with cumm-cu118 0.4.11",
            "pip install --force-reinstall spconv-cu120==2.3.6",
        ),
        (
            {"spconv-cu126": "2.3.8", "cumm-cu126": "0.8.2"},
            "error",
            "does not go with cumm-cu126 0.8.2",
            "pip uninstall -y cumm-cu126; pip install --force-reinstall spconv-cu126==2.3.8",
        ),
        (
            {"spconv-cu120": "2.3.6"},
            "error",
            "does not go with no cumm",
            "pip install --force-reinstall spconv-cu120==2.3.6",
        ),
        (
            {"spconv": "2.3.8", "cumm": "0.7.11"},
            "warning",
            "give wrong numbers with two or more threads",
            "pip uninstall -y spconv && pip install spconv-cu120",
        ),
        (
            {"spconv-cu118": "2.3.6", "cumm-cu118": "0.4.11"},
            "error",
            "built for CUDA 11.8, torch for CUDA 12.6: it crashes or finds no kernel",
            "pip uninstall -y spconv-cu118 && pip install spconv-cu120",
        ),
        (
            {"torchsparse": "2.0.0b0"},
            "error",
            "torchsparse 2.0.0b0 orders coordinates in another way",
            "build version 2.1 from https://github.com/mit-han-lab/torchsparse",
        ),
        ({"torch-sparse": "0.6.18"}, "warning", "a library of PyG and not TorchSparse", "nothing"),
        ({"lightning": "2.6.2"}, "error", "GHSA-w37p-236h-pfx3", "pip install --upgrade"),
    ],
)
def test_a_known_bad_combination_is_named_with_its_mend(facts, installed, level, text, mend):
    facts["distributions"] |= {name: [version] for name, version in installed.items()}
    problem = only_problem(facts)
    assert problem.level == level
    assert text in problem.text
    assert mend in problem.mend


def test_a_build_for_a_newer_cuda_is_a_warning_and_for_the_same_none(facts):
    facts["distributions"] |= {"spconv-cu126": ["2.3.8"], "cumm-cu126": ["0.7.11"]}
    assert find_problems(facts) == []
    facts["torch"]["cuda"] = "12.1"
    assert "may need a newer driver" in only_problem(facts).text
    facts["torch"]["cuda"] = "13.0"
    assert only_problem(facts).mend.endswith("pip install spconv-triton")
    facts["torch"]["cuda"] = None  # it runs on the CPU
    assert find_problems(facts) == []
    facts["torch"]["hip"] = "6.2"
    assert "does not run on AMD GPUs" in only_problem(facts).text


@pytest.mark.parametrize(
    ("python", "cuda", "command"),
    [
        ("3.11.7", None, "pip install spconv-cu120"),
        ("3.11.7", "12.8", "pip install spconv-cu120"),
        ("3.12.1", "12.8", "pip install spconv-cu126"),
        ("3.13.0", "12.4", "pip install spconv-cu124"),
        ("3.13.0", None, "pip install spconv-cu121"),
        ("3.14.0", "12.6", "pip install spconv-triton"),
        ("3.11.7", "13.0", "pip install spconv-triton"),
    ],
)
def test_the_engine_that_fits_python_and_torch_is_proposed(facts, python, cuda, command):
    facts["python"]["version"], facts["torch"]["cuda"] = python, cuda
    assert spconv_to_install(facts) == command


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": "2.3.1"}, "torch 2.3.1 is too old"),
        ({"numpy_failure": "Numpy is not available"}, "cannot use numpy 2.4.6: Numpy is not"),
        ({"shadowed": ["x 1 registers a backend 'spconv'; it is ignored: uninstall"]}, "x 1 reg"),
    ],
)
def test_trouble_with_torch_and_names_is_said(facts, changes, text):
    facts["torch"] |= changes
    assert text in only_problem(facts).text


def test_a_torch_that_cannot_be_imported_is_the_first_problem(facts, monkeypatch, capsys):
    facts["torch"], facts["backends"] = {"failure": "crashed with SIGILL"}, {}
    monkeypatch.setattr(doctor, "gather", lambda: facts)
    assert doctor.main("doctor", [], "spcnn") == 1
    assert "torch cannot be used: crashed with SIGILL" in capsys.readouterr().out
    assert doctor.main("doctor", ["--check"], "spcnn") == 1


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        (broken_backend(reasons=["crashed with SIGFPE"], crashed=True), "SIGFPE"),
        (broken_backend(reasons=["too old"]), "backend spconv: torch 2.13.0 cannot be used: too"),
        (
            broken_backend(
                checks=[{"device": "cuda", "dtype": "float16", "passed": False, "summary": "s"}]
            ),
            "self-test in float16 on cuda: s",
        ),
    ],
)
def test_a_broken_backend_is_an_error_and_a_missing_one_is_not(facts, backend, text):
    facts["backends"]["spconv"] = backend
    problem = only_problem(facts)
    assert problem.level == "error"
    assert text in problem.text
    facts["backends"]["spconv"] = broken_backend(version=None, reasons=["not installed"])
    assert find_problems(facts) == []


@pytest.mark.parametrize(
    ("path", "module", "text"),
    [
        (None, None, "no command lightning on the PATH"),
        ("/bin/lightning", "lightning_sdk.cli", "belongs to the module lightning_sdk.cli"),
        ("/bin/lightning", None, "belongs to the module of an unknown program"),
    ],
)
def test_another_owner_of_the_command_lightning_is_a_warning(facts, path, module, text):
    facts["lightning"] = {"path": path, "module": module, "owner": None, "claimed_by": []}
    problem = only_problem(facts)
    assert problem.level == "warning"
    assert text in problem.text
    assert "spcnn fit" in problem.mend


def test_a_test_that_was_too_slow_is_a_warning(facts):
    check = {"device": "cuda", "dtype": "float16", "passed": False, "summary": "the time was up"}
    facts["backends"]["spconv"] = broken_backend(checks=[check])
    problem = only_problem(facts)
    assert problem.level == "warning"
    assert "spcnn doctor --check --backends spconv" in problem.mend


def test_the_owner_of_the_command_is_read_from_its_script(tmp_path, monkeypatch):
    script = tmp_path / "lightning"
    script.write_text(
        "#!/usr/bin/python\n# -*- coding: utf-8 -*-\nimport re\nimport sys\n"
        "from lightning_sdk.cli.entrypoint import main_cli\nsys.exit(main_cli())\n"
    )
    claims = [("lightning_sdk", "lightning_sdk.cli.entrypoint"), ("spcnn", "spcnn_lightning.x")]
    points = [
        SimpleNamespace(dist=SimpleNamespace(name=name, version="1"), value=f"{module}:main")
        for name, module in claims
    ]
    monkeypatch.setattr(doctor_facts.shutil, "which", lambda name: str(script))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **kwargs: points)
    found = doctor_facts.lightning_command()
    assert found["owner"] == "lightning_sdk 1"
    assert found["claimed_by"] == ["lightning_sdk 1", "spcnn 1"]
    script.write_bytes(b"MZ\xff\x00")
    assert doctor_facts.lightning_command()["module"] is None


def test_distributions_without_metadata_do_no_harm(monkeypatch):
    listed = [
        SimpleNamespace(metadata=None, version="1"),
        SimpleNamespace(metadata={"Name": None}, version=None),
        SimpleNamespace(metadata={"Name": "spconv_cu120"}, version="2.3.6"),
        SimpleNamespace(metadata={"Name": "spconv-cu120"}, version="2.3.6"),
    ]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: listed)
    assert doctor_facts.installed() == {"spconv-cu120": ["2.3.6"]}


@pytest.mark.parametrize(
    ("target", "arguments", "timeout", "expected"),
    [
        ("math:hypot", (3, 4), 60, Answer(5.0)),
        ("os:abort", (), 60, Answer(failure="crashed with SIGABRT")),
        ("os:_exit", (3,), 60, Answer(failure="ended with status 3 before it answered")),
        ("time:sleep", (60,), 0.5, Answer(failure="gave no answer within 0 seconds")),
        (
            "math:sqrt",
            (-1,),
            60,
            Answer(failure="ValueError: expected a nonnegative input, got -1.0"),
        ),
    ],
)
def test_what_runs_apart_may_crash_hang_and_fail(target, arguments, timeout, expected):
    answer = IsolatedCall(target, *arguments).answer(timeout)
    assert answer.value == expected.value
    # The words of Python's own errors differ from version to version.
    assert (
        answer.failure.partition(":")[0].split(" (")[0]
        == (expected.failure.partition(":")[0].split(" (")[0])
    )


def test_what_it_prints_is_no_answer_but_helps_to_understand():
    answer = IsolatedCall("builtins:exec", "print('noise'); import os; os._exit(7)").answer(60)
    assert answer.failure == "ended with status 7 before it answered (it said last: noise)"


def test_the_screen_and_the_json_say_the_same(facts, monkeypatch, capsys):
    facts["backends"]["spconv"] = broken_backend(version=None, reasons=["not installed: pip ..."])
    monkeypatch.setattr(doctor, "gather", lambda: facts)
    assert doctor.main("doctor", [], "spcnn") == 0
    screen = capsys.readouterr().out
    for text in ("2.13.0", "3.11.7", "threads: 2", "not installed: pip ...", "No problem found."):
        assert text in screen
    assert len(screen.splitlines()) < 24
    assert doctor.main("doctor", ["--json"], "spcnn") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["backends"]["spconv"]["reasons"] == ["not installed: pip ..."]
    assert data["problems"] == []


def test_a_check_of_what_cannot_run_fails_and_says_why(facts, monkeypatch, capsys):
    facts["backends"]["spconv"] = broken_backend(version=None, reasons=["not here"], dtypes={})
    monkeypatch.setattr(doctor, "gather", lambda: facts)
    assert doctor.main("doctor", ["--check", "--backends", "spconv,nope"], "spcnn") == 1
    screen = capsys.readouterr().out
    assert "self-test of spconv on cpu: not passed" in screen
    assert "there is no such backend; known: torch, spconv" in screen


def test_our_own_engine_is_checked_last(facts, monkeypatch, capsys):
    facts["backends"]["other"] = broken_backend()
    asked = []
    monkeypatch.setattr(doctor, "gather", lambda: facts)
    monkeypatch.setattr(doctor, "run_checks", lambda *words: asked.append(words) or [])
    assert doctor.main("doctor", ["--check"], "spcnn") == 0
    assert asked == [(["other", "torch"], "cpu", False)]


def test_a_check_may_name_an_algorithm(facts, monkeypatch, capsys):
    asked = []
    facts["backends"]["spconv"] = {**facts["backends"]["torch"], "version": "spconv-cu120 2.3.6"}
    monkeypatch.setattr(doctor, "gather", lambda: facts)
    monkeypatch.setattr(doctor, "run_checks", lambda *words: asked.append(words) or [])
    assert doctor.main("doctor", ["--check", "--backends", "torch, spconv:native"], "spcnn") == 0
    assert asked == [(["spconv:native", "torch"], "cpu", False)]
    assert doctor.main("doctor", ["--check", "--backends", "nope:native"], "spcnn") == 1
    assert "there is no such backend; known: torch, spconv" in capsys.readouterr().out


def test_a_check_keeps_its_result_and_a_crash_leaves_none_to_be_trusted(monkeypatch, tmp_path):
    from spcnn_lightning import testing

    monkeypatch.setenv("SPCNN_CACHE_DIR", str(tmp_path))
    kept = []

    def crash(*args, **kwargs):
        kept.extend(read_results().values())
        raise MemoryError

    monkeypatch.setattr(testing, "self_test", crash)
    with pytest.raises(MemoryError):
        doctor_check.check_here("torch", "cpu", 0.0, str(tmp_path / "progress"))
    assert [result.passed for result in kept] == [False] * 4
    monkeypatch.undo()
    monkeypatch.setenv("SPCNN_CACHE_DIR", str(tmp_path / "file" / "folder"))
    (tmp_path / "file").write_text("in the way")
    report = doctor_check.check_here("torch", "cpu", 0.0, str(tmp_path / "progress"))
    assert not report["ok"]
    assert "the time was up" in report["dtypes"][0]["summary"]
    assert "could not be kept for backend='auto'" in report["cache_problem"]


@pytest.mark.slow
def test_the_real_thing_runs_from_anywhere(run_python, tmp_path):
    environment = {"SPCNN_CACHE_DIR": str(tmp_path)}
    done = run_python("-m", "spcnn_lightning", "doctor", "--json", **environment)
    data = json.loads(done.stdout)
    assert data["python"]["executable"] == sys.executable
    assert data["backends"]["torch"]["dtypes"]["cpu"]
    assert list(data["backends"])[:4] == ["torch", "spconv", "torchsparse", "spconv_triton"]
    assert done.returncode == any(p["level"] == "error" for p in data["problems"])
