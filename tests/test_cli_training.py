"""fit, test and the rest as a user runs them: commands in a folder with files of his own."""

import importlib.util
import re
import signal
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.trainer.connectors.logger_connector import logger_connector
from lightning.pytorch.utilities.rank_zero import WarningCache

from spcnn_lightning.cli import link_data_to_network
from spcnn_lightning.commands import main as program

MY_DATA = '''
import os
import signal
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule
from torch.utils.data import DataLoader

from spcnn_lightning import SparseBatch, collate


class Corners(LightningDataModule):
    """Squares in one of four corners: as easy as learning gets."""

    num_classes, in_channels, spatial_shape = 4, 2, (12, 12)

    def __init__(self, samples: int = 16):
        super().__init__()
        self.samples = samples

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(0)
        samples = []
        for index in range(self.samples):
            label = index % 4
            row, column = 4 * (label // 2) + 2, 4 * (label % 2) + 2
            grid = torch.zeros(1, 2, 12, 12)
            grid[0, :, row : row + 3, column : column + 3] = torch.rand(
                2, 3, 3, generator=generator
            )
            samples.append((SparseBatch.from_dense(grid), label))
        return DataLoader(samples, batch_size=8, collate_fn=collate)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Silent(LightningDataModule):
    """Says nothing of what it holds."""

    train_dataloader = Corners.train_dataloader
    samples = 16


class SevenClasses(Corners):
    num_classes = 7


class Kills(Callback):
    """The power fails before the step that the file kill_at names."""

    def on_train_batch_start(self, trainer, *rest):
        kill_at = Path("kill_at")
        if kill_at.exists() and trainer.global_step == int(kill_at.read_text()):
            os.kill(os.getpid(), signal.SIGKILL)


class Stops(Callback):
    """Sends the signal that the file stop_with names to the second process."""

    def on_before_zero_grad(self, trainer, *rest):
        if trainer.global_rank == 1 and trainer.global_step == 3:
            os.kill(os.getpid(), getattr(signal, Path("stop_with").read_text()))
'''
CONFIG = {
    "seed_everything": 1,
    "trainer": {
        "max_epochs": 2,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
    },
    "model": {
        "class_path": "SparseClassifier",
        "init_args": {
            "network": {"class_path": "DeepCNet", "init_args": {"levels": 2, "width": 4}},
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}},
        },
    },
    "data": {"class_path": "my_data.Corners"},
}


