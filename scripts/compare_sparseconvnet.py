"""A submanifold convolution beside that of facebookresearch/SparseConvNet, on the CPU, in one run.

    PYTHONPATH=SparseConvNet python scripts/compare_sparseconvnet.py --threads 2

SparseConvNet is on no registry: build it in its folder, ``python setup.py build_ext --inplace``
(it needs libsparsehash, and torch 2.13 wants ``-std=c++20`` in setup.py). Workload (e): 3 x 3 x 3,
64 to 64 channels, 100,000 sites by chance in 128 x 128 x 128. Each repetition begins with the
coordinates: kernel map, or input layer and rulebook; then forward and backward, in turns.
"""

import argparse
import statistics
import time

import torch

from spcnn_lightning import SparseBatch
from spcnn_lightning.bench.machine import machine_facts, machine_line
from spcnn_lightning.bench.values import with_fresh_sites
from spcnn_lightning.bench.workload import make_field
from spcnn_lightning.nn import SubmanifoldConv


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    print(machine_line(machine_facts(torch.device("cpu"))))
    field = (asked.width,) * 3
    batch = make_field("random", field, 1, asked.channels, num_sites=asked.sites)
    ours = SubmanifoldConv(asked.channels, asked.channels, (3, 3, 3), bias=False)
    steps = {"ours": lambda: step_of_ours(ours, batch)}
    theirs = TheirStep(ours, batch)
    steps["SparseConvNet"] = theirs
    found = {name: step() for name, step in steps.items()}
    check(found)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(asked.repeats + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    medians = {name: 1e3 * statistics.median(some[2:]) for name, some in times.items()}
    for name, median in medians.items():
        print(f"{name:14} {median:7.1f} ms, {median / medians['ours']:.2f} x")


def step_of_ours(layer: SubmanifoldConv, batch: SparseBatch) -> list[torch.Tensor]:
    fresh = with_fresh_sites(batch)
    rows = fresh.features.detach().requires_grad_()
    out = layer(fresh.replace(rows, fresh.ground_state)).features
    layer.weight.grad = None
    out.square().mean().backward()
    return [out.detach(), rows.grad, layer.weight.grad]


class TheirStep:
    def __init__(self, ours: SubmanifoldConv, batch: SparseBatch) -> None:
        import sparseconvnet as scn

        self.weight = ours.weight
        self.coords = batch.coords[:, [1, 2, 3, 0]].long()
        self.rows = batch.features
        field = torch.tensor(batch.spatial_shape)
        self.input = scn.InputLayer(3, field, mode=0)  # no site twice
        channels = ours.in_channels
        self.layer = scn.SubmanifoldConvolution(3, channels, channels, 3, False)
        with torch.no_grad():
            self.layer.weight.copy_(ours.weight[:, None])

    def __call__(self) -> list[torch.Tensor]:
        rows = self.rows.detach().requires_grad_()
        out = self.layer(self.input((self.coords, rows))).features
        self.layer.weight.grad = None
        out.square().mean().backward()
        return [out.detach(), rows.grad, self.layer.weight.grad[:, 0]]


def check(found: dict[str, list[torch.Tensor]]) -> None:
    """Raise if they do not compute the same."""
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
    print("outputs and gradients agree")


if __name__ == "__main__":
    main()
