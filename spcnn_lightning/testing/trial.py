"""One case on one backend: set up, run through the layer's function, compare with dense."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Backend
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn import functional
from spcnn_lightning.testing.cases import Case, random_rows, random_weight
from spcnn_lightning.testing.oracle import (
    TOLERANCES,
    ConformanceError,
    Outcome,
    compare_outcomes,
    dense_outcome,
    dense_transposed_outcome,
    densify,
    expected_mask,
    mask_of,
    outcome,
)


@dataclass(frozen=True)
class Trial:
    """The input of one convolution."""

    case: Case
    sites: ActiveSet
    """The sites of the features."""
    fine: ActiveSet | None
    """The sites to return to, in a transposed convolution."""
    leaves: dict[str, Tensor]
    """ "features", "ground_state", "weight" and "bias", all of which require gradients."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the leaves."""
        return self.leaves["features"].dtype

    def compare(self, actual: Outcome) -> None:
        """Raise ConformanceError if ``actual`` differs from the dense result."""
        compare_outcomes(actual, self.expected(), TOLERANCES[self.dtype])

    def expected(self) -> Outcome:
        """Return the dense result, from the leaves as they are now."""
        if self.fine is None:
            return dense_outcome(self.sites, self.leaves, self.case.geometry)
        return dense_transposed_outcome(self.sites, self.fine, self.leaves, self.case.geometry)


def check_case(case: Case, backend: Backend, device: str, dtype: torch.dtype) -> None:
    """Compare values and all gradients with the dense ones.

    Raises:
        ConformanceError: If one differs, or a wrong site is active.
    """
    trial = prepare(case, backend, device, dtype)
    trial.compare(run(trial, backend))


def prepare(
    case: Case,
    backend: Backend,
    device: str,
    dtype: torch.dtype,
    start: ActiveSet | None = None,
) -> Trial:
    """Return random input for a case.

    It lies on the sites ``start``; if they are not given, on new ones that have no map yet.
    """
    sites = case.active_set(device) if start is None else start
    fine = sites if case.transposed else None
    if fine is not None:
        sites = backend.build_kernel_map(fine, case.geometry).output
        require_sites(sites, expected_mask(fine, case.geometry))
    c_in, c_out = case.channels
    exact = {
        "features": random_rows(len(sites), c_in, 1),
        "ground_state": random_rows(1, c_in, 3)[0],
        "weight": random_weight(case.geometry, case.channels, 2),
        "bias": random_rows(1, c_out, 4)[0],
    }
    leaves = {name: leaf.to(device, dtype).requires_grad_() for name, leaf in exact.items()}
    return Trial(case, sites, fine, leaves)


def forward(trial: Trial, backend: Backend) -> SparseBatch:
    """Run the layer's function on ``backend`` and check which sites are active."""
    leaves, geometry = trial.leaves, trial.case.geometry
    batch = SparseBatch(trial.sites, leaves["features"], leaves["ground_state"])
    weight, bias = leaves["weight"], leaves["bias"]
    if trial.fine is None:
        out = functional.sparse_conv(batch, weight, bias, geometry, backend)
        require_sites(out.active_set, expected_mask(trial.sites, geometry))
    else:
        out = functional.inverse_conv(batch, weight, bias, geometry, trial.fine, backend)
    return out


def run(trial: Trial, backend: Backend) -> Outcome:
    """Return values and gradients of the layer's function on ``backend``."""
    out, features = forward(trial, backend), trial.leaves["features"]
    if out.dtype != features.dtype or out.device != features.device:
        raise ConformanceError(
            f"the result is {out.dtype} on {out.device}, the features are {features.dtype} on "
            f"{features.device}"
        )
    # In float64 on the CPU, so that nothing but the backend rounds.
    ground = out.ground_state.cpu().double()
    field = densify(out.active_set, out.features.cpu().double(), ground)
    return outcome(field, ground, trial.leaves)


def require_sites(sites: ActiveSet, mask: Tensor) -> None:
    """Raise ConformanceError unless exactly the sites of ``mask`` are active, each once."""
    size = (sites.batch_size, *sites.spatial_shape)
    if size != tuple(mask.shape):
        raise ConformanceError(
            f"the output field is {size} (samples, *sites), expected {tuple(mask.shape)}"
        )
    try:
        ActiveSet(sites.coords, sites.spatial_shape, sites.batch_size)
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"the output sites are not a set of sites: {error}") from None
    found = mask_of(sites)
    if not torch.equal(found, mask):
        raise ConformanceError(
            f"{int((mask & ~found).sum())} sites that should be active are not, and "
            f"{int((found & ~mask).sum())} are that should not be, of {int(mask.sum())}"
        )
