"""Does an exported network say what the network says, and how fast is it?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spcnn_lightning.bench.values import one_sample, with_fresh_sites
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.export import ONNX, WEIGHTS, open_session, run_session
from spcnn_lightning.networks import SparseNetwork

LATENCY_REPEATS = 15


@dataclass(frozen=True)
class ExportCheck:
    """What a comparison on real samples found.

    Attributes:
        samples: Their number.
        largest_difference: Of the logits, ONNX against the sparse network.
        largest_logit: The largest absolute logit of the sparse network.
        same_classes: Samples to which both give the same class.
        same_weights: Whether the network read back from the folder gives the very same logits.
        onnx_bytes: Size of the ONNX file.
        weights_bytes: Size of the safetensors file.
        sparse_ms: Time of one sample through the sparse network, kernel maps included: median
            over samples.
        onnx_ms: The same through onnxruntime, from the dense field.
    """

    samples: int
    largest_difference: float
    largest_logit: float
    same_classes: int
    same_weights: bool
    onnx_bytes: int
    weights_bytes: int
    sparse_ms: float
    onnx_ms: float

    def as_text(self) -> str:
        """Return the figures as lines for people."""
        same = "the same logits" if self.same_weights else "OTHER LOGITS"
        relative = self.largest_difference / (self.largest_logit or 1.0)
        return "\n".join(
            [
                f"{WEIGHTS}: {_size(self.weights_bytes)}; read back, it gives {same}",
                f"{ONNX}: {_size(self.onnx_bytes)}; on {self.samples} test samples its "
                f"logits differ by {self.largest_difference:.1e} at most ({relative:.1e} of the "
                f"largest), {self.same_classes} of {self.samples} have the same class",
                f"one sample: sparse torch {self.sparse_ms:.2f} ms, onnxruntime (dense) "
                f"{self.onnx_ms:.2f} ms on the CPU, {torch.get_num_threads()} threads",
            ]
        )


def check_export(
    folder: Path, network: SparseNetwork, loaded: SparseNetwork, batch: SparseBatch
) -> ExportCheck:
    """Compare the files of a folder with the network that they were made of.

    Args:
        folder: With the ONNX and the safetensors file.
        network: The sparse network, on the CPU, in evaluation mode.
        loaded: The network that was read back.
        batch: At least one sample, float32.
    """
    session = open_session(folder / ONNX)
    with torch.inference_mode():
        expected = network(with_fresh_sites(batch))
        again = loaded(with_fresh_sites(batch))
    found = run_session(session, batch.to_dense())
    singles = [one_sample(batch, n) for n in range(min(batch.batch_size, LATENCY_REPEATS))]

    def run_sparse(sample: SparseBatch) -> None:
        with torch.inference_mode():
            network(with_fresh_sites(sample))

    sparse = _median_ms(run_sparse, singles)
    dense = _median_ms(lambda x: run_session(session, x), [s.to_dense() for s in singles])
    return ExportCheck(
        batch.batch_size,
        float((found - expected).abs().max()),
        float(expected.abs().max()),
        int((found.argmax(1) == expected.argmax(1)).sum()),
        torch.equal(expected, again),
        sum(file.stat().st_size for file in folder.glob(f"{ONNX}*")),
        (folder / WEIGHTS).stat().st_size,
        sparse,
        dense,
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 10**6 else f"{count / 1e3:.1f} kB"


def _median_ms(run: Callable[[Any], object], inputs: list[Any]) -> float:
    run(inputs[0])  # warm
    times = []
    for given in inputs:
        start = time.perf_counter()
        run(given)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3
