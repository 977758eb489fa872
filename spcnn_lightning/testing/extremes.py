"""Numbers that are not finite, fields that 32 bits cannot count, and half precision by autocast."""

from __future__ import annotations

import torch

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Backend
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional
from spcnn_lightning.testing.cases import Case, random_rows
from spcnn_lightning.testing.oracle import (
    TOLERANCES,
    ConformanceError,
    compare_outcomes,
    dense_outcome,
    densify,
    outcome,
    require_close,
)
from spcnn_lightning.testing.trial import forward, prepare

HUGE = {1: (2**29,), 2: (2**17, 2**16), 3: (2**12, 2**11, 2**11)}
"""Fields whose sites 32 bits cannot number, in batches of five."""


def passes_nan_on(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """NaN reaches the sites that see it and no others, so that trouble stays visible."""
    trial = prepare(case, backend, device, dtype)
    start = trial.sites if trial.fine is None else trial.fine
    rulebook = backend.build_kernel_map(start, case.geometry)
    rows, weight = trial.leaves["features"].detach(), trial.leaves["weight"].detach()
    row = len(rows) // 2
    mark = torch.zeros_like(rows)
    mark[row] = 1
    sees = backend.convolve(mark, torch.ones_like(weight), rulebook, case.transposed)[:, 0] != 0
    spoilt = rows.clone()
    spoilt[row] = torch.nan
    found = backend.convolve(spoilt, weight, rulebook, case.transposed).isnan()
    if not torch.equal(found.all(1), sees) or not torch.equal(found.any(1), sees):
        raise ConformanceError("NaN in one row is lost, or reaches sites that do not see the row")


def numbers_huge_fields(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """A field with more than 2**32 sites is right, or refused with BackendUnsupportedError."""
    if case.transposed:
        return
    margins = [k - 1 for k in case.geometry.kernel_size]
    shape = [n + 2 * margin for n, margin in zip(case.spatial_shape, margins, strict=True)]
    huge = HUGE[case.geometry.dimensions]
    corner = torch.tensor([0, *(big - n for big, n in zip(huge, shape, strict=True))])
    trial = prepare(case, backend, device, dtype)
    near = trial.sites.coords.cpu() + torch.tensor([0, *margins])
    sites = ActiveSet((near + corner).int().to(device), huge, case.samples)
    rows, ground, weight, bias = trial.leaves.values()
    try:
        out = functional.sparse_conv(
            SparseBatch(sites, rows, ground), weight, bias, case.geometry, backend
        )
    except BackendUnsupportedError:
        return
    # The window moves with the sites, so a small dense field with the same sites is the measure.
    small = ActiveSet(near.int(), shape, case.samples)
    moved, small_shape = (out.coords.cpu() - corner).int(), case.geometry.output_shape(shape)
    try:
        reached = ActiveSet(moved, small_shape, case.samples)
    except ValueError as error:
        raise ConformanceError(f"wrong sites in a field of shape {huge}: {error}") from None
    new_ground = out.ground_state.cpu().double()
    field = densify(reached, out.features.cpu().double(), new_ground)
    expected = dense_outcome(small, trial.leaves, case.geometry)
    compare_outcomes(outcome(field, new_ground, trial.leaves), expected, TOLERANCES[dtype])


def runs_under_autocast(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Under autocast float32 inputs give an output in autocast's dtype, gradients in float32."""
    kind = torch.device(device).type
    request = case.request(device, torch.bfloat16)
    if dtype is not torch.float32 or backend.unsupported_reasons(request):
        return
    trial = prepare(case, backend, device, dtype)
    with torch.autocast(kind, torch.bfloat16):
        rows = forward(trial, backend).features
    wanted = [trial.leaves["features"], trial.leaves["weight"]]
    seed = random_rows(rows.shape[0], rows.shape[1], 5).to(device)
    grads = torch.autograd.grad(rows.float(), wanted, seed)
    exact = forward(trial, backend).features
    right = torch.autograd.grad(exact, wanted, seed)
    if rows.dtype is not torch.bfloat16 or any(grad.dtype is not dtype for grad in grads):
        raise ConformanceError(f"autocast to bfloat16 gives {rows.dtype}, {grads[0].dtype}")
    for one, other in zip((rows, *grads), (exact, *right), strict=True):
        name = "values and gradients under autocast to bfloat16"
        require_close(name, [one.float()], [other], TOLERANCES[torch.bfloat16])
