"""Metrics of classification that torchmetrics lacks in the form needed here."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy


class Accuracy(MulticlassAccuracy):
    """Share of right predictions among all; a batch may be empty.

    Args:
        num_classes: Number of classes.
        top_k: A prediction is right if the target is among so many of the largest scores.
    """

    def __init__(self, num_classes: int, top_k: int = 1) -> None:
        super().__init__(num_classes, top_k=top_k, average="micro", validate_args=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add scores, shape (B, C), and true classes, int64 of shape (B,)."""
        if target.numel():
            super().update(preds, target)


class ErrorPercent(Accuracy):
    """Share of wrong predictions in percent, the way the paper reports results.

    Args:
        num_classes: Number of classes.
    """

    higher_is_better = False
    plot_upper_bound = 100.0

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


class MeanLoss(Metric):
    """Mean of a loss over targets, from its sum and their number.

    Lightning's own mean over processes divides by a truncated number of targets where processes
    have different ones.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        # So that the order of batches and processes does not show; Apple's GPUs have no float64.
        exact = torch.float32 if torch.backends.mps.is_available() else torch.float64
        self.add_state("total", torch.zeros((), dtype=exact), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: int) -> None:
        """Add the sum of the losses of ``count`` targets, shape ()."""
        self.total += total
        self.count += count

    def compute(self) -> Tensor:
        """Return the mean, float32, shape ()."""
        return (self.total / self.count).float()


def new_metrics(num_classes: int) -> dict[str, Metric]:
    """Return loss, accuracy, error and, with more than 5 classes, top-5 accuracy."""
    metrics: dict[str, Metric] = {
        name: Accuracy(num_classes, top)
        for name, top in (("accuracy", 1), ("top5_accuracy", 5))
        if top < num_classes
    }
    return {"loss": MeanLoss(), **metrics, "error": ErrorPercent(num_classes)}
