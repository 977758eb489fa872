"""Check and measure the backends on a GPU: self-tests, waits of the host, the standing workloads.

    python scripts/check_cuda.py --out results
    python scripts/check_cuda.py --out results --backends torch,spconv,dense --workloads a,b

Prints what `spcnn doctor --check` finds, each line at which the host waits for the device in a
training step of the torch backend, and a table for each workload. Other options are those of
`scripts/compare_backends.py`. The exit status is 1 if a backend that is there computes something
wrong, or a workload cannot be measured.
"""

from __future__ import annotations

import argparse
import collections
import sys
import warnings
from pathlib import Path

import compare_backends
import torch
from torch import nn

from spcnn_lightning.bench.values import loss_of, with_fresh_sites
from spcnn_lightning.bench.workload import Workload, named_workload
from spcnn_lightning.commands.main import main as spcnn


def main() -> int:
    """Run the three parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=15)
    asked, rest = parser.parse_known_args()
    print("== self-tests", flush=True)
    status = spcnn(["doctor", "--check", "--device", "cuda"])
    print_waits()
    words = ["--out", asked.out, "--device", "cuda", "--repeats", str(asked.repeats), *rest]
    return max(status, compare_backends.main(words))


def print_waits() -> None:
    """Print where a training step waits, with new kernel maps and with those that are there."""
    for name in ("DeepCNet(5, 100)", "DeepCNiN(5, 100)"):
        workload = named_workload(name, num_classes=3755, dropout=0.5)
        for fresh in (True, False):
            found = waits(workload, workload.network.cuda(), fresh)
            maps = "new kernel maps" if fresh else "kernel maps at hand"
            print(f"\n== waits of the host in a step of {name}, {maps}: {found.total()}")
            for place, count in found.most_common():
                print(f"{count:4} {place}", flush=True)


def waits(workload: Workload, network: nn.Module, fresh: bool) -> collections.Counter[str]:
    """Return how often which line waits, in a step with loss and backward."""
    batch, targets = workload.batch.to("cuda"), workload.targets
    assert targets is not None
    targets = targets.cuda()
    for _ in range(2):  # the first one does what is done once
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                out = network(with_fresh_sites(batch) if fresh else batch)
                loss_of(out, targets).backward()  # type: ignore[no-untyped-call]  # torch's
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return collections.Counter(
        f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)
    )


if __name__ == "__main__":
    sys.exit(main())
