"""spcnn bench: it measures what it says, of the engine that it names."""

import importlib
import json
import math
import re
import sys

import pytest
import torch

from spcnn_lightning import compiled
from spcnn_lightning.adapters import get_backend
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.bench import contenders, machine, memory
from spcnn_lightning.bench.clock import KernelMapClock
from spcnn_lightning.bench.contender import Setting
from spcnn_lightning.bench.contenders import make_contender
from spcnn_lightning.bench.facts import train_macs
from spcnn_lightning.bench.fields import FIELDS, make_field
from spcnn_lightning.bench.measure import Options, run_bench
from spcnn_lightning.bench.passes import run_layers
from spcnn_lightning.bench.report import as_markdown, as_text
from spcnn_lightning.bench.results import Spread
from spcnn_lightning.bench.values import one_sample, with_fresh_sites
from spcnn_lightning.bench.workload import WorkloadError, named_workload
from spcnn_lightning.commands import bench
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.errors import BackendNotFoundError, MissingExtraError
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map

CPU = Setting(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def workload():
    """Three convolutions on three samples."""
    return named_workload("DeepCNet(2, 4)", batch_size=3, in_channels=2, num_classes=5, dropout=0.5)


@pytest.fixture
def engines(monkeypatch):
    """Return a dictionary whose backends are known to the bench by their keys."""
    added = {}
    known, check = contenders.get_backend, contenders.check_name
    monkeypatch.setattr(contenders, "backend_names", lambda: ["torch", *added])
    monkeypatch.setattr(
        contenders, "get_backend", lambda name: added[name] if name in added else known(name)
    )
    monkeypatch.setattr(contenders, "check_name", lambda name, also: check(name, (*also, *added)))
    return added


def options(*backends, **others):
    given = {"repeats": 2, "memory": False} | others
    return Options(list(backends), **given)


class Inexact(TorchBackend):
    name = "inexact"

    def convolve(self, *args, **kwargs):
        return 1.01 * super().convolve(*args, **kwargs)


class Failing(TorchBackend):
    name = "failing"

    def convolve(self, *args, **kwargs):
        raise RuntimeError("no memory for this\nand a long story")


@pytest.mark.parametrize("size", ["0", "-3", "x"])
def test_a_batch_needs_a_sample(size, capsys):
    with pytest.raises(SystemExit):
        bench.main("bench", ["--network", "DeepCNet(2, 4)", f"--batch-size={size}"], "spcnn")
    assert f"'{size}' is not a whole number of at least 1" in capsys.readouterr().err


def test_a_bench_counts_calls_work_and_errors(workload):
    report = run_bench(workload, options("torch", "dense"))
    ours, dense = report.contenders
    # Three convolutions, a cold and two warm repetitions, each whole and layer by layer.
    # Those that gather windows take the ground state along.
    assert set(ours.calls) == {"build_kernel_map", "convolve", "convolve_with_ground"}
    assert ours.calls["build_kernel_map"] == 3 * 3 * 2
    assert ours.calls["convolve"] + ours.calls["convolve_with_ground"] == 3 * 3 * 2
    assert dense.calls == {}
    for contender in (ours, dense):
        assert contender.reasons == ()
        assert 0 < contender.error < 1e-5
        assert contender.time.step.count == 2
        assert contender.cold.step > 0
    assert ours.ratio_of_medians == 1
    assert 0 < ours.gradient_error < 1e-5
    assert dense.gradient_error is None
    assert 0 < ours.time.kernel_maps.median < ours.time.step.upper


def test_layers_are_those_of_the_network(workload):
    report = run_bench(workload, options("torch", "dense", repeats=1))
    names = [name for name, _ in workload.network.named_children() if name != "layers"]
    layers = [f"layers.{n}" for n in range(len(workload.network.layers))]
    assert [layer.name for layer in report.layers] == [*layers, *names]
    first = report.layers[0]
    rulebook = kernel_map(workload.batch.active_set, workload.network.layers[0].geometry)
    assert first.sites == rulebook.num_outputs
    assert first.volume == 3 * 10 * 10
    assert first.dense_macs == 9 * 2 * 4 * first.volume
    assert first.macs == (rulebook.num_pairs + 1) * 2 * 4
    ours, dense = report.contenders
    for facts, mine, other in zip(report.layers, ours.layers, dense.layers, strict=True):
        assert mine.name == facts.name
        assert mine.error < 1e-5
        # A plain dense network has no dropout.
        assert (other.time is None) == facts.kind.startswith("FeatureDropout")
    with_maps = [row.name for row in ours.layers if row.time.kernel_maps.median > 0]
    windows = [layer.name for layer in report.layers if "x" in layer.kind.partition(" ")[2]]
    assert with_maps == windows


@pytest.mark.parametrize("layer", ["SparseConv(2, 3, (3, 3))", "SubmanifoldConv(2, 3, (3, 3))"])
def test_the_gradients_of_a_field_are_those_of_the_dense_field(layer):
    load = named_workload(layer, field="random", batch_size=2, field_width=9, num_sites=20)
    (ours,) = run_bench(load, options("torch", repeats=1)).contenders
    assert 0 < ours.error < 1e-5
    assert 0 < ours.gradient_error < 1e-5


def test_an_inexact_engine_shows(workload, engines):
    engines["inexact"] = Inexact()
    report = run_bench(workload, options("torch", "inexact", repeats=1))
    assert report.contenders[0].error < 1e-5
    assert 1e-3 < report.contenders[1].error < 0.1
    assert 1e-3 < report.contenders[1].gradient_error
    assert report.contenders[1].layers[0].error == pytest.approx(0.01, rel=0.2)


def test_nan_gradients_are_the_worst_error(workload, engines):
    class Half(TorchBackend):
        """A gradient that left the range of its numbers."""

        name = "half"

        def convolve(self, features, weight, kernel_map, transposed=False):
            weight.register_hook(lambda gradient: gradient * torch.nan)
            return super().convolve(features, weight, kernel_map, transposed)

    engines["half"] = Half()
    (found,) = run_bench(workload, options("half", repeats=1)).contenders
    assert math.isnan(found.gradient_error)


def test_an_engine_that_fails_is_listed_with_the_reason(workload, engines):
    engines["failing"] = Failing()
    report = run_bench(workload, options("failing", "torch", repeats=1))
    failing, ours = report.contenders
    assert failing.reasons == ("failed while running: RuntimeError: no memory for this",)
    assert failing.time is None
    # The others go on, and are measured against the first that ran.
    assert ours.ratio_of_medians == 1
    assert "failing did not run: failed while running" in as_text(report)


def test_an_engine_that_was_not_called_is_refused(workload, monkeypatch):
    monkeypatch.setattr(contenders, "_put_spies", lambda name, network, setting: [])
    (ours,) = run_bench(workload, options("torch", repeats=1, check_samples=0)).contenders
    assert "without one call" in ours.reasons[0]


def test_each_repetition_builds_its_kernel_maps_anew(workload, engines):
    seen = []

    class Watching(TorchBackend):
        name = "watching"

        def build_kernel_map(self, active_set, geometry):
            seen.append((active_set, not active_set._kernel_maps))
            return super().build_kernel_map(active_set, geometry)

    engines["watching"] = Watching()
    run_bench(workload, options("watching", repeats=2, check_samples=0))
    inputs = [entry for entry in seen if entry[0].spatial_shape == (12, 12)]
    assert len({id(sites) for sites, _ in inputs}) == 3 * 2
    assert all(was_fresh for _, was_fresh in inputs)


def test_auto_names_the_engine_that_it_chose(workload):
    (auto,) = run_bench(workload, options("auto", repeats=1, check_samples=0)).contenders
    assert auto.engine == f"torch {torch.__version__}"
    assert auto.calls["convolve"] > 0


def test_spconv_is_really_called(workload, monkeypatch):
    if reasons := get_backend("spconv").availability():
        pytest.skip(f"spconv: {'; '.join(reasons)}")
    ops = importlib.import_module("spconv.pytorch.ops")
    calls = []
    for verb in ("indice_conv", "indice_conv_backward", "get_indice_pairs"):
        original = getattr(ops, verb)

        def spy(*args, _verb=verb, _original=original, **kwargs):
            calls.append(_verb)
            return _original(*args, **kwargs)

        monkeypatch.setattr(ops, verb, spy)
    run_bench(workload, options("torch", repeats=1, check_samples=0))
    assert calls == []
    (found,) = run_bench(workload, options("spconv", repeats=1)).contenders
    assert "spconv" in found.engine
    assert found.error < 1e-5
    assert calls.count("get_indice_pairs") > 0
    # The CPU builds compute wrongly; there the adapter takes only their kernel maps, and says so.
    in_torch = get_backend("spconv").computes_in_torch("cpu")
    assert ("computed with in torch" in found.engine) == in_torch
    assert (calls.count("indice_conv") > 0) == (calls.count("indice_conv_backward") > 0)
    assert (calls.count("indice_conv") > 0) != in_torch


def test_inference_runs_forward_alone(workload):
    report = run_bench(workload, options("torch", "dense", training=False, repeats=1))
    for contender in report.contenders:
        assert contender.time.backward.median < contender.time.forward.median
        assert all(row.time.backward.median == 0 for row in contender.layers if row.time)
    assert train_macs(report.layers) > 2 * sum(layer.macs for layer in report.layers)


def test_a_submanifold_layer_has_a_dense_twin_with_a_mask():
    single = named_workload(
        "SubmanifoldConv(3, 4, (3, 3, 3))", field="random", field_width=6, num_sites=40,
        batch_size=2,
    )  # fmt: skip
    report = run_bench(single, options("torch", "dense", "dense_channels_last", repeats=1))
    assert [c.reasons for c in report.contenders] == [(), (), ()]
    assert all(c.error < 1e-5 for c in report.contenders)
    assert report.layers[0].sites == 40


def test_what_torch_has_no_dense_form_of_is_said():
    single = named_workload("SparseConv(1, 2, (2, 2, 2, 2))", field_width=4, batch_size=1)
    report = run_bench(single, options("torch", "dense", "dense_channels_last", repeats=1))
    ours, dense, channels_last = report.contenders
    assert "no fast dense reference in 4 dimensions" in ours.error_note
    assert "no dense convolution in 4 dimensions" in dense.reasons[0]
    assert channels_last.reasons == dense.reasons


def test_bfloat16_and_autocast_are_measured(workload):
    low = run_bench(workload, options("torch", dtype=torch.bfloat16, repeats=1)).contenders[0]
    cast = run_bench(workload, options("torch", autocast=torch.bfloat16, repeats=1)).contenders[0]
    assert 1e-4 < low.error < 0.1
    assert 1e-4 < cast.error < 0.1


def test_memory_is_that_of_the_step_in_its_own_process():
    ballast = bytearray(300 * 2**20)
    ballast[::4096] = b"x" * len(ballast[::4096])  # a child must not inherit this peak
    single = named_workload(
        "SparseConv(1, 64, (2, 2))", field="full", field_width=129, batch_size=2
    )
    found = memory.peak_memory("torch", single, CPU)
    rows = 2 * 128 * 128 * 64 * 4
    assert len(ballast) > rows
    assert rows <= found.step < 16 * rows
    if sys.platform == "linux":
        assert found.process < 2**30
        assert rows <= found.layers[0] < 16 * rows


def test_memory_that_cannot_be_measured_is_a_note(workload, monkeypatch):
    monkeypatch.setattr(memory, "__name__", "spcnn_lightning.no_such_module")
    report = run_bench(workload, options("torch", repeats=1, memory=True, check_samples=0))
    assert report.contenders[0].memory is None
    assert "no_such_module" in report.contenders[0].memory_note
    assert "no_such_module" in as_text(report)


def test_the_clock_counts_maps_and_their_late_views_once(monkeypatch):
    monkeypatch.setattr(compiled, "WORTH_COMPILING", 10**18)  # those have no late views
    sites = with_fresh_sites(make_field("strokes", (24, 24), 2, 1)).active_set
    original = ActiveSet.kernel_map
    with KernelMapClock(CPU.device) as clock:
        rulebook = kernel_map(sites, ConvGeometry((3, 3)))
        built = clock.elapsed
        assert built > 0
        assert rulebook.out_to_in is not None
        viewed = clock.elapsed
        assert viewed > built
        assert kernel_map(sites, ConvGeometry((3, 3))).windows is rulebook.windows
        assert clock.elapsed == viewed
    assert ActiveSet.kernel_map is original
    fresh = kernel_map(
        with_fresh_sites(make_field("full", (4, 4), 1, 1)).active_set, ConvGeometry((2, 2))
    )
    assert len(fresh.out_to_in) == 9
    assert clock.elapsed == viewed


def test_all_layers_but_the_first_compute_an_input_gradient(workload, engines):
    asked = []

    class Watching(TorchBackend):
        name = "watching"

        def convolve(self, features, *args, **kwargs):
            asked.append(features.requires_grad)
            return super().convolve(features, *args, **kwargs)

    engines["watching"] = Watching()
    contender = make_contender("watching", workload.network, workload.batch, CPU)
    assert run_layers(contender)["layers.0"].backward > 0
    assert asked == [False, True, True]
    # Gradients of single layers are thrown away.
    assert all(p.grad is None for p in contender.network.parameters())


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_are_reproducible_and_fill_their_box(kind):
    first = make_field(kind, (12, 9), 2, 3, box=5, seed=1)
    again = make_field(kind, (12, 9), 2, 3, box=5, seed=1)
    assert torch.equal(first.coords, again.coords)
    assert torch.equal(first.features, again.features)
    sites = first.active_set.sites_per_sample()
    if kind == "full":
        assert sites.tolist() == [108, 108]
    elif kind == "random":
        assert sites.sum() == 21
    else:
        low, high = first.coords[:, 1:].amin(0), first.coords[:, 1:].amax(0)
        assert (low >= torch.tensor([3, 2])).all()
        assert (high < torch.tensor([8, 7])).all()
    if kind == "square":
        assert sites.tolist() == [25, 25]
    assert one_sample(first, 1).num_sites == sites[1]


def test_fields_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected one of strokes, circle"):
        make_field("spiral", (8, 8), 1, 1)
    with pytest.raises(ValueError, match="box is 9, expected 1 to 8"):
        make_field("circle", (8, 8), 1, 1, box=9)
    with pytest.raises(ValueError, match="num_sites is 65, expected 0 to 64"):
        make_field("random", (8, 8), 1, 1, num_sites=65)
    assert make_field("random", (8, 8), 1, 1, num_sites=40).num_sites == 40


def test_workloads_by_name():
    curves = named_workload("DeepCNet(1, 2)", dimensions=3, in_channels=1, batch_size=1)
    assert curves.batch.spatial_shape == (6, 6, 6)
    assert named_workload("4C3-MP2-8C2-output", num_classes=7).network.num_classes == 7
    assert named_workload("DeepCNiN(levels=1, width=2)").title.startswith("DeepCNiN")
    with pytest.raises(WorkloadError, match="known are DeepCNet"):
        named_workload("VGG(16)")
    with pytest.raises(WorkloadError, match="with plain numbers"):
        named_workload("DeepCNet(5, open('x'))")
    with pytest.raises(WorkloadError, match="cannot be built"):
        named_workload("DeepCNet(5, 100, field=3)")


def test_spread_has_median_and_quartiles():
    assert Spread.of([5.0]) == Spread(5, 5, 5, 1)
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3, 2, 4, 5)


