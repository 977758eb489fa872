"""Backends by name: our own, other distributions', and what an error says."""

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
import torch

from spcnn_lightning.adapters import (
    backend_names,
    get_backend,
    registry,
    resolution,
    resolve_backend,
)
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.bench.contenders import check_names
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Backend, Capabilities, OpRequest
from spcnn_lightning.core.errors import BackendNotFoundError, BackendUnsupportedError, SpcnnError
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.networks import DeepCNet
from spcnn_lightning.nn import InverseConv, SparseConv

REQUEST = OpRequest(ConvGeometry((2, 2)), "cpu", torch.float64)


class OnlyShort(TorchBackend):
    """A backend of another distribution that takes float16 alone."""

    name = "short"
    capabilities = Capabilities(
        devices=frozenset({"cpu"}), dtypes={"cpu": frozenset({torch.float16})}
    )


class NoBackend:
    name = "short"


class Broken:
    def __init__(self):
        raise OSError("libcuda.so.11 is missing")


@pytest.fixture
def register(monkeypatch):
    """A function that registers classes as other distributions would: (name, class, who)."""
    points = []
    module = type(sys)("a_plugin")
    monkeypatch.setitem(sys.modules, "a_plugin", module)
    monkeypatch.setattr(registry, "entry_points", lambda group: points)

    def add(name, kind, distribution="a-plugin"):
        setattr(module, kind.__name__, kind)
        point = EntryPoint(name, f"a_plugin:{kind.__name__}", registry.ENTRY_POINT_GROUP)
        vars(point)["dist"] = SimpleNamespace(name=distribution, version="1.0")
        points.append(point)
        resolution.forget()

    resolution.forget()
    yield add
    resolution.forget()


def test_our_own_backends_are_known_and_made_once():
    assert backend_names()[:4] == ["torch", "spconv", "torchsparse", "spconv_triton"]
    for name in backend_names():
        assert get_backend(name) is get_backend(name)
        assert isinstance(get_backend(name), Backend)
        assert get_backend(name).name == name


def test_no_library_is_imported_before_it_is_used(run_python):
    code = (
        "import sys; from spcnn_lightning.adapters import backend_names, get_backend\n"
        "made = [get_backend(name) for name in backend_names()]\n"
        "print([b.version() for b in made])\n"
        "print({'spconv', 'cumm', 'torchsparse', 'spconv_triton', 'triton'} & set(sys.modules))"
    )
    done = run_python("-c", code)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(BackendNotFoundError, match=r"no backend 'spconf'; known: auto, torch") as e:
        resolve_backend("spconf", REQUEST)
    assert isinstance(e.value, ValueError)
    assert isinstance(e.value, SpcnnError)


ALGORITHMS = {
    "spconv": ["implicit_gemm", "implicit_gemm_split", "native"],
    "spconv_triton": ["implicit_gemm", "implicit_gemm_split", "native"],
    "torchsparse": ["gather_scatter", "implicit_gemm"],
}


@pytest.mark.parametrize("base", ALGORITHMS)
def test_a_name_may_choose_the_algorithm(base):
    default, *others = ALGORITHMS[base]
    assert get_backend(base).algorithm == get_backend(f"{base}:{default}").algorithm == default
    assert get_backend(f"{base}:{default}").name == base  # one engine has one name
    for algorithm in others:
        engine = get_backend(f"{base}:{algorithm}")
        assert (engine.name, engine.algorithm) == (f"{base}:{algorithm}", algorithm)
        assert engine is get_backend(f"{base}:{algorithm}")
    assert not any(":" in name for name in backend_names())


