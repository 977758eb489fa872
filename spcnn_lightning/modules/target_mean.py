"""The mean over all targets of an optimiser step: of all processes and accumulated batches."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Reduce = Callable[[Tensor], Tensor]
"""Adds a tensor up over all processes and returns the sum, the same on each."""


class TargetMean:
    """Makes the gradient of an optimiser step that of the mean loss over all its targets.

    A strategy of Lightning averages gradients over processes, and the trainer over the batches that
    it accumulates, as if all of them had equally many targets. Here each batch is weighted so that
    n processes compute the gradient of one process with the joined batch, whatever their sizes: the
    loss of a batch is ``sum * processes / targets of all processes``. How many targets the step has
    is known after its last batch only, so `correct` then multiplies the gradients by what the sizes
    of its batches differ from that of the first one: by 1 where all are equal.

    A process that has no target contributes a zero. The loss must depend on every parameter all the
    same, as that of a network on an empty batch does.
    """

    def __init__(self) -> None:
        self._counts: dict[int, Tensor] = {}

    def start_step(self) -> None:
        """Forget the batches of the last optimiser step."""
        self._counts.clear()

    def weigh(
        self, total: Tensor, count: int, batch_idx: int, num_processes: int, reduce: Reduce
    ) -> tuple[Tensor, Tensor]:
        """Return the loss to differentiate, and the mean loss of the batch over all processes.

        All processes must call it, for it communicates.

        Args:
            total: Sum of the losses of this process's targets, shape ().
            count: Number of these targets, at most 2**24 over all processes.
            batch_idx: Number of the batch; the same batch may come again.
            num_processes: How many processes the gradients are averaged over.
            reduce: Adds up over processes.

        Returns:
            Both of shape (); the second without a graph, and zero if there is no target.
        """
        dtype = torch.promote_types(total.dtype, torch.float32)  # half counts to 2048 only
        share = torch.stack([total.detach().to(dtype), total.new_tensor(count, dtype=dtype)])
        everything, targets = reduce(share).unbind()
        self._counts[batch_idx] = targets
        loss = total * (num_processes / self._reference).to(total.dtype)
        return loss, everything / targets.clamp(min=1)

    def correct(self, parameters: Iterable[nn.Parameter], accumulated: int) -> None:
        """Turn accumulated gradients into those of the mean; call it before the step.

        Args:
            parameters: Those that the optimiser is about to change.
            accumulated: What the trainer divided the losses by.
        """
        if accumulated == 1 or not self._counts:
            return
        targets = torch.stack(list(self._counts.values())).sum().clamp(min=1)
        factor = self._reference * accumulated / targets
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.dtype))

    @property
    def _reference(self) -> Tensor:
        """Number of targets that losses are divided by: those of the step's first batch."""
        return next(iter(self._counts.values())).clamp(min=1)
