"""Networks built from the paper's shorthand; DeepCNet and DeepCNiN are that with a formula."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from spcnn_lightning.core.geometry import per_axis
from spcnn_lightning.networks.notation import (
    LayerSpec,
    NetworkSpec,
    deepcnet_notation,
    parse_notation,
)
from spcnn_lightning.networks.sparse_network import SparseNetwork
from spcnn_lightning.nn import Activation, FeatureDropout, MaxPool, NetworkInNetwork, SparseConv
from spcnn_lightning.nn.initialisation import Initialisation, initialise
from spcnn_lightning.nn.pooling import ReadoutMode

FEW_CLASSES = 100
"""With more, the classifier of ``init="he"`` starts at a hundredth of Xavier's values."""


class NotationNetwork(SparseNetwork):
    """Any network written in the paper's shorthand; see `parse_notation`.

    Args:
        notation: ``"320C2-320C2-MP2-640C2-...-10C1"``, say.
        in_channels: Features of an input site.
        num_classes: C; may be left out if the shorthand ends with ``<classes>C1``.
        dimensions: Number of spatial axes, D.
        spatial_shape: Sizes of the field; the one that shrinks to one site if not given.
        dropout: A number p means p * i / l after each hidden layer of level i of l; a sequence
            gives one number for each of the levels 0..l.
        slope: Negative slope of the leaky ReLU; 0 is ReLU.
        init: Start values: ``"paper"`` or ``"he"``, whose classifier is small for many classes.
        readout: ``"site"``, or ``"mean"`` or ``"max"`` for larger fields.
        backend: Name of the engine, or "auto".
        checkpoint_levels: Less memory for more time in training; see `SparseNetwork`.

    Raises:
        ValueError: If the shorthand cannot be read, the number of classes is missing or
            contradicts it, or the field is too small.
    """

    def __init__(
        self,
        notation: str,
        in_channels: int,
        num_classes: int | None = None,
        dimensions: int = 2,
        spatial_shape: Sequence[int] | None = None,
        dropout: float | Sequence[float] = 0.0,
        slope: float = 0.0,
        init: Initialisation = "he",
        readout: ReadoutMode = "site",
        backend: str = "auto",
        checkpoint_levels: bool = False,
    ) -> None:
        spec = parse_notation(notation)
        if num_classes is None:
            num_classes = spec.num_classes
        if num_classes is None or spec.num_classes not in (None, num_classes):
            raise ValueError(
                f"num_classes is {num_classes} and {notation!r} ends with "
                f"{spec.num_classes or 'no number of'} classes: give num_classes, and the same one"
            )
        shape = spatial_shape or (spec.field_width(),) * dimensions
        per_axis(shape, dimensions, "spatial_shape")
        layers, channels = _hidden_layers(spec, in_channels, dimensions, dropout, slope, init)
        super().__init__(
            layers, channels, num_classes, in_channels, shape, readout, checkpoint_levels
        )
        # Xavier's is alpha = 1 in the programs of the paper. What all samples share dominates the
        # features at first. With hundreds of classes an optimiser unlearns that by switching the
        # features off, and stays at chance, unless the scores are next to zero anyway.
        small = init == "he" and num_classes > FEW_CLASSES
        nn.init.xavier_uniform_(self.classifier.weight, 0.01 if small else 1.0)
        nn.init.zeros_(self.classifier.bias)
        self.notation = notation
        self.backend = backend


