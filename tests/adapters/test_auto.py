"""What "auto" chooses, what it says, and how several processes agree."""

import logging

import pytest
import torch
from torch import distributed

from spcnn_lightning.adapters import agree_on_backends, auto, check_results, resolve_backend
from spcnn_lightning.adapters.check_results import CheckResult, check_key
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.geometry import ConvGeometry

WINDOW = ConvGeometry((2, 2))


class Engine(TorchBackend):
    """A compiled engine that counts how often it is asked whether its library loads."""

    capabilities = Capabilities(
        devices=frozenset({"cuda"}),
        dtypes={"cuda": frozenset({torch.float32, torch.float16})},
        dimensions=range(1, 4),
    )

    def __init__(self, name, number="2.3.6"):
        self.name, self.number, self.imports = name, number, 0

    def version(self):
        return self.number and f"{self.name}-cu120 {self.number}"

    def availability(self):
        self.imports += 1
        return []


@pytest.fixture
def engines(monkeypatch, tmp_path):
    """Three engines in place of the real ones, and an empty cache."""
    made = {name: Engine(name) for name in ("spconv", "spconv_triton")}
    made |= {"torchsparse": Engine("torchsparse", None), "torch": TorchBackend()}
    monkeypatch.setattr(auto, "get_backend", made.__getitem__)
    monkeypatch.setenv("SPCNN_CACHE_DIR", str(tmp_path))
    for variable in auto.RANK_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(auto, "_said", set())
    auto.forget_choices()
    yield made
    auto.forget_choices()


def request(device="cuda", dtype=torch.float32, window=WINDOW):
    return OpRequest(window, device, dtype)


def record(engine, dtype=torch.float32, passed=True):
    result = CheckResult(passed, "123 checks", "2026-01-01T00:00:00")
    check_results.write_results({check_key(engine, "cuda", dtype): result})
    auto.forget_choices()


@pytest.mark.parametrize("device", ["cpu", "mps", "xpu"])
def test_torch_runs_where_no_engine_is_known_to_be_faster(engines, device):
    assert auto.choose(request(device)).name == "torch"


def test_an_engine_that_was_not_checked_is_neither_chosen_nor_imported(engines, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        choice = auto.choose(request())
        auto.choose.cache_clear()
    assert choice.name == "torch"
    assert engines["spconv"].imports == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "torch for float32 on cuda: spconv has not passed its self-test" in record.message
    assert "`spcnn doctor --check`" in record.message
    assert "torchsparse is not installed" in record.message


def test_the_first_engine_that_passed_and_can_is_chosen(engines, caplog):
    caplog.set_level(logging.INFO)
    record(engines["spconv_triton"])
    assert auto.choose(request()).name == "spconv_triton"
    record(engines["spconv"])
    assert auto.choose(request()).name == "spconv"
    assert auto.choose(request(dtype=torch.float16)).name == "torch"
    assert auto.choose(request(window=ConvGeometry((2,) * 4))).name == "torch"
    assert "spconv-cu120 2.3.6 passed its self-test on this cuda device" in caplog.text
    assert "spconv has 1 to 3 dimensions, not 4" in caplog.text


def test_a_choice_is_said_once_for_all_layers(engines, caplog):
    caplog.set_level(logging.INFO)
    for size in (1, 2, 3):
        auto.choose(request("cpu", window=ConvGeometry((size, size))))
    (record,) = caplog.records
    assert record.message == "backend auto: torch for float32 on cpu: the engine for CPUs"
    assert record.levelno == logging.INFO


def test_other_ranks_say_nothing(engines, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("LOCAL_RANK", "1")
    auto.choose(request("cpu"))
    assert not caplog.records


def test_a_failed_or_outdated_check_does_not_count(engines, monkeypatch):
    record(engines["spconv"], passed=False)
    assert auto.choose(request()).name == "torch"
    record(engines["spconv"])
    engines["spconv"].number = "2.3.8"
    auto.forget_choices()
    assert auto.choose(request()).name == "torch"
    engines["spconv"].number = "2.3.6"
    auto.forget_choices()
    assert auto.choose(request()).name == "spconv"
    monkeypatch.setattr(check_results, "device_name", lambda device: "another GPU")
    auto.forget_choices()
    assert auto.choose(request()).name == "torch"


def test_the_choice_of_auto_is_resolved_to_a_backend(engines):
    assert resolve_backend("auto", request("cpu")).name == "torch"


def test_alone_a_process_agrees_with_itself(engines):
    record(engines["spconv"])
    assert agree_on_backends() == {("spconv", "cuda", "torch.float32")}
    assert auto.choose(request()).name == "spconv"


def group_of(monkeypatch, *others):
    """Let this process be rank 0 of a group in which the others answer what is given."""

    def gather(answers, mine):
        answers[:] = [mine, *others]

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 1 + len(others))
    monkeypatch.setattr(distributed, "all_gather_object", gather)


def test_ranks_use_what_rank_0_has_and_all_can_load(engines, monkeypatch, caplog):
    record(engines["spconv"])
    record(engines["spconv_triton"])
    entry = ("spconv_triton", "cuda", "torch.float32")
    group_of(monkeypatch, {entry: "spconv_triton-cu120 2.3.6"})
    assert agree_on_backends() == {entry}
    assert auto.choose(request()).name == "spconv_triton"
    assert "spconv in torch.float32 passed its self-test on rank 0 but not" in caplog.text


def test_an_engine_in_two_versions_is_not_used(engines, monkeypatch):
    record(engines["spconv"])
    group_of(monkeypatch, {("spconv", "cuda", "torch.float32"): "spconv-cu120 2.3.8"})
    assert agree_on_backends() == frozenset()
    assert auto.choose(request()).name == "torch"


SCRIPT = """
import sys, torch.distributed as d
from spcnn_lightning.adapters import agree_on_backends
store = "file://" + sys.argv[1]
d.init_process_group("gloo", init_method=store, rank=int(sys.argv[2]), world_size=2)
print(sorted(agree_on_backends()))
d.destroy_process_group()
"""


def test_two_processes_agree_for_real(run_python, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        ranks = [
            pool.submit(run_python, "-c", SCRIPT, str(tmp_path / "store"), str(rank))
            for rank in range(2)
        ]
    for rank in ranks:
        assert rank.result().stdout.strip() == "[]", rank.result().stderr
