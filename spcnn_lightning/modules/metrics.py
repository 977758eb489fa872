"""Metrics of classification that torchmetrics lacks in the form needed here."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy


class ErrorPercent(MulticlassAccuracy):
    """Share of wrong predictions in percent, the way the paper reports results.

    Args:
        num_classes: Number of classes.
    """

    higher_is_better = False
    plot_upper_bound = 100.0

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="micro", validate_args=False)

    def compute(self) -> Tensor:
        """Return ``100 * wrong / all``, shape (), computed from counts over the whole epoch."""
        # 1 - accuracy would lose digits where the error is small.
        wrong, right = torch.as_tensor(self.fn).sum(), torch.as_tensor(self.tp).sum()
        return 100.0 * wrong / (wrong + right)


class ConfusionMatrix(Metric):
    """How often class ``row`` was taken for class ``column``.

    ``torchmetrics.ConfusionMatrix`` adds up a full matrix in each batch, which costs more than the
    network where there are thousands of classes. This one keeps the pairs and counts them once.

    Args:
        num_classes: Number of classes, C.
    """

    full_state_update = False
    pairs: list[Tensor] | Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("pairs", default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget everything seen so far."""
        super().reset()
        # A rank that saw no sample must offer an integer tensor to the others all the same.
        empty = torch.empty(0, dtype=torch.int64, device=self.device)
        self.update(empty, empty)

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add predicted and true classes, both int64 of shape (B,)."""
        assert isinstance(self.pairs, list)
        self.pairs.append(target * self.num_classes + predicted)

    def compute(self) -> Tensor:
        """Return the counts, int64 of shape (C, C): rows are true classes."""
        pairs = torch.cat(self.pairs) if isinstance(self.pairs, list) else self.pairs
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)


def new_metrics(num_classes: int) -> dict[str, Metric]:
    """Return accuracy, error and, with more than 5 classes, top-5 accuracy; counted exactly."""
    metrics: dict[str, Metric] = {
        name: MulticlassAccuracy(num_classes, top_k=top, average="micro", validate_args=False)
        for name, top in (("accuracy", 1), ("top5_accuracy", 5))
        if top < num_classes
    }
    return metrics | {"error": ErrorPercent(num_classes)}
