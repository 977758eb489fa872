"""Contenders by name: every backend, "auto", the dense twins, spconv's layers, onnxruntime."""

from __future__ import annotations

import copy

from torch import nn

from spcnn_lightning.adapters import backend_names, check_name, get_backend, resolve_backend
from spcnn_lightning.bench.contender import (
    BackendSpy,
    Contender,
    Setting,
    UnavailableError,
    stages_of,
)
from spcnn_lightning.bench.dense_contender import DENSE_NAMES, make_dense_contender
from spcnn_lightning.bench.onnx_contender import ONNX_NAME, make_onnx_contender
from spcnn_lightning.bench.spconv_contender import SPCONV_NAME, make_spconv_contender
from spcnn_lightning.bench.values import with_fresh_sites
from spcnn_lightning.core.backend import Backend, OpRequest
from spcnn_lightning.core.errors import SpcnnError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import InverseConv, SparseConv


def contender_names() -> list[str]:
    """Return all names that `make_contender` knows, dense and other libraries last."""
    return [*backend_names(), *DENSE_NAMES, SPCONV_NAME, ONNX_NAME]


def check_names(names: list[str]) -> None:
    """Raise BackendNotFoundError for a name that nothing goes by."""
    for name in names:
        check_name(name, ("auto", *DENSE_NAMES, SPCONV_NAME, ONNX_NAME))


def make_contender(
    name: str, network: nn.Module, batch: SparseBatch, setting: Setting
) -> Contender:
    """Return a copy of ``network`` that runs on the engine ``name``.

    Raises:
        UnavailableError: If the engine cannot run the network in this setting.
        BackendNotFoundError: If there is no engine of that name.
    """
    check_names([name])
    if name in DENSE_NAMES:
        return make_dense_contender(name, network, batch, setting)
    if name == SPCONV_NAME:
        return make_spconv_contender(network, batch, setting)
    if name == ONNX_NAME:
        return make_onnx_contender(network, batch, setting)
    own = copy.deepcopy(network).to(setting.device, setting.dtype).train(setting.training)
    spies = _put_spies(name, own, setting)
    ready = batch.to(setting.device, setting.dtype)
    engines = {spy.backend.name: describe(spy.backend, setting.device.type) for spy in spies}
    return Contender(
        name,
        ", ".join(engines.values()),
        own,
        stages_of(own),
        own,
        lambda: with_fresh_sites(ready),
        setting,
        spies,
    )


def describe(backend: Backend, device: str) -> str:
    """Return the distribution and version of a backend's library, or its name."""
    # A backend written before the protocol had a version is a backend, too.
    version = getattr(backend, "version", lambda: None)()
    in_torch = getattr(backend, "computes_in_torch", lambda device: False)(device)
    return (version or backend.name) + (
        " (pairs alone, computed with in torch)" if in_torch else ""
    )


def _put_spies(name: str, network: nn.Module, setting: Setting) -> list[BackendSpy]:
    """Give every convolution its backend, watched; refuse before anything runs."""
    dtype = setting.autocast or setting.dtype
    spies: dict[str, BackendSpy] = {}
    reasons: list[str] = []
    for layer in network.modules():
        if not isinstance(layer, SparseConv):
            continue
        transposed = isinstance(layer, InverseConv)
        request = OpRequest(layer.geometry, setting.device.type, dtype, transposed)
        try:
            backend = resolve_backend("auto", request) if name == "auto" else get_backend(name)
            reasons += backend.unsupported_reasons(request)
        except (SpcnnError, ImportError, OSError) as error:
            raise UnavailableError(name, [str(error)]) from error
        spy = spies.setdefault(backend.name, BackendSpy(backend))
        layer.backend = spy  # type: ignore[assignment]  # functional takes backends and names
    if reasons:
        raise UnavailableError(name, list(dict.fromkeys(reasons)))
    return list(spies.values())
