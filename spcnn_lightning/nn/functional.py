"""Ground-state-exact operations over the backend verbs.

The only place, with the layers, that knows how the ground state is carried.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spcnn_lightning.adapters import resolve_backend
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Backend, OpRequest
from spcnn_lightning.core.full_field import FullFieldMap
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap, kernel_map
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.nn.pooling_kernels import (
    avg_of_windows,
    has_dense_pooling,
    max_of_fields,
    max_of_windows,
)


def sparse_conv(
    batch: SparseBatch,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    backend: str | Backend = "auto",
) -> SparseBatch:
    """Convolve with the result that a dense convolution would give at every site.

    All output sites that are not active hold the new ground state: what the kernel computes
    from ground state alone. Padding extends the field with the ground state, not with zeros.
    A submanifold geometry computes the input's active sites only.

    Args:
        batch: N active sites with C_in channels.
        weight: Shape (K, C_in, C_out), taps in row-major order. Device of the features.
        bias: Shape (C_out,), or None.
        geometry: Window, stride, padding and the rule for active sites.
        backend: Does the arithmetic. It decides speed and rounding, nothing else.

    Returns:
        M active sites with C_out channels. Differentiable in features, ground state, weight
        and bias. Under autocast the product is taken in autocast's dtype.

    Raises:
        ValueError: If the kernel does not fit into the field, or ``weight`` does not have
            shape (K, C_in, C_out).
        BackendUnsupportedError: If the backend cannot run this geometry, dtype or device.

    Source:
        B. Graham, Spatially-sparse convolutional neural networks, 2014, arXiv:1409.6070.

    Example:
        One active site in the middle of a 5 x 5 field lies in every 3 x 3 window:

        >>> field = torch.zeros(1, 1, 5, 5)
        >>> field[0, 0, 2, 2] = 1.0
        >>> weight, bias = torch.ones(9, 1, 2), torch.tensor([0.0, 0.5])
        >>> out = sparse_conv(SparseBatch.from_dense(field), weight, bias, ConvGeometry((3, 3)))
        >>> out.num_sites, out.ground_state
        (9, tensor([0.0000, 0.5000]))
    """
    _check_weight(batch, weight, geometry)
    features, ground, weight = cast_together(batch.features, batch.ground_state, weight)
    request = OpRequest(geometry, features.device.type, features.dtype)
    engine = resolve_backend(backend, request)
    rulebook = engine.build_kernel_map(batch.active_set, geometry)
    bias = None if bias is None else bias.to(features.dtype)
    takes_ground = getattr(engine, "takes_ground", None)
    if takes_ground is not None and takes_ground(features, weight, rulebook):
        operands = features, ground, weight, bias, rulebook
        rows, new_ground = engine.convolve_with_ground(*operands)  # type: ignore[attr-defined]  # optional
    else:
        new_ground = ground @ weight.sum(0)
        new_ground = new_ground if bias is None else new_ground + bias
        rows = engine.convolve(features - ground, weight, rulebook) + new_ground
    return SparseBatch(rulebook.output, rows, new_ground, validate=False)


def inverse_conv(
    batch: SparseBatch,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    fine: ActiveSet,
    backend: str | Backend = "auto",
) -> SparseBatch:
    """Transposed convolution back to the sites of a finer set.

    Equal to ``conv_transpose(x - g) + bias`` of the dense field at the sites of ``fine``; the new
    ground state is the bias, since a constant field does not stay constant under stride.

    Args:
        batch: Lies on the output sites of ``geometry`` on ``fine``, C_in channels.
        weight: Shape (K, C_in, C_out), taps in row-major order.
        bias: Shape (C_out,), or None.
        geometry: The window that leads from ``fine`` to the sites of ``batch``.
        fine: The sites to return to.
        backend: Does the arithmetic.

    Returns:
        The sites of ``fine`` with C_out channels.

    Raises:
        ValueError: If ``geometry`` does not lead from ``fine`` to the sites of ``batch``, or
            ``weight`` has the wrong shape.
    """
    _check_weight(batch, weight, geometry)
    features, ground, weight = cast_together(batch.features, batch.ground_state, weight)
    request = OpRequest(geometry, features.device.type, features.dtype, transposed=True)
    engine = resolve_backend(backend, request)
    rulebook = engine.build_kernel_map(fine, geometry)
    if rulebook.output is not batch.active_set and not torch.equal(
        rulebook.output.coords, batch.active_set.coords
    ):
        raise ValueError(
            f"kernel_size {geometry.kernel_size}, stride {geometry.stride} leads from {fine} to "
            f"{rulebook.output}, but the batch lies on {batch.active_set}: pass the set and the "
            "geometry of the convolution or pooling that made the batch"
        )
    new_ground = features.new_zeros(weight.shape[2]) if bias is None else bias.to(features.dtype)
    rows = engine.convolve(features - ground, weight, rulebook, transposed=True) + new_ground
    return SparseBatch(fine, rows, new_ground, validate=False)


def linear(batch: SparseBatch, weight: Tensor, bias: Tensor | None) -> SparseBatch:
    """Apply one matrix (C_in, C_out) to every site: a 1x1 convolution, network in network."""
    if weight.ndim != 2 or weight.shape[0] != batch.num_channels:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, expected ({batch.num_channels}, C_out): the "
            f"batch has {batch.num_channels} channels"
        )
    features, ground, weight = cast_together(batch.features, batch.ground_state, weight)
    if bias is None:
        return batch.replace(features @ weight, ground @ weight)
    bias = bias.to(features.dtype)
    return batch.replace(torch.addmm(bias, features, weight), ground @ weight + bias)


def elementwise(batch: SparseBatch, function: Callable[[Tensor], Tensor]) -> SparseBatch:
    """Apply an elementwise function to every site, the ground state included.

    Args:
        batch: N sites with C channels.
        function: Takes rows of shape (N, C), which it may not change; the ground state is one row.
    """
    return batch.replace(function(batch.features), function(batch.ground_state[None])[0])


def max_pool(batch: SparseBatch, geometry: ConvGeometry) -> SparseBatch:
    """Take the maximum of each window; absent sites stand in it as the ground state.

    The first maximum in row-major order receives the gradient, as in dense pooling. Slots
    outside the field never count. The ground state does not change.

    Raises:
        ValueError: If the window does not fit into the field, is submanifold, or is padded so
            far that a window could lie outside the field.
    """
    rulebook = _pooling_map(batch, geometry)
    ground = batch.ground_state
    if not isinstance(rulebook, FullFieldMap):
        rows, ground = max_of_windows(batch.features, ground, rulebook)
    elif has_dense_pooling(batch.features, rulebook):
        rows = max_of_fields(batch.features, rulebook)
    else:
        rows, _ = max_of_windows(batch.features, ground.detach(), rulebook)  # it is nowhere
    return SparseBatch(rulebook.output, rows, ground, validate=False)


def avg_pool(batch: SparseBatch, geometry: ConvGeometry) -> SparseBatch:
    """Take the mean of the slots of each window that lie inside the field.

    The ground state does not change. Raises as `max_pool`.
    """
    rulebook = _pooling_map(batch, geometry)
    rows = avg_of_windows(batch.features, batch.ground_state, rulebook)
    return SparseBatch(rulebook.output, rows, batch.ground_state, validate=False)


def site_values(batch: SparseBatch) -> Tensor:
    """Return the one site of each 1 x ... x 1 field, shape (B, C); empty samples read the ground.

    Raises:
        ValueError: If the field has more than one site.
    """
    if batch.active_set.volume != 1:
        raise ValueError(
            f"the field still has shape {batch.spatial_shape}, and one site per sample is to be "
            "read: add levels, take a smaller field, or readout='mean' or 'max'"
        )
    ground = batch.ground_state.expand(batch.batch_size, -1)
    return ground.index_copy(0, batch.coords[:, 0].long(), batch.features)


def field_mean(batch: SparseBatch) -> Tensor:
    """Return the mean over all sites of each sample, active or not, shape (B, C)."""
    samples = batch.coords[:, 0].long()
    excess = (batch.features - batch.ground_state) / batch.active_set.volume
    ground = batch.ground_state.expand(batch.batch_size, -1)
    return ground.index_add(0, samples, excess)


def field_max(batch: SparseBatch) -> Tensor:
    """Return the maximum over all sites of each sample, shape (B, C).

    Where sites tie, each takes an equal share of the gradient.
    """
    samples = batch.coords[:, 0].long()
    full = batch.active_set.sites_per_sample() == batch.active_set.volume
    floor = torch.where(full[:, None], -torch.inf, batch.ground_state)
    index = samples[:, None].expand_as(batch.features)
    return floor.scatter_reduce(0, index, batch.features, "amax")


def is_recomputing() -> bool:
    """Return whether a forward pass runs within a backward pass, as torch.utils.checkpoint does."""
    return bool(torch._C._current_graph_task_id() != -1)


def cast_together(features: Tensor, ground: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Bring the operands of a product to one dtype: autocast's, if it is on.

    As in torch, autocast leaves float64 alone.
    """
    dtype = dtype_of_product(features, weight)
    if dtype is not None:
        return features.to(dtype), ground.to(dtype), weight.to(dtype)
    if features.dtype != weight.dtype:
        raise TypeError(
            f"the batch is {features.dtype} and the weights are {weight.dtype}: convert one with "
            f"batch.to({weight.dtype}) or layer.to({features.dtype})"
        )
    return features, ground, weight