def _numbers(row):
    return re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", row)


def test_markdown_and_json_hold_what_the_terminal_shows(workload, monkeypatch):
    monkeypatch.setattr(machine, "GEMM_SHAPE", (64, 32, 32))
    report = run_bench(workload, options("torch", "dense", repeats=1, gemm=True), "spcnn bench x")
    markdown, plain = as_markdown(report), json.loads(json.dumps(report.as_dict()))
    assert "    spcnn bench x" in markdown
    assert plain["format"] == "spcnn-bench 1"
    assert plain["machine"]["threads"] == torch.get_num_threads()
    for contender in plain["contenders"]:
        row = next(x for x in markdown.splitlines() if x.startswith(f"| {contender['name']} |"))
        milliseconds = contender["time"]["step"]["median"] * 1e3
        # Three digits are shown.
        assert any(float(x) == pytest.approx(milliseconds, rel=6e-3) for x in _numbers(row))
    assert "best matrix product " in markdown


def test_a_wrong_name_or_device_is_refused_at_once(workload):
    with pytest.raises(BackendNotFoundError, match="'spconf'; known: auto, dense, .*torch, spconv"):
        run_bench(workload, options("torch", "spconf"))
    with pytest.raises(WorkloadError, match="device 'nowhere' cannot be used"):
        run_bench(workload, options("torch", device="nowhere"))
    with pytest.raises(WorkloadError, match="repeats is 0"):
        run_bench(workload, options("torch", repeats=0))


