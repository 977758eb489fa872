"""A plain dense network that pads with zeros in every layer, for comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from spcnn_lightning import SparseBatch


class ZeroPadded(nn.Module):
    """3 x 3 convolutions that keep the field's size, pooling between them, and a mean at the end.

    Args:
        width: Level n = 0..levels has (n + 1) * width channels, as in DeepCNet.
        levels: Number of 2 x 2 poolings.
        in_channels: Features of a pixel.
        num_classes: Number of classes.
        spatial_shape: Sizes of the field.
    """

    def __init__(
        self,
        width: int,
        levels: int,
        in_channels: int,
        num_classes: int,
        spatial_shape: Sequence[int],
    ) -> None:
        super().__init__()
        if min(spatial_shape) < 2**levels:
            raise ValueError(f"a field of {tuple(spatial_shape)} is too small for {levels} levels")
        layers: list[nn.Module] = []
        channels = in_channels
        for level in range(levels + 1):
            layers += [nn.MaxPool2d(2)] if level else []
            layers += [nn.Conv2d(channels, (level + 1) * width, 3, padding=1), nn.ReLU()]
            channels = (level + 1) * width
            nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
            nn.init.zeros_(layers[-2].bias)
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)
        self.num_classes = num_classes

    def forward(self, batch: SparseBatch) -> Tensor:
        """Return scores, shape (B, num_classes)."""
        scores: Tensor = self.classifier(self.layers(batch.to_dense()).mean((2, 3)))
        return scores
