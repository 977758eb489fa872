"""Lanes: chains of operations on the threads of torch."""

import contextlib
import gc
import multiprocessing
import signal
import threading
import weakref

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spcnn_lightning.compiled.threads import has_lanes, in_lanes, num_threads

CPU = torch.device("cpu")
LANES = [slice(0, 2), slice(2, 3), slice(3, 7)]


@pytest.fixture
def two_threads():
    own = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(own)


def test_every_lane_is_done_once_by_threads_side_by_side(two_threads):
    meeting = threading.Barrier(2, timeout=30)

    def lane(rows):
        meeting.wait()
        return rows, threading.get_native_id(), num_threads()

    found = in_lanes(lane, LANES[:2])
    assert [rows for rows, *_ in found] == LANES[:2]
    assert len({thread for _, thread, _ in found}) == 2
    assert [threads for *_, threads in found] == [1, 1]
    assert num_threads() == 2


def test_the_threads_of_torch_stay_where_lanes_are_fewer():
    own = torch.get_num_threads()
    torch.set_num_threads(4)
    meeting = threading.Barrier(4, timeout=30)

    def lane(rows):
        meeting.wait()
        return threading.get_native_id()

    every = [slice(number, number + 1) for number in range(4)]
    before = set(in_lanes(lane, every))
    torch.ones(2_000, 1_000).exp_()
    assert set(in_lanes(lambda rows: threading.get_native_id(), every[:2])) <= before
    assert set(in_lanes(lane, every)) == before
    torch.set_num_threads(own)


def test_lanes_may_be_more_than_threads(two_threads):
    assert in_lanes(lambda rows: rows.stop, LANES) == [2, 3, 7]
    # A lane within a lane gets no threads of its own.
    inner = in_lanes(lambda rows: in_lanes(lambda part: part.start + rows.start, LANES), LANES)
    assert inner == [[0, 2, 3], [2, 4, 5], [3, 5, 6]]


@pytest.mark.parametrize("inference", [True, False])
def test_lanes_write_to_tensors_of_any_mode_and_record_no_gradients(inference, two_threads):
    with torch.inference_mode(inference):
        weight = torch.ones(2, 2, requires_grad=not inference)
        out = torch.zeros(7, 2)

        def lane(rows):
            torch.mm(torch.ones(7, 2)[rows], weight, out=out[rows])

        in_lanes(lane, LANES)
        assert torch.equal(out, torch.full((7, 2), 2.0))
        assert not out.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("failing", LANES)
def test_a_failing_lane_is_told_after_all_have_ended(failing, two_threads):
    ended = []

    def lane(rows):
        if rows == failing:
            raise MemoryError("no room")
        ended.append(rows)

    with pytest.raises(MemoryError, match="no room"):
        in_lanes(lane, LANES)
    # One thread's later lanes fall with it.
    assert len(ended) >= len(LANES) - 2
    assert in_lanes(lambda rows: rows.stop, LANES) == [2, 3, 7]


def test_what_the_handler_of_a_signal_raises_is_raised(two_threads):
    class StopError(Exception):
        pass

    def stop(number, frame):
        raise StopError

    def lane(rows):
        for _ in range(20):
            torch.ones(64, 64).exp_()

    before = signal.signal(signal.SIGALRM, stop)
    raised = 0
    try:
        for number in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.00001 * number)
                for _ in range(100):
                    in_lanes(lane, LANES)
            except StopError:
                raised += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert num_threads() == 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised == 200


def test_a_failed_lane_is_forgotten(two_threads):
    class Large:
        pass

    seen = []

    def lane(rows):
        large = Large()
        seen.append(weakref.ref(large))
        raise MemoryError("no room")

    gc.disable()
    try:
        with contextlib.suppress(MemoryError):
            in_lanes(lane, LANES)
        assert seen
        assert not any(large() for large in seen)
    finally:
        gc.enable()


def test_who_watches_operations_sees_all_of_them(two_threads):
    assert has_lanes(CPU)
    assert not has_lanes(torch.device("meta"))
    with FlopCounterMode(display=False):
        assert not has_lanes(CPU)
    torch.set_num_threads(1)
    assert not has_lanes(CPU)


def test_lanes_work_in_a_child_process(two_threads):
    in_lanes(lambda rows: rows, LANES)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_in_child).get(timeout=60) == [2, 3, 7]


def _in_child():
    return in_lanes(lambda rows: rows.stop, LANES)


def test_without_openmp_lanes_are_done_one_after_the_other(two_threads, monkeypatch):
    monkeypatch.setattr("spcnn_lightning.compiled.threads._openmp", lambda: None)
    assert not has_lanes(CPU)
    assert in_lanes(lambda rows: rows.stop, LANES) == [2, 3, 7]
