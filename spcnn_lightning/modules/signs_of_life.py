"""What the processes of a run know of one another: who is alive, where it is, and why it failed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from torch.distributed import TCPStore  # type: ignore[attr-defined]


class Sign(NamedTuple):
    """What a process last said of itself.

    Attributes:
        host: Name of its machine.
        pid: Number of the process there.
        place: What it was doing.
        beat: Grows with each sign.
    """

    host: str
    pid: int
    place: str
    beat: int

    def encode(self) -> str:
        """Return the sign as one line."""
        return "\t".join(map(str, (self.host, self.pid, self.beat, self.place)))

    @classmethod
    def decode(cls, line: bytes) -> Sign:
        """Return the sign that `encode` wrote."""
        host, pid, beat, place = line.decode().split("\t", 3)
        return cls(host, int(pid), place, int(beat))


class SignsOfLife:
    """A table that all processes write to and read from, beside the collectives of training.

    Any method raises a ``RuntimeError`` if the process of rank 0, which keeps the table, is gone.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
        address: Where rank 0 is.
        port: Where its table is; 0 in rank 0, which chooses one.
        patience: Seconds without a sign after which a process on another machine, or one that hangs
            as a whole, counts as dead. One that ended on this machine is seen at once.
    """

    def __init__(
        self, rank: int, world_size: int, address: str, port: int, patience: float
    ) -> None:
        self.rank, self.world_size, self.patience = rank, world_size, patience
        self._store = TCPStore(
            address,
            port,
            is_master=rank == 0,
            wait_for_workers=False,
            timeout=timedelta(seconds=patience),
        )
        self.port = self._store.port
        self._own = Sign(socket.gethostname(), os.getpid(), "starting", 0)
        self._last: dict[int, tuple[Sign, float]] = {}

    def give(self, place: str) -> None:
        """Say that this process is alive, and what it is doing."""
        self._own = self._own._replace(place=place, beat=self._own.beat + 1)
        self._store.set(f"sign/{self.rank}", self._own.encode())

    def give_failure(self, reason: str) -> None:
        """Say why this process ends."""
        self._store.set(f"failure/{self.rank}", reason)

    def take_leave(self) -> None:
        """Say that this process needs no watching any more."""
        self.give("has finished")
        self._store.set(f"leave/{self.rank}", "")

    def everyone_left(self) -> bool:
        """Whether nobody needs the table any more."""
        return all(self._store.check([f"leave/{rank}"]) for rank in range(self.world_size))

    def lost(self) -> str | None:
        """Return a sentence about the first process that failed or died, or None.

        Every process must have given a sign before.
        """
        for rank in self._others():
            if self._store.check([f"failure/{rank}"]):
                return f"{self._name(rank)} failed: {self._store.get(f'failure/{rank}').decode()}"
        for rank in self._others():
            if self._store.check([f"leave/{rank}"]):
                continue
            sign, since = self._seen(rank)
            if sign.host == self._own.host and not _runs(sign.pid):
                return f"{self._name(rank)} died in {sign.place}"
            silent = time.monotonic() - since
            if silent > self.patience:
                return f"{self._name(rank)} gave no sign of life for {silent:.0f} s in {sign.place}"
        return None

    def places(self) -> str:
        """Return where each process was when it last gave a sign."""
        seen = {rank: self._seen(rank)[0].place for rank in self._others()}
        seen[self.rank] = self._own.place
        return "; ".join(f"rank {rank}: {place}" for rank, place in sorted(seen.items()))

    def _others(self) -> Iterator[int]:
        return (rank for rank in range(self.world_size) if rank != self.rank)

    def _name(self, rank: int) -> str:
        sign, _ = self._seen(rank)
        return f"rank {rank} (process {sign.pid} on {sign.host})"

    def _seen(self, rank: int) -> tuple[Sign, float]:
        """Return the last sign of a process and when, by the clock of this one, it was new."""
        sign = Sign.decode(self._store.get(f"sign/{rank}"))
        if rank not in self._last or self._last[rank][0].beat != sign.beat:
            self._last[rank] = sign, time.monotonic()
        return self._last[rank]


def _runs(pid: int) -> bool:
    """Whether a process of this machine runs; one that ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # no such folder on this system
        return True
    return status.rpartition(")")[2].split()[0] != "Z"