HANDWRITING = {
    "class_path": "HandwritingDataModule",
    "init_args": {"box": 4},
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A user's folder: a config and a data module beside it."""
    (tmp_path / "my_data.py").write_text(MY_DATA, encoding="utf-8")
    (tmp_path / "corners.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return tmp_path


@pytest.fixture
def command(folder, run_python):
    """Run a command in a process of its own; return what it printed if it went as expected."""

    def run(*words: str, status: int = 0) -> str:
        arguments = ["-m", "spcnn_lightning", words[0], "--config", "corners.yaml", *words[1:]]
        result = run_python(*arguments)
        printed = result.stdout + result.stderr
        assert result.returncode == status, printed
        assert "Traceback" not in printed, printed
        return printed

    return run


@pytest.mark.slow
def test_fit_then_test_then_resume_in_processes_of_their_own(folder, command):
    printed = command("test", "--ckpt_path", "last", status=2)
    assert "CheckpointNotFoundError: --ckpt_path last" in printed
    assert str(folder / "lightning_logs") in printed

    printed = command("fit")
    assert re.search(r"best val/error, [\d.]+: lightning_logs/version_0/\S+\.ckpt$", printed, re.M)
    assert "next: spcnn test --config corners.yaml --ckpt_path last (or best)" in printed
    checkpoints = folder / "lightning_logs" / "version_0" / "checkpoints"
    (best,) = checkpoints.glob("best-*.ckpt")

    # With the progress bar, which swallows what is printed after its end.
    words = ["--model.network.backend", "torch", "--trainer.enable_progress_bar", "true"]
    printed = command("test", "--ckpt_path", "best", *words)
    assert f"--ckpt_path best is {best}" in printed
    assert "backend: torch\n" in re.sub(r" +\n", "\n", printed)  # not "torch (auto)"
    assert "test/error" in printed

    printed = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert f"--ckpt_path last is {checkpoints / 'last.ckpt'}" in printed
    last = torch.load(checkpoints / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (3, 8)  # two batches an epoch
    assert not [run for run in folder.glob("lightning_logs/*/checkpoints") if run != checkpoints]

    # A run of another network is not taken for this one's.
    printed = command("test", "--ckpt_path", "best", "--model.network.width", "5", status=2)
    assert "of another network" in printed


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_weights_of_an_unbroken_one(folder, command):
    """SIGKILL in the middle of an epoch: nothing can be tidied up."""
    config = CONFIG | {"data": HANDWRITING}
    config["trainer"] = {
        **CONFIG["trainer"],
        "limit_train_batches": 20,
        "limit_val_batches": 1,
        "callbacks": [
            {"class_path": "LastCheckpoint", "init_args": {"every_n_steps": 3}},
            {"class_path": "my_data.Kills"},
        ],
    }
    (folder / "corners.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command("fit")
    logs = folder / "lightning_logs"
    unbroken = torch.load(logs / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)

    (folder / "kill_at").write_text("31")
    command("fit", status=-signal.SIGKILL)
    (folder / "kill_at").unlink()
    last = logs / "version_1" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 30
    command("fit", "--ckpt_path", "last")
    resumed = torch.load(last, weights_only=True)
    assert resumed["global_step"] == unbroken["global_step"] == 40
    torch.testing.assert_close(resumed["state_dict"], unbroken["state_dict"], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_one_of_two_processes_stops_both_with_a_checkpoint(folder, command, name):
    (folder / "stop_with").write_text(name)
    own = ["--trainer.callbacks+=my_data.Stops", "--trainer.max_epochs", "9"]
    command("fit", "--trainer.devices", "2", "--trainer.strategy", "ddp", *own, status=1)
    last = folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 4


@pytest.mark.slow
def test_classes_beside_the_config_are_found_by_every_process(folder, command):
    printed = command("fit", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert "Starting with 2 processes" in printed
    assert (folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt").is_file()


@pytest.fixture
def refused(folder, monkeypatch, capsys):
    """Run a command in this process; return the message it refuses with."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def run(*words: str) -> str:
        try:
            status = program.main([words[0], "--config", "corners.yaml", *words[1:]])
        except SystemExit as exit_:  # argparse
            status = exit_.code
        assert status == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "--trainer.max_epoch", "3"], "trainer.max_epoch (is it 'max_epochs'?)"),
        (["fit", "--modell.width", "3"], "modell.width (is it 'model'?); there are config,"),
        (["fit", "--model.optimizer.lr", "fast"], "optimizer.lr is 'fast': it needs a number"),
        (
            ["fit", "--model.network.levls", "3"],
            "DeepCNet has no argument 'levls' (is it 'levels'?)",
        ),
        (["fit", "--model.optimizer.lrr", "3"], "SGD has no argument 'lrr' (is it 'lr'?)"),
        (["fit", "--model.optimizer", "torch.optim.Sgd"], "in torch.optim (is it 'SGD'?)"),
        (["fit", "--model.optimizer.lr", "-1"], "Invalid learning rate: -1"),
        (["fit", "--model.network", "DeepCNett"], "(is it 'DeepCNet'?); known are DeepCNet, DeepC"),
        (["fit", "--model", "mine.Model"], "No module named 'mine'. A class of your own"),
        (["fit", "--data", "HandwritingDatamodul"], "(is it 'HandwritingDataModule'?)"),
        (["fit", "--data.samples", "many"], "data.samples is 'many': it needs to be of type int"),
        (["fit", "--model.label_smoothing", "2"], "label_smoothing is 2.0"),
        (["fit", "--model.network.levels", "three"], "three"),
        (["fit", "--model.network.num_classes", "3"], "num_classes is 3, but Corners has 4"),
        (["fit", "--model.network.levels", "9"], "fewer levels"),
        (["fit", "--model.network.backend", "spconf"], "'spconf'"),
        (["fit", "--data", "my_data.Silent"], "num_classes"),
        (["fit", "--data", "my_data.Solvent"], "my_data.Solvent"),
        (["test", "--ckpt_path", "best"], "fit"),
        (["test", "--ckpt_path", "nonesuch.ckpt"], "nonesuch.ckpt: no such file"),
        (["test", "--ckpt_path", "corners.yaml"], "is no checkpoint, or a damaged one"),
        (["test", "--ckpt_path", "."], "is a folder: give a file in it"),
        (["fit", "--trainer.accelerator", "abacus"], "abacus"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[1:]),
)
def test_what_can_not_be_done_is_said_in_a_sentence(refused, words, message):
    assert message in refused(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["fit", "--data.source", "PenDigit8"],
            "(is it 'PenDigits8'?); known are Assamese",
        ),
        (["fit", "--data.source", "Digits"], "Digits is of another kind; known are Assamese"),
        (["fit", "--data.source", "Omniglot"], "Omniglot needs root: give --data.source.root"),
        (
            ["fit", "--data.encoder", "Encodings", "--data.encoder.encoders", "[Octogram, Sped]"],
            "data.encoder.encoders: there is no class Sped (is it 'Speed'?); known are Bitmap",
        ),
        (["fit", "--data.encoder", "Octogramm"], "known are Bitmap, Curvature, Encodings"),
        (["fit", "--data.batch_size", "0"], "batch_size is 0: it needs at least 1"),
        (["fit", "--data.num_workers", "-1"], "num_workers is -1: it needs at least 0"),
        (["fit", "--data.validation_fraction", "1"], "validation_fraction is 1.0"),
        (["fit", "--data.validation_writers", "[3]"], "do not say who wrote what"),
        pytest.param(
            ["validate", "--data.train_on_all", "true"],
            "there is nothing to validate on",
            marks=pytest.mark.filterwarnings("ignore:validate without --ckpt_path"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[1:]),
)
def test_what_handwriting_can_not_do_is_said_in_a_sentence(folder, refused, words, message):
    config = CONFIG | {"data": HANDWRITING}
    (folder / "corners.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert message in refused(*words)


def test_a_checkpoint_of_another_network_or_size_is_refused(folder, refused):
    config = CONFIG | {"data": HANDWRITING}
    (folder / "corners.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    words = ["fit", "--config", "corners.yaml", "--trainer.max_epochs", "1"]
    assert program.main([*words, "--trainer.limit_train_batches", "1"]) == 0
    (last,) = folder.glob("lightning_logs/*/checkpoints/last.ckpt")
    printed = refused("test", "--model.network.width", "5", "--ckpt_path", str(last))
    assert "network.layers.0.weight has the shape (9, 9, 4) there and (9, 9, 5) here" in printed
    size = ["--data.box", "3", "--data.spatial_shape", "[12, 12]"]
    assert "trained with box 4, this data module has 3" in refused(
        "test", *size, "--ckpt_path", str(last)
    )
    assert "those of 1 runs are of another network" in refused("test", *size, "--ckpt_path", "last")
    damaged = folder / "damaged.ckpt"
    damaged.write_bytes(last.read_bytes()[:-100])
    assert "damaged one" in refused("test", "--ckpt_path", str(damaged))


def test_a_run_without_validation_says_that_it_has_no_best(folder, refused, caplog):
    data = {**HANDWRITING, "init_args": {"box": 4, "train_on_all": True}}
    (folder / "corners.yaml").write_text(yaml.safe_dump(CONFIG | {"data": data}), encoding="utf-8")
    words = ["fit", "--config", "corners.yaml", "--trainer.max_epochs", "1"]
    assert program.main([*words, "--trainer.limit_train_batches", "1"]) == 0
    assert "last: lightning_logs/version_0/checkpoints/last.ckpt\n" in caplog.text
    assert "--trainer.limit_train_batches 1 --ckpt_path last" in caplog.text
    assert "no validation data (train_on_all)" in refused("test", "--ckpt_path", "best")


def test_without_tensorboard_metrics_go_to_csv_files_and_lightning_does_not_warn(
    folder, refused, monkeypatch, recwarn
):
    # Lightning looks for both when it is imported, and remembers what it warned of.
    for package in ("TENSORBOARD", "TENSORBOARDX"):
        monkeypatch.setattr(logger_connector, f"_{package}_AVAILABLE", False)
    monkeypatch.setattr(logger_connector, "warning_cache", WarningCache())
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if "tensorboard" in n else find_spec(n)
    )
    words = ["fit", "--config", "corners.yaml", "--trainer.max_epochs", "1"]
    assert program.main([*words, "--trainer.default_root_dir", "here"]) == 0
    assert (folder / "here" / "lightning_logs" / "version_0" / "metrics.csv").is_file()
    assert not [w for w in recwarn if "tensorboard" in str(w.message)]
    assert program.main([*words, "--trainer.logger", "false"]) == 0
    assert not (folder / "lightning_logs").exists()


@pytest.mark.parametrize("words", [["fit"], ["predict"], ["test", "--model.network.levels", "3"]])
def test_a_run_without_a_config_is_told_of_them(words, capsys):
    assert program.main(words) == 2
    assert "give --config FILE_OR_NAME" in capsys.readouterr().err


def test_an_unknown_key_in_the_config_is_named(folder, refused):
    config = CONFIG | {"trainr": {"max_epochs": 1}}
    (folder / "corners.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert "(is it 'trainer'?)" in refused("fit")


def test_a_checkpoint_never_overrides_the_config(folder, refused):
    """Plain Lightning would take the network's arguments, backend included, from the file."""
    model = {**CONFIG["model"], "_class_path": "SparseClassifier"}
    model["network"] = {"class_path": "DeepCNet", "init_args": {"levels": 2, "backend": "spconf"}}
    torch.save({"hyper_parameters": model}, folder / "foreign.ckpt")
    printed = refused("test", "--ckpt_path", "foreign.ckpt", "--model.network.levels", "9")
    assert "fewer levels" in printed
    assert "spconf" not in printed


def test_somebody_elses_command_line_can_link_data_to_its_network(folder, monkeypatch):
    class TheirCLI(LightningCLI):
        def add_arguments_to_parser(self, parser):
            link_data_to_network(parser)

    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("sys.argv", ["theirs.py"])
    config = {**CONFIG, "data": {"class_path": "my_data.SevenClasses"}}
    cli = TheirCLI(
        args=config,
        run=False,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
    )
    assert cli.model.network.num_classes == 7
    assert cli.model.network.in_channels == 2
    assert tuple(cli.model.network.spatial_shape) == (12, 12)
