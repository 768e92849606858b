"""What signal handlers and other threads do in the midst of a call."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError

from tests.faults.case import case
from tests.faults.faulty import (
    REPORTED_S,
    FaultyEnv,
    actions,
    assert_step,
    assert_usable,
    in_use,
    make,
    notes,
    within,
    workers_of,
)
from tests.processes import gone, until
from vecselect import VecselectWarning, WorkerDied


class Raised(Exception):
    """What a handler raises, as that of a timer does."""


@contextlib.contextmanager
def on_alarm(handler, after_s):
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@case(modes=["pool:2", "thread:2", "async"])
def test_what_a_handler_calls_meanwhile_is_refused(mode):
    with make(mode) as envs:
        envs.reset(seed=1)
        calls = [
            lambda: envs.get_attr("label"),
            lambda: envs.call("pid"),
            lambda: envs.step(actions()),
            lambda: envs.reset(seed=5),
        ]
        refused = []

        def handler():
            for call in calls:
                with pytest.raises(AlreadyPendingCallError, match="pending call to `?'?step"):
                    call()
                refused.append(call)

        batch = actions({3: "nap"})
        with on_alarm(handler, 0.1):
            assert_step(envs.step(batch), batch, 1)
        assert refused == calls
        batch = actions()
        assert_step(envs.step(batch), batch, 2)


class Torn:
    """A pipe in which a signal comes when half of a message has passed."""

    def __init__(self, pipe, torn):
        self.pipe = pipe
        setattr(self, torn, getattr(self, f"half_{torn}"))

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def half_recv_bytes(self):
        os.read(self.pipe.fileno(), 2)
        signal.raise_signal(signal.SIGUSR2)

    def half_send_bytes(self, data):
        os.write(self.pipe.fileno(), b"\0\0")
        signal.raise_signal(signal.SIGUSR2)


def tear(envs, torn):
    """Tears a message to or from the worker of sub-environment 2."""

    def handler(*_):
        raise Raised

    signal.signal(signal.SIGUSR2, handler)
    workers = envs.unwrapped._workers
    worker = workers.each[0] if hasattr(workers, "each") else workers.lines[2]
    worker.pipe.connection = Torn(worker.pipe.connection, torn)
    with pytest.raises(Raised):
        envs.call("pid")


@case(modes=["pool:2", "async"])
@pytest.mark.parametrize("torn", ["recv_bytes", "send_bytes"])
def test_a_worker_whose_message_was_torn_is_dead_and_named(mode, torn):
    with in_use(mode) as envs:
        tear(envs, torn)
        for _ in range(2):
            with (
                within(REPORTED_S),
                pytest.raises(WorkerDied, match=r"environments? 2.*interrupted a mess"),
            ):
                envs.step(actions())


@case()
def test_a_worker_whose_message_was_torn_is_replaced():
    with make("pool:2", options={"on_worker_death": "restart"}) as envs:
        envs.reset(seed=1)
        tear(envs, "send_bytes")
        with pytest.warns(VecselectWarning, match=r"interrupted a message .* It was replaced"):
            *_, truncated, _ = envs.step(actions())
        assert truncated.tolist() == [False, False, True, False]
        assert_usable(envs)


@case(modes=["pool:0", "pool:2", "thread:2"], full=True)
def test_a_handler_may_close_it_and_leave(mode):
    envs = make(mode)
    envs.reset(seed=1)

    def close_and_leave():
        envs.close()
        raise SystemExit(3)

    with on_alarm(close_and_leave, 0.1), pytest.raises(SystemExit):
        while True:
            envs.step(actions())
            envs.get_attr("label")
    assert envs.closed


@case(modes=["pool:2", "thread:2"], full=True)
def test_closed_by_another_thread_a_call_ends(mode):
    """Also where a worker never answers."""
    for attempt in range(6):
        envs = make(mode)
        envs.reset(seed=1)
        closing = threading.Timer(0.05, lambda envs=envs: envs.close(timeout=2.0))
        closing.start()
        fault = "doze" if mode == "thread:2" else "sleep"
        batch = actions({3: fault}) if attempt % 3 == 2 else actions()
        with within(REPORTED_S), pytest.raises(ClosedEnvironmentError):
            while True:
                envs.step(batch)
                envs.get_attr("label")
        closing.join()


class Stubborn(FaultyEnv):
    """Does not end when it is asked to, and says when it is stuck."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.home = multiprocessing.parent_process() is None

    def step(self, action):
        if not self.home:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            Path(self.note, f"stuck {self.index}").touch()
        return super().step(action)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def time_out():
    raise KeyboardInterrupt("not from Ctrl-C")


@case(full=True)
@pytest.mark.parametrize("handler", ["interrupt", "time_out"])
def test_an_interrupted_close_ends_all_workers(handler):
    """Between asking them, terminating them and killing them."""
    envs = make("pool:2", Stubborn, note=notes())
    envs.reset(seed=1)
    everyone = workers_of(envs)
    envs.step_async(actions({3: "sleep"}))
    assert until(Path(notes(), "stuck 3").exists, REPORTED_S)
    with on_alarm(globals()[handler], 0.45), pytest.raises(KeyboardInterrupt):
        envs.close(timeout=0.2)
    assert envs.closed
    assert all(map(gone, everyone))
