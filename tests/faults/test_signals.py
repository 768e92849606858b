"""Ctrl-C, other signals' handlers and other threads, in the midst of whatever is going on."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError

from tests.faults import programs
from tests.faults.case import MODES, PROCESSES, Program, case
from tests.faults.faulty import (
    CLOSED_S,
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
from vecselect.process.interrupts import DeferredInterrupts


def end_by_ctrl_c(mode, ending):
    """To the whole group, as a terminal sends it."""
    run = Program(programs.run, mode=mode, ending=ending)
    run.wait_for("ready")
    time.sleep(random.uniform(0.0, 0.3))
    run.send(signal.SIGINT, group=True)
    with within(CLOSED_S):
        run.finish().check(returncode=None, result=False, noise=None)
    assert run.returncode in (-signal.SIGINT, 130, 1), run.returncode
    assert run.stderr.count("Traceback") == 1, run.stderr
    assert run.stderr.rstrip().endswith("KeyboardInterrupt"), run.stderr


@case(modes=[*MODES, "async spawn", "async fork", "pool:2 spawn", "pool:2 fork"])
def test_ctrl_c_ends_a_program_with_one_traceback(mode):
    end_by_ctrl_c(mode, "use and close")


@case(modes=PROCESSES, full=True)
def test_ctrl_c_ends_a_program_though_a_worker_is_stuck(mode):
    end_by_ctrl_c(mode, "stuck and close")


class Varied(FaultyEnv):
    """Its infos have keys that come and go, which workers are told of."""

    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, f"key {self.steps + int(action) % 3}": 0.5}


@case(modes=MODES, deadline_s=60.0)
def test_ctrl_c_that_is_caught_leaves_nothing_stale(mode):
    """At random moments, as "interrupt" in a notebook, to this process alone."""
    chance = random.Random(4)
    gc.disable()  # what is raised in another library's callback of it is lost
    with make(mode, Varied) as envs:
        envs.reset(seed=1)
        for attempt in range(200):
            with (
                pytest.raises(KeyboardInterrupt),
                on_alarm(interrupt, chance.uniform(1e-5, 3e-3)),
            ):
                use(envs)
            assert_usable(envs, seed=attempt)


def use(envs):
    """Calls this and that for longer than anybody waits.

    A function: what is raised at the end of a loop leaves a `with` around it in Python 3.13.0.
    """
    for step in range(10**6):
        envs.step(actions(base=step))
        if step % 7 == 0:
            envs.reset(seed=step)
        if step % 5 == 0:
            envs.get_attr("label")


def test_ctrl_c_is_heard_again_where_a_handler_has_raised_before_it_was():
    before = signal.getsignal(signal.SIGINT)
    message = DeferredInterrupts()
    message.__enter__()
    signal.raise_signal(signal.SIGINT)  # put off
    del message  # as where the handler of another signal raises before `__exit__` has begun
    assert signal.getsignal(signal.SIGINT) is before


# Handlers, and other threads


@contextlib.contextmanager
def on_alarm(handler, after_s):
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupt():
    signal.raise_signal(signal.SIGINT)


class Raised(Exception):
    """What a handler raises, as that of a timer does."""


def time_out(*_):
    raise Raised


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
    signal.signal(signal.SIGUSR2, time_out)
    workers = envs.unwrapped._workers
    worker = next(one for one in workers.each if 2 in one.rows)
    worker.pipe.connection = Torn(worker.pipe.connection, torn)
    with pytest.raises(Raised):
        envs.call("pid")


@case(modes=["pool:2", "async"])
@pytest.mark.parametrize("torn", ["recv_bytes", "send_bytes"])
def test_a_worker_whose_message_was_torn_is_dead_and_named(mode, torn):
    torn_there = r"environments? 2.*interrupted a mess"
    with in_use(mode) as envs:
        tear(envs, torn)
        for _ in range(2):
            with within(REPORTED_S), pytest.raises(WorkerDied, match=torn_there):
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


@case(full=True)
def test_an_interrupted_close_ends_all_workers():
    """Between asking them, terminating them and killing them."""
    note = notes()
    for handler in (interrupt, time_out):
        envs = make("pool:2", Stubborn, note=note)
        envs.reset(seed=1)
        everyone = workers_of(envs)
        envs.step_async(actions({3: "sleep"}))
        assert until(Path(note, "stuck 3").exists, REPORTED_S)
        Path(note, "stuck 3").unlink()
        with on_alarm(handler, 0.45), pytest.raises((KeyboardInterrupt, Raised)):
            envs.close(timeout=0.2)
        assert envs.closed
        assert all(map(gone, everyone))
