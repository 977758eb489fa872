"""Which start values make a deep network learn at once: losses after N steps from several seeds.

Trains DeepCNet (ReLU) and DeepCNiN (leaky ReLU) on the digits that ship with the package, with
each initialisation and optimiser, and prints the mean loss of the last ten steps for each seed.
Chance is log(10) = 2.30. With ``--classes 500`` the data are simulated Chinese characters, and
chance is log(500) = 6.21.
"""

from __future__ import annotations

import argparse
import itertools

import torch
from torch.nn.functional import cross_entropy

from spcnn_lightning.datamodules import HandwritingDataModule, SimulatedHanzi
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
    source = SimulatedHanzi(args.classes, 60, 10) if args.classes else None
    data = HandwritingDataModule(source, box=2**args.levels, seed=seed)
    data.setup("fit")
    network = family(args.levels, args.width, data.in_channels, data.num_classes, init=init)
    optimizer = OPTIMISERS[optimiser](network.parameters())
    start = 1 / max(args.warmup, 1)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, start, total_iters=args.warmup)
    losses: list[float] = []
    batches = itertools.chain.from_iterable(itertools.repeat(data.train_dataloader()))
    for batch, targets in itertools.islice(batches, args.steps):
        loss = cross_entropy(network(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm_up.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--classes", type=int, default=0, help="of simulated characters")
    parser.add_argument("--warmup", type=int, default=0, help="steps")
    args = parser.parse_args()
    for family, optimiser in itertools.product((DeepCNet, DeepCNiN), OPTIMISERS):
        for init in ("paper", "he"):
            losses = [last_loss(family, init, optimiser, s, args) for s in range(args.seeds)]
            numbers = " ".join(f"{loss:.2f}" for loss in sorted(losses))
            print(f"{family.__name__:8} {optimiser:24} {init:5}  {numbers}", flush=True)


if __name__ == "__main__":
    main()
