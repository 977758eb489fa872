"""A shallow dense network, for comparisons: two convolutions, as LeNet-5 has."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from spcnn_lightning import SparseBatch


class ShallowDense(nn.Module):
    """Two 5 x 5 convolutions with 2 x 2 poolings, a hidden layer, and scores.

    Args:
        width: The convolutions have so many and twice as many channels, the hidden layer eight
            times as many.
        in_channels: Features of a site.
        num_classes: Number of classes.
        spatial_shape: Sizes of the field.
    """

    def __init__(
        self, width: int, in_channels: int, num_classes: int, spatial_shape: Sequence[int]
    ) -> None:
        super().__init__()
        sides = [((size - 4) // 2 - 4) // 2 for size in spatial_shape]
        if min(sides) < 1:
            raise ValueError(f"a field of {tuple(spatial_shape)} is too small, expected 16 x 16")
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * sides[0] * sides[1], 8 * width),
            nn.ReLU(),
            nn.Linear(8 * width, num_classes),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.layers[-1].weight, std=0.01)
        self.num_classes = num_classes

    def forward(self, batch: SparseBatch) -> Tensor:
        """Return scores, shape (B, num_classes)."""
        scores: Tensor = self.layers(batch.to_dense())
        return scores
