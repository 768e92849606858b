"""Ctrl-C ends what it should and nothing else."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time

import numpy as np
import pytest

from tests.faults import programs
from tests.faults.case import MODES, PROCESSES, Program, case
from tests.faults.faulty import CLOSED_S, DOZE_S, FaultyEnv, actions, assert_usable, make, within
from vecselect.process.interrupts import DeferredInterrupts


@case(modes=[*MODES, "async spawn", "async fork", "pool:2 spawn", "pool:2 fork"])
def test_ctrl_c_ends_a_program_with_one_traceback(mode):
    """To the whole group, as a terminal sends it."""
    mode, _, context = mode.partition(" ")
    run = Program(programs.run, mode=mode, ending="use and close", context=context or None)
    run.wait_for("ready")
    time.sleep(random.uniform(0.0, 0.3))
    run.send(signal.SIGINT, group=True)
    with within(CLOSED_S):
        outcome = run.finish()
    outcome.check(returncode=None, result=False, noise=None)
    assert outcome.returncode in (-signal.SIGINT, 130, 1), outcome.returncode
    assert outcome.stderr.count("Traceback") == 1, outcome.stderr
    assert outcome.stderr.rstrip().endswith("KeyboardInterrupt"), outcome.stderr


@case(modes=PROCESSES, full=True)
def test_ctrl_c_while_a_worker_is_stuck(mode):
    """The program ends within what close() takes."""
    run = Program(programs.run, mode=mode, ending="stuck and close")
    run.wait_for("ready")
    time.sleep(0.3)
    run.send(signal.SIGINT, group=True)
    with within(CLOSED_S):
        outcome = run.finish().check(returncode=None, result=False, noise=None)
    assert outcome.stderr.count("Traceback") == 1, outcome.stderr


@case(modes=["async", "pool:2"], full=True)
def test_ctrl_c_while_it_is_built(mode):
    run = Program(programs.build_slowly, mode=mode)
    run.wait_for("ready")
    time.sleep(0.7)
    run.send(signal.SIGINT, group=True)
    outcome = run.finish().check(returncode=None, result=False, noise=None)
    assert outcome.stderr.count("Traceback") <= 1, outcome.stderr


class Varied(FaultyEnv):
    """Its infos have keys that come and go, which workers are told of."""

    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, f"key {self.steps + int(action) % 3}": 0.5}


@case(modes=MODES, deadline_s=60.0)
def test_ctrl_c_that_is_caught_leaves_nothing_stale(mode):
    """At random moments, as "interrupt" in a notebook, to this process alone."""
    chance = random.Random(4)
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    gc.disable()  # what is raised in another library's callback of it is lost
    interrupts = 0
    with make(mode, Varied) as envs:
        envs.reset(seed=1)
        for attempt in range(200):
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 3e-3))
                    use(envs)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupts += 1
            assert_usable(envs, seed=attempt)
    assert interrupts == 200


def use(envs):
    """Calls this and that for longer than anybody waits."""
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


@case(modes=PROCESSES, full=True)
def test_ctrl_c_in_a_long_step_is_heard_at_once(mode):
    with make(mode) as envs:
        envs.reset(seed=1)
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with within(DOZE_S), pytest.raises(KeyboardInterrupt):
            envs.step(actions({3: "doze"}))
        assert_usable(envs)


@case(modes=PROCESSES, full=True)
def test_ctrl_c_to_the_workers_alone_is_nothing_to_them(mode):
    """The caller decides."""
    with make(mode) as envs:
        envs.reset(seed=1)
        for pid in set(envs.call("pid")) - {os.getpid()}:
            os.kill(pid, signal.SIGINT)
        time.sleep(0.05)
        assert_usable(envs)
        assert np.all(envs.get_attr("steps"))
