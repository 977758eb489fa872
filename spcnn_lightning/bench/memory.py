"""Peak memory of a step, measured in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from spcnn_lightning.bench.contender import Contender, Setting
from spcnn_lightning.bench.contenders import make_contender
from spcnn_lightning.bench.passes import run_step
from spcnn_lightning.bench.results import Memory
from spcnn_lightning.bench.values import Value, as_leaf, tensors_of
from spcnn_lightning.bench.workload import Workload
from spcnn_lightning.core.errors import SpcnnError

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
# Freed memory goes back to the system at once, so that what is resident is what is in use.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


class MemoryUnknownError(SpcnnError):
    """The peak memory could not be measured; the message says why."""


def peak_memory(name: str, workload: Workload, setting: Setting) -> Memory:
    """Return the peak memory of one warm step on the engine ``name``.

    A new process loads the workload, runs a step, and measures the second one. On CUDA the
    figures are torch's count of allocated memory. On the CPU of Linux they are the resident size,
    whose high-water mark is set back before the step; elsewhere the largest resident size of the
    process, less its size before the step, and nothing is known of single layers.

    Raises:
        MemoryUnknownError: If the process failed, or the system does not tell.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workload.pt"
        torch.save((name, workload, setting, torch.get_num_threads()), file)
        result = subprocess.run(
            [sys.executable, "-m", __name__, str(file)],
            env={**os.environ, **ALLOCATOR, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise MemoryUnknownError(f"its process ended with status {result.returncode}: {last}")
    found = json.loads(result.stdout.splitlines()[-1])
    return Memory(found["step"], found["process"], tuple(found["layers"]))


def main(path: str) -> None:
    """Measure the workload in a file that `peak_memory` wrote, and print the result as JSON."""
    name, workload, setting, threads = torch.load(path, weights_only=False)
    torch.set_num_threads(threads)
    contender = make_contender(name, workload.network, workload.batch, setting)
    targets = None if workload.targets is None else workload.targets.to(setting.device)
    print(json.dumps(asdict(_measure(contender, targets))))


def _measure(contender: Contender, targets: Tensor | None) -> Memory:
    run_step(contender, targets)
    contender.network.zero_grad(set_to_none=True)
    gauge = _Gauge(contender.setting.device)
    gauge.reset()
    run_step(contender, targets)
    whole = Memory(gauge.above(), gauge.peak())
    contender.network.zero_grad(set_to_none=True)
    if not gauge.resets:
        return whole
    # Warm, too: code that is run for the first time becomes resident.
    _measure_layers(contender, gauge)
    return replace(whole, layers=_measure_layers(contender, gauge))


def _measure_layers(contender: Contender, gauge: _Gauge) -> tuple[int, ...]:
    """Return the peak of forward and backward of each layer, beyond its input."""
    setting, peaks = contender.setting, []
    value: Value = contender.fresh()
    for number, (_, stage) in enumerate(contender.stages):
        value = as_leaf(value, setting.training and number > 0)
        gauge.reset()
        with torch.set_grad_enabled(setting.training), setting.context():
            out = stage(value)
        results = [t for t in tensors_of(out) if t.requires_grad]
        if setting.training and results:
            torch.autograd.backward(results, [torch.ones_like(t) for t in results])
        peaks.append(gauge.above())
        contender.network.zero_grad(set_to_none=True)
        value = out
    return tuple(peaks)


class _Gauge:
    """Current and largest memory, of the device or of the process."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = 0
        self.resets = device.type == "cuda" or (STATUS.exists() and self._clear())

    def reset(self) -> None:
        """Begin anew from what is in use now."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return
        if self.resets:
            self._clear()
        self.before = _from_status("VmRSS") if STATUS.exists() else _largest_resident()

    def peak(self) -> int:
        """Return the largest use, in bytes."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        # Not the resource module where it can be avoided: a process inherits its parent's peak.
        return _from_status("VmHWM") if STATUS.exists() else _largest_resident()

    def above(self) -> int:
        """Return the largest use beyond that at the last reset."""
        return max(0, self.peak() - self.before)

    @staticmethod
    def _clear() -> bool:
        try:
            CLEAR_REFS.write_text("5", encoding="ascii")
        except OSError:
            return False
        return True


def _from_status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
    if found is None:
        raise MemoryUnknownError(f"{STATUS} has no {field}")
    return int(found[1]) * 1024


def _largest_resident() -> int:
    try:
        import resource
    except ImportError as error:
        raise MemoryUnknownError("this system does not tell the peak of a process") from error
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(sys.argv[1])
