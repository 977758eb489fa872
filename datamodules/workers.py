"""What the workers of a DataLoader do with the signals that a cluster sends to all processes."""

from __future__ import annotations

import signal
from typing import Any

GRACE_SECONDS = 60


def keep_working(worker: int) -> None:
    """Leave it to the main process to stop; a ``worker_init_fn``.

    SLURM sends its signals to all processes of a job. A worker that ends takes the run with it
    before the main process has saved its state, and one that was forked would call the main
    process's handlers, which save and ask for another turn. So workers do not hear SIGUSR1 and
    SIGUSR2, and upon SIGTERM end only `GRACE_SECONDS` later, unless the main process ends them.
    """
    for name in ("SIGUSR1", "SIGUSR2"):  # Windows has neither
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: Any) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(GRACE_SECONDS)
