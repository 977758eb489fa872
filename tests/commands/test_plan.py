"""``spcnn plan``: the counts are those of the data, and the arithmetic is what it says."""

import re

import pytest
import torch

from spcnn_lightning.commands.main import main
from spcnn_lightning.commands.plan_figures import Cost, Speed, costs_of, plan_rows, sparse_batches
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.networks import DeepCNet


def test_counts_are_means_over_the_samples():
    """One site alone in 6 x 6: 9 sites after 3 x 3, 4 after pooling, 1 x 1 at the end."""
    field = torch.zeros(2, 1, 6, 6)
    field[0, 0, 2, 2] = 1.0  # the second sample stays empty
    network = DeepCNet(1, 5, 1, 3)
    sparse, dense = costs_of(network, [SparseBatch.from_dense(field)])
    assert sparse.input_sites == 0.5
    assert dense.input_sites == 36
    first, last = 9 * 1 * 5, 4 * 5 * 10  # pairs x channels of the two convolutions
    ground = 1 * 5 + 5 * 10  # the ground state, once for the batch
    classifier = 10 * 3
    assert sparse.forward == (first + last + ground) / 2 + classifier
    assert dense.forward == 16 * 9 * 5 + 4 * 5 * 10 + classifier
    # Backward has two products for each of forward, but none for the input of the first layer.
    assert dense.training == 3 * dense.forward - 16 * 9 * 5
    kept = 16 * 5 + 4 * 5 + 10 + 10 + 3  # convolution, pooling, convolution, readout, classifier
    assert dense.features == 4 * kept


def test_two_equal_batches_cost_on_the_mean_what_one_does():
    torch.manual_seed(0)
    batch = SparseBatch.from_dense(torch.rand(3, 1, 6, 6) * (torch.rand(3, 1, 6, 6) < 0.2))
    network = DeepCNet(1, 5, 1, 3)
    one, two = costs_of(network, [batch]), costs_of(network, [batch, batch])
    assert one == two


@pytest.mark.parametrize(("samples", "batches"), [(1, 1), (4, 2), (5, 3), (99, 3)])
def test_as_many_batches_are_read_as_are_needed(samples, batches):
    batch = SparseBatch.from_dense(torch.ones(2, 1, 3, 3))
    empty = SparseBatch.from_dense(torch.ones(0, 1, 3, 3))
    loader = [(batch, None), (empty, None), (batch, None), (batch, None)]
    assert len(sparse_batches(loader, samples)) == batches


def test_times_follow_from_the_speed():
    costs = Cost(1, 1, 1, 1e9, 1), Cost(1, 1, 1, 5e9, 1)
    speeds = Speed(1e12, 0.1), Speed(2e12)
    one, four = plan_rows(costs, 1001, 10, 100, 0.1, [1, 4], speeds, 0.5)
    assert one.hours == pytest.approx(11 * 10 * (0.1 + 100 * 1e9 / 1e12) / 3600)
    assert one.dense_hours == pytest.approx(11 * 10 * 100 * 5e9 / 2e12 / 3600)
    assert four.hours == pytest.approx(3 * 10 * 0.2 / 0.5 / 3600)
    assert one.rate == pytest.approx(1001 / 11 / 0.2)
    assert four.rate == pytest.approx(1001 / 3 / 0.4)
    assert (one.steps, four.steps) == (11, 3)
    assert (four.batch, four.learning_rate) == (400, 0.4)
    assert plan_rows(costs, 1001, 10, 100, None, [1], speeds, 0.5)[0].learning_rate is None


def test_a_config_is_planned(capsys):
    words = ["--samples", "100", "--gpus", "1,2", "--tflops", "0.001", "--price", "2"]
    options = ["--epochs", "3", "--data.batch_size", "50", "--model.network.width", "4"]
    assert main(["plan", "--config", "quickstart", *words, *options]) == 0
    out = capsys.readouterr().out
    assert "quickstart: 6,744 training samples, batch 50, 3 epochs" in out
    assert "per sample, mean of 100 " in out
    assert "measured here" in out
    ratio = float(re.search(r"million multiply-adds, training step .* ([\d.]+)\n", out)[1])
    assert ratio > 5
    assert f"{ratio:.1f} times fewer than the dense twin" in out
    row = re.search(r"^2 +100 +0.004 +68 .*$", out, re.MULTILINE)[0]
    assert len(row.split("  ")) > 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpus", "0"], "'0': give a whole number of at least 1"),
        (["--tflops", "x"], "'x': give a number above 0"),
        (["--efficiency", "1.5"], "give a share of at most 1"),
    ],
)
def test_bad_numbers_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--config", "quickstart", *words])
    assert message in capsys.readouterr().err


def test_a_config_without_epochs_is_told_what_to_give(capsys):
    words = ["--trainer.max_epochs", "-1", "--trainer.max_steps", "9", "--samples", "1"]
    assert main(["plan", "--config", "quickstart", "--no-measure", *words]) == 2
    assert "states no max_epochs: give --epochs" in capsys.readouterr().err


def test_several_configs_as_for_fit(tmp_path, capsys):
    (tmp_path / "more.yaml").write_text("model:\n  warmup_steps: 150\ndata:\n  batch_size: 25\n")
    words = ["--config", "quickstart", "--config", str(tmp_path / "more.yaml"), "--no-measure"]
    assert main(["plan", *words, "--samples", "9", "--epochs", "1", "--gpus", "1,4"]) == 0
    out = capsys.readouterr().out
    assert "batch 25, 1 epochs" in out
    assert "Most of a sparse step is spent launching it" in out
    assert "That is little or nothing gained" in out
    assert "On 1 GPUs the run has 270 steps, not many more than the 150 of warmup_steps" in out
    words += ["--step-ms", "0.001", "--dense-tflops", "1"]
    assert main(["plan", *words, "--samples", "9", "--epochs", "30", "--gpus", "1"]) == 0
    out = capsys.readouterr().out
    assert "launching" not in out
    assert "nothing gained" not in out
    assert "warmup_steps" not in out