def test_algorithms_share_the_kernel_maps_of_a_set():
    pytest.importorskip("spconv")
    sites = ActiveSet(torch.tensor([[0, 1, 2]], dtype=torch.int32), (5, 5), 1)
    maps = [
        get_backend(name).build_kernel_map(sites, REQUEST.geometry)
        for name in ("spconv", "spconv:native")
    ]
    assert maps[0] is maps[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "spconv:gather",
            "no backend 'spconv:gather': spconv has no algorithm 'gather'; known: implicit_gemm, i"
            "mplicit_gemm_split, native",
        ),
        ("spconv:natif", "did you mean 'native'?"),
        ("spconv:", "has no algorithm ''"),
        ("torch:fast", "torch has no algorithms to choose from; write 'torch'"),
        ("auto:native", "did you mean 'auto'?"),
        ("torch_sparse", "did you mean 'torchsparse'?"),
        ("toaster", "spconv_triton$"),
    ],
)
def test_a_wrong_name_is_noticed_where_the_network_is_made(name, message, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    resolution.forget()
    network = DeepCNet(1, 2, in_channels=1, num_classes=2)
    attempts = [
        lambda: get_backend(name),
        lambda: SparseConv(1, 2, (3, 3), backend=name),
        lambda: InverseConv(1, 2, (3, 3), backend=name),
        lambda: DeepCNet(1, 2, in_channels=1, num_classes=2, backend=name),
        lambda: setattr(network, "backend", name),
        lambda: check_names([name]),
    ]
    # The list of the bench goes on with the dense twins.
    pattern = message.replace("?", r"\?").removesuffix("$")
    for attempt in attempts:
        with pytest.raises(BackendNotFoundError, match=pattern) as error:
            attempt()
        assert ("did you mean" in str(error.value)) == ("did you mean" in message)
    assert network.backend == "auto"
    resolution.forget()


def test_names_are_checked_without_the_libraries(run_python):
    code = (
        "import sys; from spcnn_lightning.nn import SparseConv\n"
        "for name in ('auto', 'torch', 'spconv:native', 'torchsparse:implicit_gemm'):\n"
        "    SparseConv(1, 2, (3, 3), backend=name)\n"
        "print({'spconv', 'cumm', 'torchsparse', 'spconv_triton', 'triton'} & set(sys.modules))"
    )
    done = run_python("-c", code)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


class TwoWays(TorchBackend):
    """A backend of another distribution with algorithms."""

    name = "two"
    algorithms = ("slow", "fast")

    def __init__(self, algorithm="slow"):
        self.name = "two" if algorithm == "slow" else f"two:{algorithm}"


def test_other_distributions_may_have_algorithms(register):
    register("two", TwoWays)
    register("short", OnlyShort)
    assert [get_backend(name).name for name in ("two", "two:slow", "two:fast")] == [
        "two",
        "two",
        "two:fast",
    ]
    with pytest.raises(BackendNotFoundError, match="no algorithm 'quick'; known: slow, fast"):
        get_backend("two:quick")
    with pytest.raises(BackendNotFoundError, match="short has no algorithms to choose from"):
        get_backend("short:fast")


def test_other_distributions_add_backends(register):
    register("short", OnlyShort)
    assert backend_names()[-1] == "short"
    assert type(get_backend("short")) is OnlyShort
    half = OpRequest(REQUEST.geometry, "cpu", torch.float16)
    assert resolve_backend("short", half) is get_backend("short")


@pytest.mark.parametrize("name", ["spconv", "auto"])
def test_a_name_of_ours_cannot_be_taken(register, name):
    register(name, OnlyShort, "thief")
    with pytest.warns(UserWarning, match=rf"thief 1.0 registers a backend '{name}', a name that b"):
        assert "short" not in backend_names()
    assert type(get_backend("spconv")).__name__ == "SpconvBackend"


def test_one_name_of_two_distributions_names_both(register):
    register("short", OnlyShort, "one")
    register("short", OnlyShort, "two")
    with pytest.raises(BackendNotFoundError, match=r"by one 1.0 and by two 1.0: uninstall all but"):
        get_backend("short")


def test_a_plugin_that_cannot_be_loaded_is_named(register):
    register("short", Broken)
    with pytest.raises(BackendUnsupportedError, match="a-plugin 1.0") as error:
        get_backend("short")
    assert "OSError: libcuda.so.11 is missing" in str(error.value)


def test_a_plugin_that_is_no_backend_is_named(register):
    register("short", NoBackend)
    with pytest.raises(BackendUnsupportedError, match="NoBackend of a-plugin 1.0 gives"):
        get_backend("short")


@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "as an object"])
def test_a_backend_that_cannot_says_what_was_asked_why_and_what_can(register, by_name):
    register("short", OnlyShort)
    with pytest.raises(BackendUnsupportedError) as error:
        resolve_backend("short" if by_name else OnlyShort(), REQUEST)
    lines = str(error.value).splitlines()
    assert lines[0] == "backend 'short' cannot run this convolution"
    assert lines[1].startswith("  asked for: dilating convolution, kernel_size (2, 2)")
    assert lines[2] == "  short: takes float16 on cpu, not float64"
    assert lines[3].startswith("  backend='torch' can: it runs every floating dtype")


def test_what_no_backend_can_do_is_said():
    request = OpRequest(ConvGeometry((1,) * 9), "cpu", torch.float64)
    with pytest.raises(BackendUnsupportedError, match=r"has 1 to 8 dimensions, not 9\n  no other"):
        resolve_backend("auto", request)


def test_an_answer_is_forgotten_with_its_backend(register):
    register("short", OnlyShort)
    half = OpRequest(REQUEST.geometry, "cpu", torch.float16)
    first = resolve_backend("short", half)
    assert resolve_backend("short", half) is first
    resolution.forget()
    assert resolve_backend("short", half) is not first


def test_the_answer_for_a_name_is_kept(register):
    class Counts(OnlyShort):
        asked = 0

        def unsupported_reasons(self, request):
            Counts.asked += 1
            return []

    register("short", Counts)
    for geometry in (ConvGeometry((3, 3)), ConvGeometry((3, 3))):
        resolve_backend("short", OpRequest(geometry, "cpu", torch.float64))
    assert Counts.asked == 1


def test_a_checkpoint_does_not_need_the_engine_that_trained_it(monkeypatch, tmp_path):
    trained = DeepCNet(1, 2, in_channels=1, num_classes=2, backend="torchsparse")
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    monkeypatch.delitem(registry.BUILT_IN, "torchsparse")
    resolution.forget()
    loaded = DeepCNet(1, 2, in_channels=1, num_classes=2)
    loaded.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert not any("backend" in name for name in trained.state_dict())
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, trained.state_dict()[name])
    resolution.forget()
