"""Maximum and mean over windows in which absent sites hold the ground state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spcnn_lightning.compiled import compiled_for
from spcnn_lightning.core.full_field import FullFieldMap
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap

MAX_BUFFER = 2**26
"""Most numbers in a buffer of all windows."""
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def max_of_windows(features: Tensor, ground: Tensor, rulebook: KernelMap) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window, shape (M, C), and the ground state.

    ``features`` has shape (N, C) and ``ground`` (C,). Gradients go to the first maximum.
    """
    x, background = features, ground
    short = features.dtype.itemsize == 2 and features.device.type == "cpu"
    if short and not _moves_bits(features, rulebook):
        # The same maxima: CPUs compare float32 faster.
        x, background = features.float(), ground.float()
    rows: Tensor = _MaxOfWindows.apply(x, background, rulebook)  # type: ignore[no-untyped-call]  # torch's
    return rows.to(features.dtype), ground


def avg_of_windows(features: Tensor, ground: Tensor, rulebook: KernelMap) -> Tensor:
    """Return the mean of each window over its slots inside the field, shape (M, C)."""
    taps = rulebook.geometry.num_taps
    slots: Tensor | int = taps
    if rulebook.outside is not None:
        slots = (taps - rulebook.outside.sum(1, keepdim=True)).to(features.dtype)
    sums: Tensor = _SumOfWindows.apply(features - ground, rulebook)  # type: ignore[no-untyped-call]  # torch's
    return ground + sums / slots


def _moves_bits(rows: Tensor, rulebook: KernelMap) -> bool:
    """Return whether compiled loops pool bfloat16 as it is: where gradients need not be added."""
    return (
        rows.dtype is torch.bfloat16
        and rulebook.outside is None
        and _has_short_winners(rulebook)
        and _windows_are_disjoint(rulebook.geometry)
        and compiled_for(rows.numel(), rows.detach().view(torch.int16))
    )


def _has_short_winners(rulebook: KernelMap) -> bool:
    """Return whether a byte holds the number of each slot, and two numbers more."""
    return rulebook.geometry.num_taps < 255


def has_dense_pooling(features: Tensor, rulebook: FullFieldMap) -> bool:
    """Return whether full fields of such features are best pooled by torch's dense pooling."""
    known = features.dtype in (torch.float32, torch.float64, torch.bfloat16)
    if not known or features.device.type != "cpu" or rulebook.geometry.dimensions > 3:
        return False
    numbers = rulebook.num_pairs * features.shape[1]
    loops = _windows_are_disjoint(rulebook.geometry) and _has_short_winners(rulebook)
    return not (loops and compiled_for(numbers, features))


def max_of_fields(features: Tensor, rulebook: FullFieldMap) -> Tensor:
    """Return the maximum of each window of full fields, shape (M, C), as torch's pooling has it."""
    geometry = rulebook.geometry
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[geometry.dimensions - 1]
    field = features.reshape(*rulebook.input_shape, -1).movedim(-1, 1)
    out: Tensor = pool(
        field, geometry.kernel_size, geometry.stride, padding=0, dilation=geometry.dilation
    )
    return out.movedim(1, -1).reshape(rulebook.num_outputs, -1).contiguous()


class _SumOfWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rulebook: KernelMap) -> Tensor:
        ctx.rulebook = rulebook
        return _sum_rows(x, rulebook.out_to_in)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum_rows(grad, ctx.rulebook.in_to_out), None


def _sum_rows(rows: Tensor, table: Tensor) -> Tensor:
    padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    out = padded.index_select(0, table[:, 0])
    for tap in range(1, table.shape[1]):
        out += padded.index_select(0, table[:, tap])
    return out


class _MaxOfWindows(torch.autograd.Function):
    """The winning slot of each window and channel is kept as a byte; backward only gathers.

    The number of taps stands for the ground state, where its gradient is asked for. Large work on
    a CPU is done by the compiled loops, to the same winners.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, ground: Tensor, rulebook: KernelMap) -> Tensor:
        table, outside = rulebook.out_to_in, rulebook.outside
        ground_row = rulebook.num_inputs
        ctx.rulebook = rulebook
        numbers = table.numel() * x.shape[1]
        plain = outside is None and _has_short_winners(rulebook)
        if _moves_bits(x, rulebook) or (plain and compiled_for(numbers, x, ground)):
            from spcnn_lightning.compiled import pooling

            best, winner = pooling.max_of_windows(x.contiguous(), ground.contiguous(), table)
            ctx.save_for_backward(winner)
            return best
        rows = torch.cat([x, ground[None]])
        if outside is not None:
            rows = torch.cat([rows, torch.full_like(ground[None], -torch.inf)])
            table = table.masked_fill(outside, len(rows) - 1)
        slots = _slot_numbers(table, ground_row)
        at_once = _takes_few_calls(x.device, table.numel() * x.shape[1])
        best, winner = (_max_at_once if at_once else _max_by_tap)(rows, table, slots)
        ctx.save_for_backward(winner)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (winner,) = ctx.saved_tensors
        grad_x = grad_ground = None
        of_sites, of_ground = _gradient_of_sites, _gradient_of_ground
        if _moves_bits(grad, ctx.rulebook) or compiled_for(grad.numel(), grad, winner):
            of_sites, of_ground, grad = _compiled_of_sites, _compiled_of_ground, grad.contiguous()
        if ctx.needs_input_grad[0]:
            grad_x = of_sites(grad, winner, ctx.rulebook)
        if ctx.needs_input_grad[1]:
            grad_ground = of_ground(grad, winner, ctx.rulebook)
        return grad_x, grad_ground, None


def _takes_few_calls(device: torch.device, numbers: int) -> bool:
    """Return whether calls cost more than memory, as on a GPU, and there is enough of that."""
    return device.type != "cpu" and numbers <= MAX_BUFFER


def _max_at_once(rows: Tensor, table: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum of ``rows[table]``, shape (M, C), and the slot number of the first."""
    windows = rows.index_select(0, table.reshape(-1)).view(*table.shape, rows.shape[1])
    best, tap = windows.max(1)
    return best, slots.gather(1, tap)


