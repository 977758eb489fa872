"""Signals that a cluster sends to all processes of a job."""

import os
import signal
import sys
import time

import pytest

from spcnn_lightning.datamodules import HandwritingDataModule
from spcnn_lightning.datamodules import workers as workers_module

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_workers_go_on_and_call_no_handler_of_the_main_process(number, tmp_path):
    def handler(number, frame):
        (tmp_path / str(os.getpid())).touch()

    before = signal.signal(number, handler)
    try:
        data = HandwritingDataModule(box=16, num_workers=2, seed=1)
        data.setup("fit")
        loader = data.train_dataloader()
        batches = iter(loader)
        first = [next(batches)]
        for worker in loader._loader._iterator._workers:
            os.kill(worker.pid, number)
        time.sleep(0.2)
        assert len(first + list(batches)) == len(loader)
        data.teardown("fit")
    finally:
        signal.signal(number, before)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_was_told_to_end_does_so_later(monkeypatch):
    monkeypatch.setattr(workers_module, "GRACE_SECONDS", 1)
    data = HandwritingDataModule(box=16, num_workers=1, seed=1)
    data.setup("fit")
    loader = data.train_dataloader()
    batches = iter(loader)
    next(batches)
    (worker,) = loader._loader._iterator._workers
    os.kill(worker.pid, signal.SIGTERM)
    time.sleep(0.3)
    assert worker.is_alive()

    def read_on():
        time.sleep(3)
        list(batches)

    with pytest.raises(RuntimeError, match=r"is killed by signal|exited unexpectedly"):
        read_on()