SMALL = ["--batch-size", "2", "--repeats", "1", "--no-memory", "--check-samples", "1", "--quiet"]


def test_the_command_compares_a_named_network(tmp_path, capsys):
    arguments = ["--network", "DeepCNet(1, 2)", "--backends", "torch,dense", *SMALL]
    files = [tmp_path / name for name in ("b.json", "b.md", "b.png")]
    outputs = ["--json", str(files[0]), "--markdown", str(files[1]), "--plot", str(files[2])]
    if importlib.util.find_spec("matplotlib") is None:
        outputs, files = outputs[:4], files[:2]
    assert bench.main("bench", [*arguments, *outputs], "spcnn") == 0
    shown = capsys.readouterr().out
    assert "torch was called: build_kernel_map" in shown
    assert "layers on dense" in shown
    assert json.loads(files[0].read_text())["command"].startswith("spcnn bench --network")
    assert all(file.stat().st_size > 100 for file in files)


def test_a_named_backend_that_cannot_run_is_listed_and_fails_the_command(
    capsys, engines, monkeypatch
):
    engines["failing"] = Failing()
    arguments = ["--network", "DeepCNet(1, 2)", "--no-layers", *SMALL]
    assert bench.main("bench", [*arguments, "--backends", "torch,failing"], "spcnn") == 1
    assert "failing did not run: failed while running" in capsys.readouterr().out
    # One that nobody asked for by name is listed, too, and harmless.
    monkeypatch.setattr(contenders, "contender_names", lambda: ["torch", "failing"])
    assert bench.main("bench", arguments, "spcnn") == 0
    assert "failing did not run" in capsys.readouterr().out