def dtype_of_product(features: Tensor, weight: Tensor) -> torch.dtype | None:
    """Return the dtype that autocast, if it is on, has products of these computed in, else None."""
    device = features.device.type
    if torch.is_autocast_enabled(device) and torch.float64 not in (features.dtype, weight.dtype):
        return torch.get_autocast_dtype(device)
    return None


def _check_weight(batch: SparseBatch, weight: Tensor, geometry: ConvGeometry) -> None:
    expected = (geometry.num_taps, batch.num_channels)
    if weight.ndim != 3 or weight.shape[:2] != expected:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, expected ({expected[0]}, {expected[1]}, "
            f"C_out): kernel_size {geometry.kernel_size} has {expected[0]} taps and the batch has "
            f"{expected[1]} channels"
        )


def _pooling_map(batch: SparseBatch, geometry: ConvGeometry) -> KernelMap:
    if geometry.activity is Activity.SUBMANIFOLD:
        raise ValueError("pooling has no submanifold form: use a dilating ConvGeometry")
    extents = [
        d * (k - 1) + 1 for d, k in zip(geometry.dilation, geometry.kernel_size, strict=True)
    ]
    if any(max(pair) >= extent for pair, extent in zip(geometry.padding, extents, strict=True)):
        raise ValueError(
            f"padding {geometry.padding} is as wide as the window {geometry.kernel_size}: a window "
            "could lie outside the field, where there is nothing to pool; pad less"
        )
    return kernel_map(batch.active_set, geometry)