def _max_by_tap(rows: Tensor, table: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same from one tap after the other."""
    best = rows.index_select(0, table[:, 0])
    slots = slots.T[:, :, None]
    winner = slots[0].expand(best.shape).clone()
    for tap in range(1, table.shape[1]):
        candidate = rows.index_select(0, table[:, tap])
        # Strict: the first of equal values keeps its place. All bits set: it is beaten.
        won = (candidate > best).view(torch.uint8).to(winner.dtype).neg_()
        winner ^= (winner ^ slots[tap]).bitwise_and_(won)
        # Unlike a selection by the comparison, this hands NaN on, as dense pooling does.
        best = torch.maximum(best, candidate, out=best)
    return best, winner


def _compiled_of_sites(grad: Tensor, winner: Tensor, rulebook: KernelMap) -> Tensor:
    from spcnn_lightning.compiled import pooling

    if _windows_are_disjoint(rulebook.geometry) and _has_short_winners(rulebook):
        return pooling.gradient_of_disjoint(
            grad, winner, rulebook.out_to_in, rulebook.num_inputs, rulebook.num_pairs
        )
    return pooling.gradient_of_sites(grad, winner, rulebook.in_to_out)


def _compiled_of_ground(grad: Tensor, winner: Tensor, rulebook: KernelMap) -> Tensor:
    from spcnn_lightning.compiled import pooling

    return pooling.gradient_of_ground(grad, winner, rulebook.geometry.num_taps)


def _gradient_of_ground(grad: Tensor, winner: Tensor, rulebook: KernelMap) -> Tensor:
    """Give the ground state the gradient of the windows that it won."""
    return _keep(grad.clone(), winner == rulebook.geometry.num_taps).sum(0)


def _gradient_of_sites(grad: Tensor, winner: Tensor, rulebook: KernelMap) -> Tensor:
    """Give each input row the gradient of the windows that it won."""
    m, table = rulebook.num_outputs, rulebook.in_to_out
    if m == 0:
        return grad.new_zeros(table.shape[0], grad.shape[1])
    if _windows_are_disjoint(rulebook.geometry):
        if _takes_few_calls(grad.device, grad.numel()):
            # Each site from its one window; the ground state's share falls on a row that is cut.
            slots = torch.cat([rulebook.out_to_in, rulebook.windows[-1:, :1].expand(m, 1)], 1)
            total = grad.new_zeros(rulebook.num_inputs + 1, grad.shape[1])
            return total.scatter_(0, slots.gather(1, winner.long()), grad)[:-1]
        # A site lies in one window at most; M, where there is none, is the largest entry.
        row, tap = table.min(1)
        return _gradient_if_won(grad, winner, row, tap, m)
    total = _gradient_if_won(grad, winner, table[:, 0], 0, m)
    for tap_number in range(1, table.shape[1]):
        total += _gradient_if_won(grad, winner, table[:, tap_number], tap_number, m)
    return total


def _gradient_if_won(
    grad: Tensor, winner: Tensor, row: Tensor, tap: Tensor | int, m: int
) -> Tensor:
    """Return the gradient of each input row from its window ``row`` in which it is slot ``tap``."""
    never = torch.iinfo(winner.dtype).max
    tap = torch.where(row < m, tap, never).to(winner.dtype)
    row = row.clamp(max=m - 1)
    return _keep(grad.index_select(0, row), winner.index_select(0, row) == tap[:, None])


def _keep(values: Tensor, kept: Tensor) -> Tensor:
    """Set the values that are not kept to zero, in place, and return them.

    On a CPU ten times as fast as torch.where; a product would turn what is not finite into NaN.
    """
    bits = _BITS[values.element_size()]
    values.view(bits).bitwise_and_(kept.view(torch.int8).neg().to(bits))
    return values


def _slot_numbers(table: Tensor, ground_row: int) -> Tensor:
    """Return the number of each slot, or that of taps where the ground state is, (M, K)."""
    taps = table.shape[1]
    # One number more stands for "never", in backward.
    dtype = torch.uint8 if taps < 255 else torch.int32
    numbers = torch.arange(taps, device=table.device).where(table != ground_row, taps)
    return numbers.to(dtype)


def _windows_are_disjoint(geometry: ConvGeometry) -> bool:
    return all(
        s > d * (k - 1)
        for k, s, d in zip(geometry.kernel_size, geometry.stride, geometry.dilation, strict=True)
    )