def test_the_command_takes_real_batches_of_a_config(capsys):
    network = ["--model.network.levels", "4", "--model.network.width", "2", "--data.box", "16"]
    arguments = ["--config", "quickstart", *network, "--json", "-", *SMALL]
    # A seed of its own would reach the tests behind this one.
    with torch.random.fork_rng():
        status = bench.main("bench", [*arguments, "--backends", "torch"], "spcnn")
    assert status == 0
    report = json.loads(capsys.readouterr().out)
    assert report["workload"]["spatial_shape"] == [48, 48]
    assert report["workload"]["batch_size"] == 2
    assert report["workload"]["in_channels"] == 9
    assert report["contenders"][0]["error"] < 1e-5


def test_options_of_a_config_need_one(capsys):
    with pytest.raises(SystemExit):
        bench.main("bench", ["--network", "DeepCNet(1, 2)", "--data.box", "3"], "spcnn")
    assert "options of a config need --config" in capsys.readouterr().err


def test_a_plot_that_cannot_be_drawn_is_refused_before_measuring(monkeypatch, tmp_path):
    arguments = ["--network", "DeepCNet(1, 2)", "--plot"]
    with pytest.raises(WorkloadError, match="name it .png"):
        bench.main("bench", [*arguments, str(tmp_path / "b.doc")], "spcnn")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"spcnn-lightning\[viz\]"):
        bench.main("bench", [*arguments, str(tmp_path / "b.png")], "spcnn")