class DeepCNet(NotationNetwork):
    """DeepCNet(l, k): a convolution and 2x2 max pooling per level, ReLU.

    l + 1 convolutions, the first 3 wide and the others 2, the n-th with n * k features, and l
    poolings 2/2 between them. The field is 3 * 2**l sites wide.

    Args:
        levels: l, at least 1.
        width: k, features of the first convolution.
        in_channels: Features of an input site.
        num_classes: C.
        dimensions: Number of spatial axes, D.
        spatial_shape: Sizes of the field; (3 * 2**levels, ...) if not given.
        dropout: p for the ramp p * i / l over the levels i = 0..l, or one number per level.
        slope: Negative slope of the leaky ReLU; 0 is ReLU, as in the paper.
        init: Start values: ``"paper"`` or ``"he"``, whose classifier is small for many classes.
        readout: ``"site"``, or ``"mean"`` or ``"max"`` for larger fields.
        backend: Name of the engine, or "auto".
        checkpoint_levels: Less memory for more time in training; see `SparseNetwork`.

    Raises:
        ValueError: If the field is too small for the levels.

    Source:
        B. Graham, arXiv:1409.6070, with 2/2 pooling as in its figures.
    """

    _network_in_network = False

    def __init__(
        self,
        levels: int,
        width: int,
        in_channels: int,
        num_classes: int,
        dimensions: int = 2,
        spatial_shape: Sequence[int] | None = None,
        dropout: float | Sequence[float] = 0.0,
        slope: float = 0.0,
        init: Initialisation = "he",
        readout: ReadoutMode = "site",
        backend: str = "auto",
        checkpoint_levels: bool = False,
    ) -> None:
        super().__init__(
            deepcnet_notation(levels, width, self._network_in_network),
            in_channels,
            num_classes,
            dimensions,
            spatial_shape,
            dropout,
            slope,
            init,
            readout,
            backend,
            checkpoint_levels,
        )


class DeepCNiN(DeepCNet):
    """DeepCNiN(l, k): DeepCNet with a 1x1 layer after each pooling and after the last convolution.

    The activation is the very leaky ReLU, slope 1/3. Other arguments as in `DeepCNet`.
    """

    _network_in_network = True

    def __init__(
        self,
        levels: int,
        width: int,
        in_channels: int,
        num_classes: int,
        dimensions: int = 2,
        spatial_shape: Sequence[int] | None = None,
        dropout: float | Sequence[float] = 0.0,
        slope: float = 1 / 3,
        init: Initialisation = "he",
        readout: ReadoutMode = "site",
        backend: str = "auto",
        checkpoint_levels: bool = False,
    ) -> None:
        super().__init__(
            levels,
            width,
            in_channels,
            num_classes,
            dimensions,
            spatial_shape,
            dropout,
            slope,
            init,
            readout,
            backend,
            checkpoint_levels,
        )


network_from_notation = NotationNetwork
"""The class under the name of what it does."""


def _hidden_layers(
    spec: NetworkSpec,
    in_channels: int,
    dimensions: int,
    dropout: float | Sequence[float],
    slope: float,
    init: Initialisation,
) -> tuple[list[nn.Module], int]:
    ramp = dropout_ramp(dropout, spec.levels)
    layers: list[nn.Module] = []
    channels = in_channels
    for number, term in enumerate(spec.layers):
        window = (term.size,) * dimensions
        if term.kind == "MP":
            layers.insert(_place_of_pooling(layers, slope), MaxPool(window))
            continue
        layer: SparseConv | NetworkInNetwork
        if term.size == 1:
            layer = NetworkInNetwork(channels, term.channels)
        else:
            layer = SparseConv(channels, term.channels, window)
        initialise(
            layer.weight,
            init,
            kernel_size=term.size,
            pool_size=_pool_size_after(spec.layers, number),
            slope=slope,
        )
        layers += [layer, Activation(nn.LeakyReLU(slope) if slope else nn.ReLU())]
        if ramp[term.level]:
            layers.append(FeatureDropout(ramp[term.level], layer=number))
        channels = term.channels
    return layers, channels


def _place_of_pooling(layers: Sequence[nn.Module], slope: float) -> int:
    """Return the place before the activation and the dropout that the pooling follows.

    Neither changes the order of values, so the maximum may be taken first: the same result and
    the same gradients, from a quarter of the sites.
    """
    place = len(layers)
    while slope >= 0 and place and isinstance(layers[place - 1], (Activation, FeatureDropout)):
        place -= 1
    return place


def dropout_ramp(dropout: float | Sequence[float], levels: int) -> list[float]:
    """Return the share of features to drop on each of the levels 0..l.

    >>> dropout_ramp(0.5, 5)
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    if isinstance(dropout, (int, float)):
        return [dropout * level / max(1, levels) for level in range(levels + 1)]
    ramp = [float(p) for p in dropout]
    if len(ramp) != levels + 1:
        raise ValueError(
            f"dropout has {len(ramp)} entries, expected {levels + 1}: one for each of the levels "
            f"0..{levels}, or one number for the ramp p * i / {levels}"
        )
    return ramp


def _pool_size_after(layers: Sequence[LayerSpec], number: int) -> int:
    following = layers[number + 1 : number + 2]
    return following[0].size if following and following[0].kind == "MP" else 1
