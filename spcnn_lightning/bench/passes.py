"""One repetition: the whole step, or the step layer by layer."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import torch
from torch import Tensor

from spcnn_lightning.bench.clock import KernelMapClock
from spcnn_lightning.bench.contender import Contender
from spcnn_lightning.bench.results import Timing
from spcnn_lightning.bench.values import Value, as_leaf, loss_of, synchronise, tensors_of


def run_step(contender: Contender, targets: Tensor | None) -> Timing:
    """Run forward and, in training, loss and backward, without an optimiser.

    The input has a fresh active set, so kernel maps are built anew, as in training.
    """
    setting = contender.setting
    given = contender.fresh()
    contender.network.zero_grad(set_to_none=True)
    synchronise(setting.device)
    start = time.perf_counter()
    with _gradients(setting.training):
        out = contender.forward(given)
        loss = loss_of(out, targets) if setting.training else None
    synchronise(setting.device)
    middle = time.perf_counter()
    if loss is not None:
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        synchronise(setting.device)
    return Timing(middle - start, time.perf_counter() - middle)


def run_layers(contender: Contender) -> dict[str, Timing]:
    """Run each layer on what the one before it returned, and its backward right behind it.

    The input of a layer is cut off from what computed it, so that the backward of a layer is
    timed alone: gradients of its parameters and, but for the first layer, of its input, from
    random gradients of its output. Kernel maps are built anew and timed within the forward.
    """
    setting = contender.setting
    value: Value = contender.fresh()
    timings: dict[str, Timing] = {}
    with KernelMapClock(setting.device) as clock, _gradients(setting.training):
        for number, (path, stage) in enumerate(contender.stages):
            value = as_leaf(value, setting.training and number > 0)
            clock.elapsed = 0.0
            synchronise(setting.device)
            start = time.perf_counter()
            with setting.context():
                out = stage(value)
            synchronise(setting.device)
            forward = time.perf_counter() - start
            backward = _time_backward(contender, value, out) if setting.training else 0.0
            timings[path] = Timing(forward, backward, clock.elapsed)
            value = out
    return timings


def _time_backward(contender: Contender, given: Value, out: Value) -> float:
    results = [t for t in tensors_of(out) if t.requires_grad]
    # A layer may hand its input's ground state on as it is.
    sources = [t for t in tensors_of(given) if t.requires_grad]
    sources += [p for p in contender.network.parameters() if p.requires_grad]
    if not results or not sources:
        return 0.0
    gradients = [torch.rand_like(t) for t in results]
    synchronise(contender.setting.device)
    start = time.perf_counter()
    torch.autograd.grad(results, sources, gradients, allow_unused=True)
    synchronise(contender.setting.device)
    return time.perf_counter() - start


def _gradients(training: bool) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if training else torch.inference_mode()
