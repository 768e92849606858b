"""Ctrl-C ends what it should and nothing else."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import numpy as np
import pytest

from tests.faults import programs
from tests.faults.case import MODES, PROCESSES, Program, case
from tests.faults.faulty import CLOSED_S, DOZE_S, actions, assert_usable, make, within


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


@case(modes=MODES, deadline_s=20.0, full=True)
def test_ctrl_c_that_is_caught_leaves_nothing_stale(mode):
    """As "interrupt" in a notebook, to this process alone."""
    chance = random.Random(4)
    interrupts = 0
    with make(mode) as envs:
        envs.reset(seed=1)
        for attempt in range(60):
            timer = threading.Timer(
                chance.uniform(0.0, 0.01), lambda: os.kill(os.getpid(), signal.SIGINT)
            )
            try:
                timer.start()
                use(envs)
            except KeyboardInterrupt:
                interrupts += 1
            assert_usable(envs, seed=attempt)
    assert interrupts == 60


def use(envs):
    batch = actions()
    until_s = time.monotonic() + 5.0
    step = 0
    while time.monotonic() < until_s:
        envs.step(batch)
        step += 1
        if step % 3 == 0:
            envs.reset(seed=step)
        if step % 4 == 0:
            envs.get_attr("label")


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
