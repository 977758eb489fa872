"""Which start values make a deep network learn at once: losses after N steps from several seeds.

Trains DeepCNet (ReLU) and DeepCNiN (leaky ReLU) on the digits that ship with the package, with
each initialisation and optimiser, and prints the mean loss of the last ten steps for each seed.
Chance is log(10) = 2.30.
"""

from __future__ import annotations

import argparse
import itertools

import torch
from torch.nn.functional import cross_entropy

from spcnn_lightning.datamodules import HandwritingDataModule
from spcnn_lightning.networks import DeepCNet, DeepCNiN

OPTIMISERS = {
    "AdamW 0.002": lambda p: torch.optim.AdamW(p, lr=0.002),
    "SGD 0.01, momentum 0.9": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
}


def last_loss(
    family: type, init: str, optimiser: str, seed: int, args: argparse.Namespace
) -> float:
    """Return the mean loss of the last ten steps of a short training."""
    torch.manual_seed(seed)
    data = HandwritingDataModule(seed=seed)
    data.setup("fit")
    network = family(args.levels, args.width, data.in_channels, data.num_classes, init=init)
    optimizer = OPTIMISERS[optimiser](network.parameters())
    losses: list[float] = []
    batches = itertools.chain.from_iterable(itertools.repeat(data.train_dataloader()))
    for batch, targets in itertools.islice(batches, args.steps):
        loss = cross_entropy(network(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--width", type=int, default=16)
    args = parser.parse_args()
    for family, optimiser in itertools.product((DeepCNet, DeepCNiN), OPTIMISERS):
        for init in ("paper", "he"):
            losses = [last_loss(family, init, optimiser, s, args) for s in range(args.seeds)]
            numbers = " ".join(f"{loss:.2f}" for loss in sorted(losses))
            print(f"{family.__name__:8} {optimiser:24} {init:5}  {numbers}", flush=True)


if __name__ == "__main__":
    main()
