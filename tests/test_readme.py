"""The program of the README that a user with a Lightning project of their own starts from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from spcnn_lightning.commands.main import main

README = Path(__file__).parent.parent / "README.md"


def program(mark: str = "own project") -> str:
    blocks = re.findall(rf"<!-- {mark} -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def test_the_program_is_short_enough_to_read():
    lines = [line for line in program().splitlines() if line.strip()]
    assert len(lines) <= 35


# Lightning's own warnings about a small run, and its use of a torch function that is going away.
@pytest.mark.filterwarnings("ignore:.*(many workers|LeafSpec|num_workers|logging interval)")
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_the_program_trains_under_either_name_of_lightning(package, monkeypatch):
    trainers = pytest.importorskip(package)
    seen: list[int] = []
    results = __import__(
        f"{package}.trainer.connectors.logger_connector.result", fromlist=["_ResultCollection"]
    )
    log = results._ResultCollection.log

    def spy(self, *args, **kwargs):
        log(self, *args, **kwargs)
        seen.append(self.batch_size or results.extract_batch_size(self.batch))

    monkeypatch.setattr(results._ResultCollection, "log", spy)
    torch.manual_seed(0)
    trainers.seed_everything(0)
    names: dict[str, object] = {}
    exec(program().replace("lightning.pytorch", package), names)

    assert set(seen) == {8}, "self.log must count samples, not sites"
    lines, labels = next(iter(names["loader"]))
    assert lines.batch_size == len(labels) == 8


def test_the_example_of_exactness_is_exact():
    names: dict[str, object] = {}
    exec(program("exactness"), names)
    scores, field = names["scores"], names["field"]
    for dense in (names["twin"], names["plain"]):
        limit = 1e-10 * float(scores.detach().abs().max())
        torch.testing.assert_close(dense(field), scores, rtol=0, atol=limit)
    assert not torch.equal(scores[0], scores[1])


@pytest.mark.filterwarnings("ignore:.*(many workers|num_workers|logging interval)")
def test_the_program_that_opens_a_checkpoint_reads_its_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--model.network.width=2", "--data.num_workers=0"]
    training = [*options, "--trainer.max_steps=2", "--trainer.enable_progress_bar=false"]
    assert main(["fit", "--config", "quickstart", "--trainer.accelerator=cpu", *training]) == 0
    names: dict[str, object] = {}
    exec(program("trained").replace("options = []", f"options = {options}"), names)
    trained = names["trained"]
    weights = torch.load(trained.checkpoint, weights_only=True)["state_dict"]
    assert trained.checkpoint.name == "last.ckpt"
    assert not trained.module.training
    for name, value in trained.module.state_dict().items():
        assert torch.equal(value, weights[name])
