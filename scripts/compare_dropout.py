"""Compare dropout that computes nothing it drops with masking, in one process, in turns.

    python scripts/compare_dropout.py --threads 1
    python scripts/compare_dropout.py --network "DeepCNet(6, 100)" --dropout 0,0,0,.1,.2,.3,.4

Prints the median time of a training step without the optimiser, and the median ratio of the rounds:
masking to computing the kept features alone.
"""

import argparse
import copy
import statistics
import sys

import torch

from spcnn_lightning.bench.contender import Setting
from spcnn_lightning.bench.contenders import make_contender
from spcnn_lightning.bench.machine import machine_facts, machine_line
from spcnn_lightning.bench.passes import run_step
from spcnn_lightning.bench.workload import named_workload


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="DeepCNet(5, 100)")
    parser.add_argument("--dropout", default="0.5", help="p of the ramp, or one number per level")
    parser.add_argument("--field", default="strokes")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, metavar="N")
    asked = parser.parse_args()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    levels = [float(text) for text in asked.dropout.split(",")]
    work = named_workload(
        asked.network,
        field=asked.field,
        batch_size=asked.batch_size,
        num_classes=asked.classes,
        dropout=levels if len(levels) > 1 else levels[0],
    )
    setting = Setting(torch.device("cpu"), torch.float32)
    contenders = []
    for masks in (True, False):
        network = copy.deepcopy(work.network)
        network.compute_dropped = masks
        contenders.append(make_contender(asked.backend, network, work.batch, setting))
    rounds = [
        [run_step(c, work.targets).step for c in contenders] for _ in range(asked.repeats + 1)
    ]
    masking, thin = zip(*rounds[1:], strict=True)
    print(f"{work.title}, dropout {asked.dropout}, batch {asked.batch_size}, {asked.backend}")
    print(machine_line(machine_facts(setting.device)))
    print(f"masking {statistics.median(masking) * 1e3:.1f} ms")
    print(f"kept features alone {statistics.median(thin) * 1e3:.1f} ms")
    ratio = statistics.median(one / other for one, other in zip(masking, thin, strict=True))
    print(f"ratio {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
