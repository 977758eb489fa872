"""One config and one checkpoint on every engine, through the command line, with a spy in each run.

TorchSparse is the library where it is installed, and its test double elsewhere.
"""

import os
import subprocess
import sys

import pytest
import torch

from spcnn_lightning.testing.conformance import usable_backend

pytestmark = pytest.mark.slow

MARGIN = 1e-4
"""Where the best two scores are closer than this, rounding may decide."""

WATCH = '''
"""A callback that keeps what a run gave, and counts the calls of the engines' arithmetic."""

import importlib
import sys

import torch
from lightning.pytorch import Callback

from spcnn_lightning.adapters import get_backend

VERBS = {
    "spconv.pytorch.ops": ("indice_conv", "indice_conv_backward"),
    "torchsparse.backend": (
        "conv_forward_gather_scatter_cpu",
        "conv_backward_gather_scatter_cpu",
    ),
}


class Watch(Callback):
    def __init__(self, file, engine):
        self.file, self.outputs, self.calls = file, [], {}
        get_backend(engine).availability()  # imports the library
        for module, verbs in VERBS.items():
            for verb in verbs if module in sys.modules else ():
                self.count(sys.modules[module], verb)

    def count(self, module, verb):
        real = getattr(module, verb)

        def spy(*args, **kwargs):
            self.calls[verb] = self.calls.get(verb, 0) + 1
            return real(*args, **kwargs)

        setattr(module, verb, spy)

    def on_test_batch_end(self, trainer, module, outputs, *rest):
        self.outputs.append(outputs)

    def on_train_batch_end(self, trainer, module, outputs, *rest):
        self.outputs.append(outputs["loss"][None])

    def teardown(self, trainer, module, stage):
        torch.save({"outputs": torch.cat(self.outputs), "calls": self.calls}, self.file)
'''
SMALL = (  # quickstart on a field of 24 x 24 sites
    *("--model.network.levels", "3", "--model.network.width", "8", "--data.box", "8"),
    *("--data.augmentation.shift", "1", "--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false"),
)


@pytest.fixture(scope="module")
def spcnn(tmp_path_factory, repository, torchsparse_path):
    """A function that runs a command on an engine; it returns scores or losses, and calls."""
    folder = tmp_path_factory.mktemp("swap")
    (folder / "watch.py").write_text(WATCH, encoding="utf-8")
    folders = [str(repository), torchsparse_path, os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, folders))

    def run(word, engine, *words):
        file = folder / f"{word}-{engine}.pt"
        watch = [
            f"--trainer.callbacks.{key}={value}"
            for key, value in [("file", file), ("engine", engine)]
        ]
        result = subprocess.run(
            [
                *(sys.executable, "-m", "spcnn_lightning", word, "--config", "quickstart", *SMALL),
                *("--model.network.backend", engine, "--trainer.callbacks+=watch.Watch", *watch),
                *words,
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        seen = torch.load(file, weights_only=True)
        return seen["outputs"], seen["calls"], result.stdout + result.stderr

    return run


@pytest.fixture(scope="module", params=["spconv", "torchsparse"])
def engine(request):
    """The name of an engine that can run here; TorchSparse always can, for there is a double."""
    if request.param == "spconv":
        usable_backend("spconv")
    return request.param


@pytest.fixture(scope="module")
def trained(spcnn):
    """Scores of a network that was trained with torch, on the test data, and its file's name."""
    spcnn("fit", "torch", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "2")
    scores, calls, _ = spcnn("test", "torch", "--ckpt_path", "last")
    assert calls == {}
    return scores


@pytest.fixture(scope="module")
def losses(spcnn):
    """Losses of the first ten steps with torch."""
    return spcnn("fit", "torch", "--trainer.max_steps", "10", "--trainer.logger", "false")[0]


def called(calls):
    """Return the numbers of forward and backward calls."""
    forward = sum(count for verb, count in calls.items() if "backward" not in verb)
    return forward, sum(calls.values()) - forward


def test_a_checkpoint_predicts_the_same_on_another_engine(spcnn, trained, engine):
    scores, calls, printed = spcnn("test", engine, "--ckpt_path", "last")
    assert f"backend: {engine}" in printed
    batches, convolutions = 35, 4
    forward, backward = called(calls)
    assert forward >= batches * convolutions  # and once more, to count the work of the layers
    assert backward == 0
    assert scores.shape == trained.shape == (3498, 10)
    best = trained.topk(2).values
    clear = best[:, 0] - best[:, 1] > MARGIN
    assert clear.sum() > 3400
    assert torch.equal(scores.argmax(1)[clear], trained.argmax(1)[clear])
    torch.testing.assert_close(scores, trained, rtol=1e-4, atol=1e-4)
    assert len(set(trained.argmax(1).tolist())) == 10  # it has learnt something


def test_training_takes_the_same_first_steps_on_another_engine(spcnn, losses, engine):
    found, calls, _ = spcnn("fit", engine, "--trainer.max_steps", "10", "--trainer.logger", "false")
    forward, backward = called(calls)
    assert forward >= 40
    assert backward == 40
    assert losses.shape == found.shape == (10,)
    assert (losses - found).abs().max() < 1e-4
    assert losses[-1] < losses[0]
