"""Networks written in the shorthand of the paper: 100C3-MP2-200C2-...-600C2-output."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerSpec:
    """One term of the shorthand."""

    kind: str
    """"C": convolution, "MP": max pooling."""
    size: int
    """Width of the window, in sites; also the stride of pooling."""
    channels: int
    """Number of features; 0 for pooling."""
    level: int
    """Number of poolings before its convolution: i in the dropout ramp p * i / l."""


@dataclass(frozen=True)
class NetworkSpec:
    """A parsed network: hidden layers, and the number of classes if the shorthand states it."""

    layers: tuple[LayerSpec, ...]
    num_classes: int | None

    @property
    def levels(self) -> int:
        """Number of poolings, l."""
        return sum(layer.kind == "MP" for layer in self.layers)

    def field_width(self) -> int:
        """Return the width of the field that shrinks to one site, in sites.

        >>> parse_notation("100C3-MP2-200C2-output").field_width()
        6
        """
        width = 1
        for layer in reversed(self.layers):
            width = width * layer.size if layer.kind == "MP" else width + layer.size - 1
        return width


def parse_notation(notation: str) -> NetworkSpec:
    """Read the shorthand of the paper.

    Terms are joined by ``-``: ``kCf`` is a convolution with k features and windows f wide (f = 1:
    network in network), ``MPp`` is max pooling with windows and stride p. A leading ``input`` or
    ``3x126x126`` and a trailing ``softmax`` are allowed. The output layer is either the word
    ``output``, or a last ``kC1`` with k the number of classes.

    Raises:
        ValueError: If a term cannot be read, or there is no output layer.
    """
    terms = [term.strip() for term in notation.split("-")]
    if re.fullmatch(r"input|\d+(x\d+)+", terms[0]):
        terms = terms[1:]
    if terms and terms[-1] == "softmax":
        terms = terms[:-1]
    if not terms or (terms[-1] != "output" and not re.fullmatch(r"\d+C1", terms[-1])):
        raise ValueError(
            f"{notation!r} has no output layer: end it with '-output', or with '-<classes>C1'"
        )
    last = terms.pop()
    layers = tuple(_read_terms(terms, notation))
    if not any(layer.kind == "C" for layer in layers):
        raise ValueError(f"{notation!r} has no hidden convolution, such as 100C3")
    return NetworkSpec(layers, None if last == "output" else int(last[:-2]))


def _read_terms(terms: Sequence[str], notation: str) -> Iterator[LayerSpec]:
    poolings = level = 0
    for term in terms:
        match = re.fullmatch(r"(?:([1-9]\d*)C|MP)([1-9]\d*)", term)
        if match is None:
            raise ValueError(
                f"{term!r} in {notation!r} cannot be read: expected a convolution such as 100C3 "
                "or a pooling such as MP2"
            )
        channels, size = int(match[1] or 0), int(match[2])
        if channels and size > 1:
            # A network-in-network layer belongs to the convolution before it.
            level = poolings
        yield LayerSpec("C" if channels else "MP", size, channels, level)
        poolings += not channels


def deepcnet_notation(levels: int, width: int, network_in_network: bool = False) -> str:
    """Return the shorthand of DeepCNet(l, k) or DeepCNiN(l, k).

    >>> deepcnet_notation(2, 10)
    '10C3-MP2-20C2-MP2-30C2-output'
    >>> deepcnet_notation(1, 10, network_in_network=True)
    '10C3-MP2-10C1-20C2-20C1-output'
    """
    if levels < 1 or width < 1:
        raise ValueError(f"levels is {levels} and width {width}: both must be at least 1")
    terms = [f"{width}C3"]
    for level in range(1, levels + 1):
        terms.append("MP2")
        if network_in_network:
            terms.append(f"{level * width}C1")
        terms.append(f"{(level + 1) * width}C2")
    if network_in_network:
        terms.append(f"{(levels + 1) * width}C1")
    return "-".join([*terms, "output"])
