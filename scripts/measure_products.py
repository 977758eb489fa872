"""Rates of matrix products of the shapes that a convolution has, in lanes, and nothing else.

    python scripts/measure_products.py --threads 2 --layers 100-200 200-300 300-400 400-500

For each pair of channels: the product to all taps (forward), that of its gradients (to inputs), and
the sum for the weights, in blocks of several numbers of rows, in billions of multiply-adds a
second, beside the rate of one large product. It is what a training step could have at best.
"""

import argparse
import time
from collections.abc import Callable

import torch

from spcnn_lightning.bench.machine import gemm_rate
from spcnn_lightning.compiled.threads import in_lanes

ROWS = 12_000
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", default=["100-200", "200-300", "300-400"])
    parser.add_argument("--taps", type=int, default=4)
    parser.add_argument("--blocks", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{asked.threads} threads, {asked.taps} taps, blocks of {asked.blocks} rows")
    print(f"best product: {gemm_rate(torch.device('cpu'), torch.float32) / 1e9:.0f}")
    for layer in asked.layers:
        c_in, c_out = map(int, layer.split("-"))
        for name, product in products(c_in, asked.taps * c_out).items():
            rates = [rate(product, block, c_in * asked.taps * c_out) for block in asked.blocks]
            print(f"{layer:>9} {name:10}", *(f"{some / 1e9:6.0f}" for some in rates))


def products(c_in: int, width: int) -> dict[str, Callable[[slice, int], None]]:
    """Return the products of a layer, as functions of a lane and the rows of a block."""
    x, wide, weight = (
        torch.randn(*shape) for shape in ((ROWS, c_in), (ROWS, width), (c_in, width))
    )

    def forward(lane: slice, block: int) -> None:
        out = torch.empty(block, width)
        for part in parts(lane, block):
            torch.mm(x[part], weight, out=out[: part.stop - part.start])

    def to_inputs(lane: slice, block: int) -> None:
        out = torch.empty(block, c_in)
        for part in parts(lane, block):
            torch.mm(wide[part], weight.T, out=out[: part.stop - part.start])

    def to_weights(lane: slice, block: int) -> None:
        sums = torch.zeros(c_in, width)
        for part in parts(lane, block):
            sums.addmm_(x[part].T, wide[part])

    return {"forward": forward, "to inputs": to_inputs, "to weights": to_weights}


def parts(lane: slice, block: int) -> list[slice]:
    starts = range(lane.start, lane.stop, block)
    return [slice(start, min(start + block, lane.stop)) for start in starts]


def rate(product: Callable[[slice, int], None], block: int, work: int) -> float:
    """Return multiply-adds a second, the best of some repetitions."""
    threads = torch.get_num_threads()
    lanes = parts(slice(0, ROWS), -(-ROWS // threads))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        in_lanes(lambda lane: product(lane, block), lanes)
        times.append(time.perf_counter() - start)
    return ROWS * work / min(times)


if __name__ == "__main__":
    main()
