"""What a backend has to do right beside the numbers of one plain call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Backend
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.testing import extremes
from spcnn_lightning.testing.cases import Case, random_rows
from spcnn_lightning.testing.oracle import TOLERANCES, ConformanceError, require_close
from spcnn_lightning.testing.surroundings import unchanged_surroundings
from spcnn_lightning.testing.trial import Trial, check_case, forward, prepare, run

CASES = (
    Case(ConvGeometry((3, 3))),
    Case(ConvGeometry.submanifold((3, 3))),
    Case(ConvGeometry((2, 2), 2), transposed=True),
)
"""The convolutions that each behaviour is looked at in."""


def leaves_no_trace(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Global state stays as it was and nothing is printed, forward and backward."""
    with unchanged_surroundings():
        check_case(case, backend, device, dtype)
        backend.version()


def keeps_its_inputs(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """No tensor that was handed in is written to."""
    trial = prepare(case, backend, device, dtype)
    handed = [*trial.leaves.values(), trial.sites.coords]
    copies = [t.detach().clone() for t in handed]
    run(trial, backend)
    if not all(torch.equal(t, copy) for t, copy in zip(handed, copies, strict=True)):
        raise ConformanceError("features, weights or coordinates were written to")


def keeps_its_map(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """The same sites and an equal window give the same map, and no weight is kept with it."""
    trial = prepare(case, backend, device, dtype)
    start = trial.sites if trial.fine is None else trial.fine
    g = case.geometry
    equal = ConvGeometry(g.kernel_size, g.stride, g.padding, g.dilation, g.activity, g.offsets)
    outputs = [backend.build_kernel_map(start, geometry).output for geometry in (g, equal)]
    if outputs[0] is not outputs[1]:
        raise ConformanceError("asked twice for one map, it gives two sets of output sites")
    if g.activity is Activity.SUBMANIFOLD and outputs[0] is not start:
        raise ConformanceError("the output of a submanifold map is not the active set itself")
    run(trial, backend)
    with torch.no_grad():
        for leaf in trial.leaves.values():
            leaf.mul_(-0.5).add_(0.25)
    trial.compare(run(trial, backend))


def keeps_maps_apart(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Windows that differ in one number only, one after the other on the same sites."""
    g, shared = case.geometry, case.active_set(device)
    others = [
        g,
        ConvGeometry(g.kernel_size, g.stride, 1, g.dilation),
        ConvGeometry(g.kernel_size, 3, g.padding, g.dilation),
        ConvGeometry(g.kernel_size, g.stride, g.padding, 2),
        ConvGeometry(g.kernel_size, 1, 1, activity=Activity.DILATING),
        ConvGeometry.submanifold(g.kernel_size),
        g,
    ]
    for geometry in others:
        other = replace(case, geometry=geometry)
        if not backend.unsupported_reasons(other.request(device, dtype)):
            trial = prepare(other, backend, device, dtype, shared)
            trial.compare(run(trial, backend))


def takes_sites_seen_in_inference(
    case: Case, backend: Backend, device: str, dtype: torch.dtype
) -> None:
    """Sites that a validation pass has seen can be trained on."""
    trial = prepare(case, backend, device, dtype)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            forward(trial, backend)
    trial.compare(run(trial, backend))


def takes_relocated_maps(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Maps survive `ActiveSet.relocated`, by which batches are moved and pinned."""
    trial = prepare(case, backend, device, dtype)
    run(trial, backend)
    memo: dict[int, ActiveSet] = {}
    fine = None if trial.fine is None else trial.fine.relocated(Tensor.clone, memo)
    moved = Trial(case, trial.sites.relocated(Tensor.clone, memo), fine, trial.leaves)
    moved.compare(run(moved, backend))


def takes_any_memory_layout(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Features, weights and output gradients need not be contiguous."""
    trial = prepare(case, backend, device, dtype)
    leaves = {name: _transposed_in_memory(leaf) for name, leaf in trial.leaves.items()}
    strided = Trial(case, trial.sites, trial.fine, leaves)
    strided.compare(run(strided, backend))
    # The gradient of a sum is one number, expanded: all strides are zero.
    wanted = [trial.leaves["features"], trial.leaves["weight"]]
    rows = [forward(trial, backend).features for _ in range(2)]
    seed = rows[0].new_ones(()).expand_as(rows[0])
    expanded = torch.autograd.grad(rows[0], wanted, seed)
    right = torch.autograd.grad(rows[1], wanted, seed.contiguous())
    for name, one, other in zip(("features", "weight"), expanded, right, strict=True):
        what = f"gradient of the {name} from an expanded output gradient"
        require_close(what, [one], [other], TOLERANCES[dtype])


def gives_one_gradient_alone(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Features or weights may be frozen: the input of the first layer, a layer held fixed."""
    trial = prepare(case, backend, device, dtype)
    rows = forward(trial, backend).features
    seed = random_rows(rows.shape[0], rows.shape[1], 5).to(device, dtype)
    names = ["features", "weight"]
    right = torch.autograd.grad(rows, [trial.leaves[name] for name in names], seed)
    for name, expected in zip(names, right, strict=True):
        leaves = {n: leaf.detach().requires_grad_(n == name) for n, leaf in trial.leaves.items()}
        rows = forward(Trial(case, trial.sites, trial.fine, leaves), backend).features
        (alone,) = torch.autograd.grad(rows, leaves[name], seed)
        what = f"gradient of the {name} where nothing else has one"
        require_close(what, [alone], [expected], TOLERANCES[dtype])


def gives_the_same_for_any_row_order(
    case: Case, backend: Backend, device: str, dtype: torch.dtype
) -> None:
    """Sorted and reversed rows give the field and the gradients that random order gives."""
    if case.transposed:
        return  # the rows come from the backend
    trial = prepare(case, backend, device, dtype)
    for descending in (False, True):
        order = torch.argsort(trial.sites.keys(), descending=descending)
        features = trial.leaves["features"].detach()[order].requires_grad_()
        sites = ActiveSet(trial.sites.coords[order], case.spatial_shape, case.samples)
        other = Trial(case, sites, None, {**trial.leaves, "features": features})
        other.compare(run(other, backend))


def repeats_bit_by_bit(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Equal calls give equal bits, if the capabilities say so."""
    if not backend.capabilities.deterministic:
        return
    first, *others = [run(prepare(case, backend, device, dtype), backend) for _ in range(3)]
    for other in others:
        pairs = [(first.field, other.field)]
        pairs += [(first.gradients[name], grad) for name, grad in other.gradients.items()]
        if not all(torch.equal(one, two) for one, two in pairs):
            raise ConformanceError("equal calls differ, though the capabilities say deterministic")


def _transposed_in_memory(tensor: Tensor) -> Tensor:
    """Return an equal leaf whose first axis lies innermost."""
    other = tensor.detach().movedim(0, -1).contiguous().movedim(-1, 0)
    return other.requires_grad_()


CHECKS: dict[str, Callable[[Case, Backend, str, torch.dtype], None]] = {
    function.__name__: function
    for function in (
        leaves_no_trace,
        keeps_its_inputs,
        keeps_its_map,
        keeps_maps_apart,
        takes_sites_seen_in_inference,
        takes_relocated_maps,
        takes_any_memory_layout,
        gives_one_gradient_alone,
        gives_the_same_for_any_row_order,
        repeats_bit_by_bit,
        extremes.passes_nan_on,
        extremes.numbers_huge_fields,
        extremes.runs_under_autocast,
    )
}
