"""What a case has to give: dense, in float64, on the CPU, values and every gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.reference import dense

TOLERANCES: dict[torch.dtype, float] = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 2e-2,
    torch.bfloat16: 1.5e-1,
}
"""Largest error allowed, over the largest entry of the tensor."""


class ConformanceError(AssertionError):
    """A backend does not do what the contract in `spcnn_lightning.core.backend` says."""


@dataclass(frozen=True)
class Outcome:
    """Values and gradients of one convolution, all float64 on the CPU."""

    field: Tensor
    """Shape (B, C_out, *output_shape)."""
    ground_state: Tensor
    """Shape (C_out,)."""
    gradients: dict[str, Tensor]
    """Of one random function of field and ground state, by the name of the input."""


def densify(sites: ActiveSet, features: Tensor, ground_state: Tensor) -> Tensor:
    """Return the field (B, C, *spatial_shape), made without anything of the sparse path."""
    place = tuple(sites.coords.long().cpu().T)
    field = ground_state.expand(sites.batch_size, *sites.spatial_shape, -1)
    return field.index_put(place, features).movedim(-1, 1)


def mask_of(sites: ActiveSet) -> Tensor:
    """Return which sites are active, bool on the CPU, shape (B, *spatial_shape)."""
    place = tuple(sites.coords.long().cpu().T)
    mask = torch.zeros(sites.batch_size, *sites.spatial_shape, dtype=torch.bool)
    return mask.index_put(place, torch.tensor(True))


def expected_mask(sites: ActiveSet, geometry: ConvGeometry) -> Tensor:
    """Return which output sites have to be active, bool, shape (B, *output_shape)."""
    mask = mask_of(sites)
    if geometry.activity is Activity.SUBMANIFOLD:
        return mask
    return dense.dilate_mask(mask, geometry)


def dense_outcome(sites: ActiveSet, leaves: dict[str, Tensor], geometry: ConvGeometry) -> Outcome:
    """Return what a convolution from ``sites`` has to give.

    Args:
        sites: The active sites of the input.
        leaves: "features", "ground_state", "weight" and "bias", of any dtype and device.
        geometry: The window.
    """
    exact = {name: leaf.detach().cpu().double().requires_grad_() for name, leaf in leaves.items()}
    ground, weight, bias = exact["ground_state"], exact["weight"], exact["bias"]
    x = densify(sites, exact["features"], ground)
    if geometry.activity is Activity.SUBMANIFOLD:
        field = dense.dense_submanifold_conv(
            x, weight, bias, geometry, ground_state=ground, mask=mask_of(sites)
        )
    else:
        field = dense.dense_conv(x, weight, bias, geometry, ground)
    return outcome(field, dense.ground_after_conv(ground, weight, bias, geometry), exact)


def dense_transposed_outcome(
    coarse: ActiveSet, fine: ActiveSet, leaves: dict[str, Tensor], geometry: ConvGeometry
) -> Outcome:
    """Return what a transposed convolution from ``coarse`` to ``fine`` has to give."""
    exact = {name: leaf.detach().cpu().double().requires_grad_() for name, leaf in leaves.items()}
    ground, bias = exact["ground_state"], exact["bias"]
    field = dense.dense_inverse_conv(
        densify(coarse, exact["features"], ground),
        exact["weight"],
        bias,
        geometry,
        ground_state=ground,
        mask=mask_of(fine),
    )
    return outcome(field, bias + 0.0, exact)


def outcome(field: Tensor, ground_state: Tensor, leaves: dict[str, Tensor]) -> Outcome:
    """Return values and the gradients of one random function of them with respect to ``leaves``.

    ``field`` and ``ground_state`` are float64 on the CPU; the leaves may lie elsewhere.
    """
    generator = torch.Generator().manual_seed(7)
    seeds = [
        torch.randn(t.shape, generator=generator, dtype=torch.float64)
        for t in (field, ground_state)
    ]
    results = [t for t in (field, ground_state) if t.requires_grad]
    used = [seed for seed, t in zip(seeds, (field, ground_state), strict=True) if t.requires_grad]
    gradients = torch.autograd.grad(
        results, list(leaves.values()), used, allow_unused=True, materialize_grads=True
    )
    exact = [gradient.detach().cpu().double() for gradient in gradients]
    return Outcome(field.detach(), ground_state.detach(), dict(zip(leaves, exact, strict=True)))


def compare_outcomes(actual: Outcome, expected: Outcome, tolerance: float) -> None:
    """Raise ConformanceError at the first value or gradient that differs by too much."""
    require_close("values", [actual.field], [expected.field], tolerance)
    require_close("ground state", [actual.ground_state], [expected.ground_state], tolerance)
    mine, right = actual.gradients, expected.gradients
    for name in ("weight", "bias"):
        require_close(f"gradient of the {name}", [mine[name]], [right[name]], tolerance)
    # As one: in a full field the ground state's own gradient is zero, and rounding has no scale.
    one, other = ([grads["features"], grads["ground_state"]] for grads in (mine, right))
    require_close("gradient of features and ground state", one, other, tolerance)


def require_close(
    what: str, actual: list[Tensor], expected: list[Tensor], tolerance: float
) -> None:
    """Raise ConformanceError if an error exceeds ``tolerance`` times the largest entry."""
    worst = scale = 0.0
    for one, other in zip(actual, expected, strict=True):
        if one.shape != other.shape:
            raise ConformanceError(
                f"{what}: shape {tuple(one.shape)}, expected {tuple(other.shape)}"
            )
        if other.numel():
            error = (one.detach() - other.detach()).abs()
            # NaN never compares as larger, so it is looked for by name.
            worst = max(worst, float(error.nan_to_num(torch.inf).max()))
            scale = max(scale, float(other.detach().abs().max()))
    if worst > tolerance * max(scale, 1e-30):
        raise ConformanceError(
            f"{what}: the largest error is {worst:.3g} where the largest entry is {scale:.3g}; "
            f"{tolerance:g} of it is allowed"
        )
