"""What a backend promises: the protocol, its capabilities as data, and requests as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry


@dataclass(frozen=True)
class OpRequest:
    """One convolution that somebody wants to run."""

    geometry: ConvGeometry
    device: str
    """Device type: "cpu", "cuda", ..."""
    dtype: torch.dtype
    transposed: bool = False

    def __str__(self) -> str:
        g = self.geometry
        kind = "transposed convolution" if self.transposed else f"{g.activity.value} convolution"
        return (
            f"{kind}, kernel_size {g.kernel_size}, stride {g.stride}, padding {g.padding}, "
            f"dilation {g.dilation}, {str(self.dtype).removeprefix('torch.')} on {self.device}"
        )


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do, as data; `reasons_against` turns it into sentences."""

    devices: frozenset[str] | None
    """Device types it runs on; None means every device that torch runs on."""
    dtypes: dict[str, frozenset[torch.dtype]] | None
    """Dtypes it takes, per device type; None means every floating point dtype."""
    dimensions: range = range(1, 9)
    activities: frozenset[Activity] = frozenset(Activity)
    transposed: bool = True
    even_submanifold: bool = True
    """Whether submanifold kernels may have an even size."""
    partial_windows: bool = True
    """Whether the taps may be a subset of the window."""
    deterministic: bool = True

    def reasons_against(self, request: OpRequest) -> list[str]:
        """Return one sentence for each thing in the way; an empty list means yes."""
        g, reasons = request.geometry, []
        if self.devices is not None and request.device not in self.devices:
            reasons.append(f"runs on {', '.join(sorted(self.devices))}, not on {request.device}")
        elif self.dtypes is not None and request.dtype not in self.dtypes[request.device]:
            known = sorted(str(d).removeprefix("torch.") for d in self.dtypes[request.device])
            name = str(request.dtype).removeprefix("torch.")
            reasons.append(f"takes {', '.join(known)} on {request.device}, not {name}")
        if g.dimensions not in self.dimensions:
            low, high = self.dimensions[0], self.dimensions[-1]
            reasons.append(f"has {low} to {high} dimensions, not {g.dimensions}")
        if g.activity not in self.activities:
            reasons.append(f"has no {g.activity.value} convolution")
        if request.transposed and not self.transposed:
            reasons.append("has no transposed convolution")
        submanifold = g.activity is Activity.SUBMANIFOLD
        if submanifold and not self.even_submanifold and any(k % 2 == 0 for k in g.kernel_size):
            reasons.append(f"has no submanifold kernels of even size, such as {g.kernel_size}")
        if not self.partial_windows and not g.is_full_window:
            reasons.append(f"takes full windows only, not {g.num_taps} taps of {g.kernel_size}")
        return reasons


@runtime_checkable
class Backend(Protocol):
    """A library that does the arithmetic of sparse convolution.

    It only sees fields whose ground state is zero; bias and ground state are added above it.

    It may also have ``takes_ground(features, weight, kernel_map)`` and, where this is true,
    ``convolve_with_ground(features, ground, weight, bias, kernel_map)``, which does all of it, and
    ``prefers_full(active_set, geometry, features, weight)``, upon which a network makes all sites
    active; see `spcnn_lightning.adapters.torch_backend.TorchBackend`.
    """

    @property
    def name(self) -> str:
        """The word that chooses it in a config."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    def availability(self) -> list[str]:
        """Return why it cannot be used here at all, one sentence each; an empty list means it can.

        The library is missing, too old, built for another CUDA, known to compute wrong numbers:
        each sentence says what to do. The library is imported here at the earliest, not when the
        backend is constructed, and nothing is raised.
        """
        ...

    def version(self) -> str | None:
        """Return distribution and version of the library, "spconv-cu120 2.3.6" say, or None.

        Read from the metadata of the distribution, without importing it.
        """
        ...

    def unsupported_reasons(self, request: OpRequest) -> list[str]:
        """Return why it cannot run ``request``, one sentence each; an empty list means it can.

        The sentences of `availability` come first, then those of the capabilities, then others.
        """
        ...

    def build_kernel_map(self, active_set: ActiveSet, geometry: ConvGeometry) -> Any:
        """Return this backend's kernel map, with the output set as ``.output``.

        Asked again for the same set and geometry it returns the same map (`ActiveSet.kernel_map`
        keeps it); the output of a submanifold geometry is ``active_set`` itself.

        Raises:
            ValueError: If the window does not fit into the field.
            BackendUnsupportedError: If the field is too large for the library's integers, or
                something else that only shows with the sites is in the way.
        """
        ...

    def convolve(
        self, features: Tensor, weight: Tensor, kernel_map: Any, transposed: bool = False
    ) -> Tensor:
        """Convolve rows that are zero at every other site. Differentiable in both tensors.

        Args:
            features: Shape (N, C_in); with ``transposed`` (M, C_in), rows of the map's output.
            weight: Shape (K, C_in, C_out), taps in the order of the geometry's ``offsets``.
            kernel_map: From `build_kernel_map`.
            transposed: Run the map backwards, from its output sites to its input sites.

        Returns:
            Shape (M, C_out), rows in the order of the map's output; with ``transposed``
            (N, C_out).
        """
        ...
