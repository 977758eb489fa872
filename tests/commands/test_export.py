"""spcnn export: the files say what the network says."""

import importlib
import importlib.util
import json
import logging

import pytest
import torch

from spcnn_lightning.cli_checkpoints import CheckpointMismatchError
from spcnn_lightning.commands import export
from spcnn_lightning.commands.experiment import load_experiment
from spcnn_lightning.commands.export import ExportCheckError
from spcnn_lightning.core.errors import MissingExtraError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules import HandwritingDataModule
from spcnn_lightning.export import (
    CONFIG,
    ONNX,
    WEIGHTS,
    ExportedFolderError,
    load_exported,
    require_extra,
    save_exported,
    write_onnx,
)
from spcnn_lightning.modules import SparseClassifier
from spcnn_lightning.networks import DeepCNet, DeepCNiN, NotationNetwork

CONFIG_TEXT = """
model:
  class_path: SparseClassifier
  init_args:
    network: {class_path: DeepCNet, init_args: {levels: 2, width: 3, dropout: 0.5}}
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.01}}
data:
  class_path: HandwritingDataModule
  init_args: {source: {class_path: PenDigits8}, box: 4, batch_size: 8}
"""
SCALE = [1.0, 2, 3, 4, 5, 6, 7, 8, 9]

needs_safetensors = pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="needs the extra export (safetensors)"
)
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra export (onnx, onnxscript, onnxruntime)",
)


@pytest.fixture(autouse=True)
def own_randomness():
    """Keep the seeds of a config from the other tests."""
    with torch.random.fork_rng():
        yield


@pytest.fixture
def trained(tmp_path):
    """Return config file, checkpoint file and the network in it, as training leaves them."""
    data = HandwritingDataModule(box=4)
    data._feature_scale = torch.tensor(SCALE)
    network = DeepCNet(2, 3, data.in_channels, data.num_classes, dropout=0.5)
    module = SparseClassifier(network, lambda p: torch.optim.SGD(p, 0.1))
    saved = {"state_dict": module.state_dict(), "HandwritingDataModule": data.state_dict()}
    checkpoint, config = tmp_path / "epoch.ckpt", tmp_path / "digits.yaml"
    torch.save(saved, checkpoint)
    config.write_text(CONFIG_TEXT, encoding="utf-8")
    return config, checkpoint, network.eval()


def a_batch(network):
    field = torch.zeros(2, network.in_channels, *network.spatial_shape)
    field[0, :, 2:4, 3] = torch.randn(network.in_channels, 2)
    field[1, :, 5, 1:3] = torch.randn(network.in_channels, 2)
    return SparseBatch.from_dense(field)


@needs_safetensors
@needs_onnx
def test_the_exported_folder_gives_what_the_network_gives(trained, tmp_path, capsys):
    config, checkpoint, network = trained
    folder = tmp_path / "out" / "digits"
    arguments = ["--config", str(config), "--ckpt_path", str(checkpoint), "--out", str(folder)]
    assert export.main("export", [*arguments, "--samples", "11"], "spcnn") == 0

    printed = capsys.readouterr().out
    assert "read back, it gives the same logits" in printed
    assert "on 11 test samples its logits differ by" in printed
    assert "11 of 11 have the same class" in printed
    assert "onnxruntime (dense)" in printed

    described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    assert described["class_names"] == list("0123456789")
    assert described["feature_scale"] == SCALE
    assert described["channel_names"][:2] == ["touched", "direction_0"]
    assert described["data"]["init_args"]["box"] == 4
    arguments = described["network"]["init_args"]
    assert described["network"]["class_path"] == "spcnn_lightning.DeepCNet"
    assert (arguments["levels"], arguments["dropout"]) == (2, 0.5)
    assert (arguments["num_classes"], arguments["spatial_shape"]) == (10, [12, 12])

    batch = a_batch(network)
    assert torch.equal(load_exported(folder)(batch), network(batch))
    session = importlib.import_module("onnxruntime").InferenceSession(str(folder / ONNX))
    kept = session.get_modelmeta().custom_metadata_map
    assert json.loads(kept["class_names"]) == list("0123456789")
    for samples in (1, 2):
        field = batch.to_dense()[:samples]
        (logits,) = session.run(["logits"], {"field": field.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), network(batch)[:samples].detach())


