"""The gate that the threads of a vector environment wait at."""

import contextlib
import os
import select
import threading
import time

import pytest

from vecselect.backends.pool.threads import LockGate, PipeGate, make_gate

THREADS = 5
LONG_S = 30.0


class Waiters:
    """Threads that come to a gate again and again, and count how often they were let go."""

    def __init__(self, gate):
        self.gate = gate
        self.times = [0] * THREADS
        self.ending = False
        self.busy = {}
        self.threads = [
            threading.Thread(target=self.run, args=(place,), daemon=True)
            for place in range(THREADS)
        ]
        for thread in self.threads:
            thread.start()

    def run(self, place):
        wait = self.gate.waiter(place)
        while True:
            wait()
            if self.ending:
                return
            self.times[place] += 1
            if place in self.busy:
                self.busy[place].wait(LONG_S)

    def await_times(self, *times):
        until_s = time.monotonic() + LONG_S
        while self.times != list(times) and time.monotonic() < until_s:
            time.sleep(0.001)
        assert self.times == list(times)

    def end(self):
        self.ending = True
        self.gate.open_for_good()
        for thread in self.threads:
            thread.join(LONG_S)
        assert not any(thread.is_alive() for thread in self.threads)


@pytest.fixture(params=[PipeGate, LockGate])
def waiters(request):
    made = Waiters(request.param(THREADS))
    yield made
    made.end()


def test_every_thread_comes_through_each_opening_once(waiters):
    for number in range(50):
        if number in (0, 49):
            time.sleep(0.02)  # nobody comes through before it is opened, or twice
        waiters.await_times(*[number] * THREADS)
        waiters.gate.open()


def test_opening_it_again_at_once_is_missed_by_nobody():
    made = Waiters(PipeGate(THREADS))
    for _ in range(200):
        made.gate.open()
    made.await_times(*[200] * THREADS)
    made.end()


def test_one_that_takes_long_keeps_nobody_from_ending(waiters):
    waiters.busy[2] = threading.Event()
    waiters.gate.open()
    waiters.await_times(*[1] * THREADS)
    waiters.ending = True
    waiters.gate.reopen()
    waiters.gate.open_for_good()
    for place, thread in enumerate(waiters.threads):
        if place != 2:
            thread.join(LONG_S)
            assert not thread.is_alive()
    waiters.busy[2].set()


def test_holding_it_open_returns_whoever_is_still_to_come(waiters):
    waiters.busy[2] = threading.Event()
    for _ in range(3):
        waiters.gate.reopen()
        time.sleep(0.01)
    waiters.busy.pop(2).set()
    until_s = time.monotonic() + LONG_S
    while min(waiters.times) < 2 and time.monotonic() < until_s:
        waiters.gate.reopen()
        time.sleep(0.001)
    assert min(waiters.times) >= 2


def test_one_interrupted_while_it_opens_is_opened_all_the_same(monkeypatch):
    made = Waiters(PipeGate(THREADS))
    made.gate.open()
    made.await_times(*[1] * THREADS)
    real_write, left = os.write, [5]

    def interrupted(*args):
        if left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        return real_write(*args)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", interrupted)
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                made.gate.reopen()
        made.gate.reopen()
    made.await_times(*[2] * THREADS)
    made.gate.open()
    made.await_times(*[3] * THREADS)
    made.end()


def test_no_descriptor_is_left():
    def count():
        return len(os.listdir("/proc/self/fd"))

    before = count()
    gate = PipeGate(THREADS)
    ways = [gate.waiter(place) for place in range(THREADS)]
    assert count() == before + 4
    del gate
    assert count() == before + 4  # whoever waits keeps them open
    del ways
    assert count() == before


def test_where_the_system_has_no_doors_there_are_locks(monkeypatch):
    assert isinstance(make_gate(3), PipeGate)
    with monkeypatch.context() as patched:
        patched.delattr(select, "poll")
        assert isinstance(make_gate(3), LockGate)

    def none_left():
        raise OSError("too many open files")

    monkeypatch.setattr(os, "pipe", none_left)
    with contextlib.suppress(OSError):
        assert isinstance(make_gate(3), LockGate)
