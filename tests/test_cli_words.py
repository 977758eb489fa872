"""The words of the command line: help, versions, unknown words, configs, other owners of a name."""

import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

import spcnn_lightning
from spcnn_lightning.cli import SpcnnCLI
from spcnn_lightning.commands import main as program
from spcnn_lightning.commands.configs import ConfigNotFoundError, find_config, with_found_configs
from spcnn_lightning.core.errors import DataError

QUICKSTART = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def test_help_names_every_command_without_importing_torch(run_python):
    code = (
        "import sys; from spcnn_lightning.commands.main import main; status = main(['--help']);"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    result = run_python("-c", code)
    assert result.returncode == 0
    for word in program.COMMANDS:
        assert f"\n  {word} " in result.stdout


def test_version_is_that_of_the_package(capsys):
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"spcnn-lightning {spcnn_lightning.__version__}\n"


@pytest.mark.parametrize(("words", "problem"), [([], "no command given"), (["fti"], "'fti'")])
def test_a_wrong_word_is_answered_with_the_right_ones(capsys, words, problem):
    assert program.main(words) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert "fit" in error


def test_the_module_is_a_program(run_python):
    assert run_python("-m", "spcnn_lightning", "--version").stdout.startswith("spcnn-lightning")


def test_lightning_hands_other_words_to_its_other_owner(monkeypatch, capsys):
    called = []
    other = types.SimpleNamespace(load=lambda: lambda: called.append(True) or 7)
    monkeypatch.setattr(program, "_lightning_sdk", lambda: [other])
    assert program.lightning_main(["login"]) == 7
    assert called == [True]
    assert program.lightning_main(["--help"]) == 0
    assert "usage: lightning" in capsys.readouterr().out


def test_lightning_finds_the_command_of_lightning_sdk(monkeypatch, tmp_path):
    metadata = tmp_path / "lightning_sdk-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: lightning-sdk\nVersion: 1.0\n", encoding="utf-8")
    entry_points = "[console_scripts]\nother = a:b\nlightning = stand_in_for_the_sdk:main\n"
    (metadata / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    stand_in = tmp_path / "stand_in_for_the_sdk.py"
    stand_in.write_text("def main():\n    return 3\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert program.lightning_main(["studio", "list"]) == 3
    sys.modules.pop("stand_in_for_the_sdk")


def test_without_lightning_sdk_lightning_says_whose_it_is(monkeypatch, capsys):
    monkeypatch.setattr(program, "_lightning_sdk", list)
    assert program.lightning_main(["studio"]) == 2
    error = capsys.readouterr().err
    assert "unknown command 'studio'" in error
    assert "lightning-sdk" in error


def test_our_errors_are_messages_and_a_variable_shows_the_traceback(monkeypatch, capsys):
    def fail(*_):
        raise DataError("strokes.tra, byte 7: expected .PEN_DOWN")

    module = types.SimpleNamespace(main=fail)
    monkeypatch.setattr(program.importlib, "import_module", lambda _: module)
    assert program.main(["configs"]) == 2
    assert "spcnn configs: DataError: strokes.tra, byte 7" in capsys.readouterr().err
    monkeypatch.setenv("SPCNN_DEBUG", "1")
    with pytest.raises(DataError):
        program.main(["configs"])


def test_the_console_scripts_are_installed_under_both_names():
    for name in ("spcnn", "lightning"):
        script = Path(sys.executable).parent / name
        if not script.exists():
            pytest.skip("not installed in this environment")
        result = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
        assert f"usage: {name} COMMAND" in result.stdout


def test_configs_are_listed_with_what_they_are(capsys):
    assert program.main(["configs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(path.stem for path in QUICKSTART.parent.glob("*.yaml")) == [
        line.split()[0] for line in lines
    ]
    assert all(len(line.split()) > 3 for line in lines)


def test_a_config_is_copied_but_not_over_another_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert program.main(["configs", "copy", "quickstart"]) == 0
    copy = tmp_path / "quickstart.yaml"
    assert copy.read_bytes() == QUICKSTART.read_bytes()
    copy.write_text("mine", encoding="utf-8")
    assert program.main(["configs", "copy", "quickstart"]) == 2
    assert copy.read_text(encoding="utf-8") == "mine"
    assert "--force" in capsys.readouterr().err
    assert program.main(["configs", "copy", "quickstart", str(copy), "--force"]) == 0
    assert copy.read_bytes() == QUICKSTART.read_bytes()


def test_what_can_not_be_copied_is_said(tmp_path, capsys):
    assert program.main(["configs", "copy", "nonesuch", str(tmp_path)]) == 2
    assert "quickstart" in capsys.readouterr().err
    missing = tmp_path / "missing" / "quickstart.yaml"
    assert program.main(["configs", "copy", "quickstart", str(missing)]) == 2
    assert str(missing) in capsys.readouterr().err


def test_a_bare_name_is_a_config_that_ships_unless_a_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = Path(find_config("quickstart"))
    assert shipped.read_bytes() == QUICKSTART.read_bytes()
    arguments = ["fit", "--config", "quickstart", "--config=quickstart", "-c", "quickstart", "x"]
    assert with_found_configs(arguments) == [
        *("fit", "--config", str(shipped), f"--config={shipped}", "-c", str(shipped), "x")
    ]
    (tmp_path / "quickstart").write_text("", encoding="utf-8")
    assert find_config("quickstart") == "quickstart"


@pytest.mark.parametrize("name", ["quickstrat", "configs/quickstart.yaml"])
def test_a_config_that_is_nowhere_is_answered_with_the_names_that_ship(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigNotFoundError, match=f"'{name}'.*quickstart"):
        find_config(name)


@pytest.mark.parametrize(("started", "world_size", "warns"), [("2", 1, True), ("2", 2, False)])
def test_processes_that_will_not_know_of_each_other(started, world_size, warns, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", started)
    cli = SimpleNamespace(trainer=SimpleNamespace(world_size=world_size))
    if warns:
        with pytest.warns(UserWarning, match="each process trains for itself; give"):
            SpcnnCLI.before_fit(cli)
    else:
        SpcnnCLI.before_fit(cli)
