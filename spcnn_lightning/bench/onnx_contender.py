"""onnxruntime on the dense twin, as a contender: what a user would deploy otherwise."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from spcnn_lightning.bench.contender import Contender, Setting, UnavailableError, stages_of
from spcnn_lightning.core.errors import MissingExtraError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.export import ONNX, open_session, run_session, write_onnx
from spcnn_lightning.networks import SparseNetwork
from spcnn_lightning.reference.export import ExportError

ONNX_NAME = "onnxruntime"
"""The dense twin in onnxruntime: inference on a CPU, in float32."""


def make_onnx_contender(network: nn.Module, batch: SparseBatch, setting: Setting) -> Contender:
    """Return the dense twin of ``network`` in onnxruntime, with as many threads as torch uses.

    Raises:
        UnavailableError: In training, on a GPU, in another dtype than float32, without the extra
            ``export``, or if the network has no plain dense form.
    """
    if setting.training or setting.autocast or setting.device.type != "cpu":
        raise UnavailableError(ONNX_NAME, ["runs inference on the CPU here, without autocast"])
    if setting.dtype is not torch.float32 or not isinstance(network, SparseNetwork):
        raise UnavailableError(ONNX_NAME, ["takes a whole network in float32"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ONNX
        try:
            write_onnx(network, path, {})
            session = open_session(path)
        except (ExportError, MissingExtraError) as error:
            raise UnavailableError(ONNX_NAME, [str(error)]) from error

    def run(field: Tensor) -> Tensor:
        return run_session(session, field)

    field = batch.to_dense().to(setting.dtype)
    version = importlib.import_module("onnxruntime").__version__
    path_of_result = stages_of(network)[-1][0]
    return Contender(
        ONNX_NAME,
        f"onnxruntime {version}, dense twin",
        cast(nn.Module, nn.Identity()),
        [(path_of_result, run)],
        run,
        lambda: field,
        setting,
        [],
    )