@needs_safetensors
@needs_onnx
def test_a_model_that_differs_is_refused(trained, tmp_path, monkeypatch, capsys):
    config, checkpoint, network = trained
    check = importlib.import_module("spcnn_lightning.commands.export_check")
    other = DeepCNet(2, 3, network.in_channels, network.num_classes).eval()
    wrong = importlib.import_module("spcnn_lightning.reference.twin").export_dense(other)
    written = importlib.import_module("spcnn_lightning.export")
    monkeypatch.setattr(written, "write_onnx", lambda network, path, facts: path.write_bytes(b"x"))
    monkeypatch.setattr(check, "open_session", lambda path: None)
    monkeypatch.setattr(check, "run_session", lambda session, field: wrong(field).detach())
    arguments = ["--config", str(config), "--ckpt_path", str(checkpoint), "--samples", "3"]
    with pytest.raises(ExportCheckError, match="differs from the network"):
        export.main("export", [*arguments, "--out", str(tmp_path / "out")], "spcnn")
    assert "on 3 test samples" in capsys.readouterr().out
    monkeypatch.setattr(
        check, "run_session", lambda session, field: wrong(field).detach() * torch.nan
    )
    with pytest.raises(ExportCheckError, match="differs from the network"):
        export.main("export", [*arguments, "--out", str(tmp_path / "nan")], "spcnn")


@needs_safetensors
@needs_onnx
def test_the_engine_of_training_is_not_needed(trained, tmp_path):
    """spconv_triton does not run on a CPU at all."""
    config, checkpoint, _ = trained
    arguments = ["--config", str(config), "--ckpt_path", str(checkpoint), "--samples", "3"]
    arguments += ["--model.network.backend", "spconv_triton", "--out", str(tmp_path / "out")]
    assert export.main("export", arguments, "spcnn") == 0


@needs_onnx
def test_the_exporter_is_quiet_and_leaves_the_log_as_it_was(tmp_path, capsys, caplog):
    level = logging.getLogger("torch.onnx").level
    write_onnx(DeepCNet(1, 2, 1, 3, dimensions=1).eval(), tmp_path / ONNX, {})
    assert logging.getLogger("torch.onnx").level == level
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert capsys.readouterr() == ("", "")


@needs_safetensors
@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        (DeepCNiN(1, 2, 3, 4), {"levels": 1, "width": 2, "backend": "spconv"}),
        (NotationNetwork("4C3-MP2-8C2-output", 3, 5), {"notation": "4C3-MP2-8C2-output"}),
        (
            NotationNetwork("2C3-MP2-output", 3, 5, spatial_shape=(9, 8), readout="mean"),
            {"notation": "2C3-MP2-output", "readout": "mean", "spatial_shape": None},
        ),
    ],
    ids=["nin", "notation", "mean"],
)
def test_a_network_comes_back_from_weights_and_json_alone(network, arguments, tmp_path):
    save_exported(network, tmp_path, arguments)
    text = (tmp_path / CONFIG).read_text(encoding="utf-8")
    assert "backend" not in text
    loaded = load_exported(tmp_path, backend="torch")
    assert type(loaded) is type(network)
    assert loaded.backend == "torch"
    assert not loaded.training
    batch = a_batch(network)
    assert torch.equal(loaded(batch), network.eval()(batch))


@needs_safetensors
def test_a_folder_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ExportedFolderError, match="give a folder that spcnn export wrote"):
        load_exported(tmp_path)
    save_exported(DeepCNet(1, 2, 3, 4), tmp_path, {"levels": 1, "width": 2})
    described = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))

    wider = json.loads(json.dumps(described))
    wider["network"]["init_args"]["width"] = 3
    (tmp_path / CONFIG).write_text(json.dumps(wider), encoding="utf-8")
    with pytest.raises(ExportedFolderError, match="size mismatch"):
        load_exported(tmp_path)

    (tmp_path / CONFIG).write_text(json.dumps(described | {"format_version": 2}), encoding="utf-8")
    with pytest.raises(ExportedFolderError, match="version 2, this spcnn-lightning .* update"):
        load_exported(tmp_path)

    (tmp_path / CONFIG).write_text(json.dumps(described), encoding="utf-8")
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(ExportedFolderError, match=WEIGHTS):
        load_exported(tmp_path)


def test_a_missing_extra_is_named_before_anything_is_built(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"onnx, onnxscript.*spcnn-lightning\[export\]"):
        export.main("export", ["--config", "no such", "--out", str(tmp_path)], "spcnn")
    with pytest.raises(MissingExtraError, match="safetensors"):
        require_extra("safetensors")


def test_an_experiment_has_weights_and_data_state_of_its_checkpoint(trained):
    config, checkpoint, network = trained
    built = load_experiment(str(config), ["--model.network.backend=torch"], str(checkpoint))
    assert built.checkpoint == checkpoint
    assert built.network.backend == "torch"
    assert built.data.feature_scale.tolist() == SCALE
    for name, tensor in network.state_dict().items():
        assert torch.equal(built.network.state_dict()[name], tensor)
    assert built.config["data"]["init_args"]["box"] == 4


def test_a_checkpoint_that_does_not_fit_is_refused(trained):
    config, checkpoint, _ = trained
    with pytest.raises(CheckpointMismatchError, match=r"\(9, 9, 3\) there and \(9, 9, 5\) here"):
        load_experiment(str(config), ["--model.network.width=5"], str(checkpoint))
