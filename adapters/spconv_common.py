"""What the spconv and spconv-triton backends share: guards, algorithms and gradients.

Never called: the libraries' modules, pools and sparse tensors (pools clamp at zero, 1x1 modules
read the weight transposed, biases fail on CPU). The libraries trust what they are given, and a
wrong row number is a segmentation fault or a silently wrong result; so everything is checked here.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from spcnn_lightning.adapters.spconv_engine import Call, calm, convolve_rows, filled_up
from spcnn_lightning.adapters.spconv_rulebook import (
    IMPLICIT_GEMM,
    IN_TORCH,
    MAX_INT32,
    NATIVE,
    SPLIT,
    Library,
    SpconvMap,
    build_map,
    padded_shape,
)
from spcnn_lightning.adapters.torch_backend import TorchBackend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.geometry import Activity, ConvGeometry

ALGORITHMS = (IMPLICIT_GEMM, SPLIT, NATIVE)
IMPLICIT_TAPS = 32
"""Most taps of an implicit GEMM: one bit each in a mask of one word."""


class SpconvFamily:
    """A backend of a library with spconv's functional interface.

    Args:
        algorithm: What computes on CUDA. ``"implicit_gemm"`` is the libraries' own default;
            ``"implicit_gemm_split"`` sorts the two halves of the taps apart; ``"native"`` gathers,
            multiplies and scatters tap by tap. Native is also taken for kernels of more than 32
            taps and where implicit GEMM has no kernel for the channels. On CPU there is only
            Native.

    Raises:
        ValueError: If ``algorithm`` is none of these.
    """

    name: str
    """With the algorithm behind a colon, unless it is the default one."""
    algorithms: ClassVar[tuple[str, ...]] = ALGORITHMS
    capabilities: Capabilities
    channel_multiples: ClassVar[dict[torch.dtype, int]] = {}
    """Channels on CUDA are filled up with zeros to a multiple of this."""
    max_field = MAX_INT32
    """Most sites of a batch, padding included."""

    def __init__(self, algorithm: str = IMPLICIT_GEMM) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm is {algorithm!r}, expected one of {', '.join(ALGORITHMS)}")
        self.algorithm = algorithm
        if algorithm != ALGORITHMS[0]:
            self.name = f"{self.name}:{algorithm}"
        self._without_kernel: set[tuple[torch.dtype, int, int]] = set()

    def availability(self) -> list[str]:
        """Return why the library cannot be used here at all; an empty list means it can."""
        return [] if isinstance(self._loaded, Library) else [self._loaded]

    def unsupported_reasons(self, request: OpRequest) -> list[str]:
        """Return why it cannot run ``request``, one sentence each; an empty list means it can."""
        reasons = [*self.availability(), *self.capabilities.reasons_against(request)]
        window = request.geometry
        if window.activity is Activity.SUBMANIFOLD:
            centred = ConvGeometry.submanifold(window.kernel_size, window.dilation)
            if window.padding != centred.padding:
                reasons.append(
                    f"puts the centre of a submanifold window on the site, which padding "
                    f"{window.padding} does not"
                )
        return reasons

    def build_kernel_map(self, active_set: ActiveSet, geometry: ConvGeometry) -> SpconvMap:
        """Return the library's rulebook; output sites are in row-major order.

        Raises:
            ValueError: If the window does not fit into the field, or coordinates are out of range.
            BackendUnsupportedError: If the batch of fields has more sites, or the map more pairs,
                than the library's integers can number.
        """
        # One for all algorithms: a map takes on the layout of each when it is asked for.
        owner = type(self).name
        return active_set.kernel_map(owner, geometry, lambda: self._build(active_set, geometry))

    def convolve(
        self, features: Tensor, weight: Tensor, kernel_map: SpconvMap, transposed: bool = False
    ) -> Tensor:
        """Convolve zero-background rows; see `spcnn_lightning.core.backend.Backend.convolve`.

        Not differentiable twice.

        Raises:
            ValueError: If the shapes, dtypes and devices do not belong together.
            BackendUnsupportedError: If the library, dtype or device does not do, or a matrix is
                larger than int32 can address.
        """
        self._check_operands(features, weight, kernel_map, transposed)
        algorithm = self._algorithm_on(features.device.type, kernel_map.geometry)
        library = self._library
        if algorithm == IN_TORCH:
            core = kernel_map.rulebook(library, IN_TORCH)
            return TorchBackend().convolve(features, weight, core, transposed)
        c_out = weight.shape[2]
        multiple = self.channel_multiples.get(features.dtype, 1) if features.is_cuda else 1
        features, weight = filled_up(features, weight, multiple)
        if transposed and kernel_map.is_submanifold:
            # Backwards through a window with a centre is forwards through the mirrored one.
            weight, transposed = weight.flip(0), False
        filters = weight.permute(2, 0, 1).reshape(
            weight.shape[2], *kernel_map.geometry.kernel_size, weight.shape[1]
        )
        call = Call(library, algorithm, kernel_map, transposed, self._without_kernel)
        return convolve_rows(features, filters, call)[:, :c_out]

    def _load(self) -> Library:
        """Import the library; any exception becomes a reason."""
        raise NotImplementedError

    def _import_failure(self, error: Exception) -> str:
        """Return why the library cannot be used, with what mends it."""
        raise NotImplementedError

    def _algorithm_on(self, device: str, window: ConvGeometry) -> str:
        """Return the algorithm that computes on a device."""
        fits = window.num_taps <= IMPLICIT_TAPS
        return self.algorithm if device == "cuda" and fits else NATIVE

    @cached_property
    def _loaded(self) -> Library | str:
        try:
            return self._load()
        except Exception as error:  # Compiled packages fail in many ways when they do not match.
            return self._import_failure(error)

    @property
    def _library(self) -> Library:
        if isinstance(self._loaded, str):
            raise BackendUnsupportedError(
                f"backend {self.name!r} cannot be used: it is {self._loaded}\n"
                "  backend='torch' runs every floating dtype on every device"
            )
        return self._loaded

    def _build(self, sites: ActiveSet, window: ConvGeometry) -> SpconvMap:
        library = self._library
        self._check_window(sites, window)
        check_coords(sites)
        with calm(sites.device):
            algorithm = self._algorithm_on(sites.device.type, window)
            return build_map(library, algorithm, sites, window)

    def _check_window(self, sites: ActiveSet, window: ConvGeometry) -> None:
        request = OpRequest(window, sites.device.type, torch.float32)
        reasons = self.unsupported_reasons(request)
        window.output_shape(sites.spatial_shape)
        volume = max(1, sites.batch_size) * math.prod(padded_shape(sites.spatial_shape, window))
        if volume > self.max_field:
            reasons.append(
                f"numbers at most {self.max_field} sites, not {volume} ({sites.batch_size} samples "
                f"of {sites.spatial_shape} with padding {window.padding}): take a smaller batch"
            )
        if 2 * window.num_taps * sites.num_sites > MAX_INT32:
            reasons.append(
                f"numbers at most {MAX_INT32} entries of a rulebook, not 2 x "
                f"{window.num_taps} taps x {sites.num_sites} sites: take a smaller batch"
            )
        self._refuse(reasons, str(request))

    def _check_operands(self, x: Tensor, weight: Tensor, book: SpconvMap, transposed: bool) -> None:
        request = OpRequest(book.geometry, x.device.type, x.dtype, transposed)
        rows = book.num_outputs if transposed else book.num_inputs
        taps = book.geometry.num_taps
        if x.ndim != 2 or weight.ndim != 3 or x.shape[0] != rows:
            raise ValueError(
                f"features have shape {tuple(x.shape)}, expected ({rows}, C_in), and weights "
                f"{tuple(weight.shape)}, expected ({taps}, C_in, C_out)"
            )
        if weight.shape[:2] != (taps, x.shape[1]):
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}, expected ({taps}, {x.shape[1]}, C_out)"
            )
        places = {x.device, weight.device, book.coords.device}
        if x.dtype != weight.dtype or len(places) > 1:
            raise ValueError(
                f"features are {x.dtype} on {x.device}, weights {weight.dtype} on {weight.device} "
                f"and sites on {book.coords.device}: bring them together"
            )
        reasons = self.unsupported_reasons(request)
        rows = max(book.num_inputs, book.num_outputs)
        size = rows * (max(weight.shape[1:]) + 8) * x.element_size()
        if size > MAX_INT32:
            reasons.append(
                f"addresses at most {MAX_INT32} bytes of a matrix, not {rows} rows of "
                f"{max(weight.shape[1:])} channels: take a smaller batch"
            )
        self._refuse(reasons, str(request))

    def _refuse(self, reasons: list[str], asked: str) -> None:
        if reasons:
            listed = "\n".join(f"  {self.name}: {reason}" for reason in reasons)
            raise BackendUnsupportedError(
                f"backend {self.name!r} cannot run this convolution\n  asked for: {asked}\n"
                f"{listed}\n  backend='torch' runs every floating dtype on every device"
            )


def check_coords(sites: ActiveSet) -> None:
    """Raise unless every site is int32, contiguous and inside: the libraries do not look."""
    coords = sites.coords
    if coords.dtype != torch.int32 or not coords.is_contiguous():
        raise TypeError(f"coords are {coords.dtype} with strides {coords.stride()}, expected int32")
    if not len(coords):
        return
    limits = coords.new_tensor([sites.batch_size, *sites.spatial_shape])
    if bool(((coords < 0) | (coords >= limits)).any()):
        raise ValueError(
            f"coords lie outside batch_size {sites.batch_size} and spatial_shape "
            f"{sites.spatial_shape}: build the ActiveSet with validate=True to see which"
        )
