"""What never returns is waited for no longer than was asked, and closed all the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError

from tests.faults import programs
from tests.faults.case import PROCESSES, Program, case
from tests.faults.faulty import (
    CODES,
    COUNT,
    DOZE_S,
    REPORTED_S,
    actions,
    assert_reset,
    assert_step,
    assert_usable,
    close_in_time,
    in_use,
    make,
    pids,
    within,
    workers_of,
)
from tests.marks import only_full
from tests.processes import gone, until
from vecselect import VecselectWarning, WorkerDied
from vecselect.errors import StepTimeout

LIMIT_S = 0.5
TOO_LONG = r"\b0\b.* step_timeout_s=0\.5\. Close the vector environment and make a"
DEADLINES = ["pool:2", "pool:4", "thread:2", "thread:4", "async"]
"""The modes that keep a deadline for every sub-environment, the first one too."""


def stuck_in(mode):
    """What takes too long: for ever where it can be ended, else for long enough."""
    return "doze" if mode.startswith("thread") else "sleep"


def assert_threads_end():
    """Threads that were left behind end when what they are in returns."""

    def gone():
        return not any(one.name.startswith("vecselect-thread") for one in threading.enumerate())

    assert until(gone, 20.0)


def assert_names_the_stuck(error, rows, others):
    message = str(error)
    assert all(re.search(rf"\b{row}\b", message) for row in rows), message
    found = re.findall(r"sub-environments? ([\d, and–-]+)", message)
    assert found, message
    assert not any(re.search(rf"\b{row}\b", part) for part in found for row in others), message


def use(envs, phase, fault, row):
    """Has a fault happen in a row, or in all of them if it is None, within a call."""
    if phase == "step":
        rows = range(COUNT) if row is None else [row]
        envs.step(actions(dict.fromkeys(rows, fault)))
    elif phase == "reset":
        envs.reset(options={"fault": fault, "row": row})
    else:
        envs.call("do", fault, row)


@case(modes=DEADLINES)
@pytest.mark.parametrize("row", [0, *only_full(None)])
@pytest.mark.parametrize("phase", ["step", *only_full("reset", "call")])
def test_a_call_that_takes_too_long_is_given_up(mode, phase, row):
    envs = make(mode, options={"step_timeout_s": LIMIT_S})
    envs.reset(seed=1)
    everyone = workers_of(envs)
    with within(LIMIT_S + REPORTED_S), pytest.raises(StepTimeout, match=TOO_LONG) as caught:
        use(envs, phase, stuck_in(mode), row)
    assert isinstance(caught.value, multiprocessing.TimeoutError)
    if mode.startswith("thread"):
        with pytest.warns(VecselectWarning, match="still busy .* after they had been told to end"):
            close_in_time(envs, timeout=0.1)
        assert_threads_end()
    else:
        close_in_time(envs, timeout=0.2)
        assert all(map(gone, everyone))


@case(full=True, each={"fault": ["sleep", "stop"], "phase": ["step", "reset", "call"]})
def test_only_who_is_stuck_is_named(fault, phase):
    with make("pool:2", options={"step_timeout_s": LIMIT_S}) as envs:
        envs.reset(seed=1)
        with pytest.raises(StepTimeout) as caught:
            use(envs, phase, fault, 3)
        rows = [2, 3] if fault == "stop" else [3]
        assert_names_the_stuck(caught.value, rows, others=[0, 1])
        envs.close(timeout=0.2)


@case()
def test_a_call_in_time_is_not_given_up():
    with make("pool:2", options={"step_timeout_s": 60.0}) as envs:
        envs.reset(seed=1)
        for step in (1, 2):
            batch = actions({2: "nap"}, base=step)
            assert_step(envs.step(batch), batch, step)


@case(modes=["pool:2", "thread:2"], full=True)
def test_what_was_given_up_leaves_nothing_stale(mode):
    with make(mode, options={"step_timeout_s": LIMIT_S}) as envs:
        envs.reset(seed=1)
        with pytest.raises(StepTimeout):
            envs.step(actions({3: "doze"}))
        time.sleep(DOZE_S)
        assert_usable(envs)


@case(modes=DEADLINES)
@pytest.mark.parametrize("limit", ["step_timeout_s", *only_full("start_timeout_s")])
def test_the_calling_process_steps_nothing_and_all_goes_on_as_ever(mode, limit):
    with make(mode, options={limit: 60.0}) as envs:
        if not mode.startswith("thread"):
            assert os.getpid() not in pids(envs)
        assert_usable(envs)


@case(modes=DEADLINES, deadline_s=60.0, full=True)
@pytest.mark.parametrize("row", [0, None])
def test_building_that_hangs_is_given_up(mode, row):
    options = {"start_timeout_s": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VecselectWarning)  # of threads that are still busy
        with within(4 * REPORTED_S), pytest.raises(StepTimeout) as caught:
            make(mode, options=options, row=row, construct=stuck_in(mode))
    assert isinstance(caught.value, multiprocessing.TimeoutError)
    assert re.search(r"sub-environments? 0\b.* start_timeout_s=1", str(caught.value))
    assert_threads_end()


@case(modes=[*PROCESSES, "pool:2 spawn"], full=True)
@pytest.mark.parametrize("fault", ["sleep", "stop"])
def test_only_who_hangs_in_building_is_named(mode, fault):
    mode, _, context = mode.partition(" ")
    options = {"start_timeout_s": 1.0}
    options |= {"start_timeout_s": 5.0, "context": context} if context else {}
    with within(4 * REPORTED_S), pytest.raises(multiprocessing.TimeoutError) as caught:
        make(mode, options=options, row=3, construct=fault)
    assert_names_the_stuck(caught.value, rows=[3], others=[0, 1])


@case(full=True)
def test_looking_at_every_environment_is_given_up_too():
    """With observation_mode='different' each is built once more, only to be looked at.

    Whether that or the worker of its own is the first to be given up is not said.
    """
    options = {"start_timeout_s": 60.0, "observation_mode": "different"}
    with make("async", options=options) as envs:
        assert_usable(envs)
    options["start_timeout_s"] = 1.0
    with within(4 * REPORTED_S), pytest.raises(StepTimeout, match="sub-environment 3[ ,]"):
        make("async", options=options, row=3, construct="sleep")


@case(modes=["pool:2", "pool:4"])
@pytest.mark.parametrize("row", [0, *only_full(None)])
def test_whoever_hangs_is_replaced(mode, row):
    options = {"step_timeout_s": LIMIT_S, "on_worker_death": "restart"}
    with make(mode, options=options) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match=r"step_timeout_s=0.5\. It was replaced"):
            rows = range(COUNT) if row is None else [row]
            *_, truncated, infos = envs.step(actions(dict.fromkeys(rows, "sleep")))
        size = COUNT // int(mode[-1])
        lost = [row is None or other < size for other in range(COUNT)]
        assert truncated.tolist() == infos["_worker_restarted"].tolist() == lost
        assert_usable(envs)


@case(full=True)
def test_a_new_worker_that_hangs_too_is_given_up():
    options = {"step_timeout_s": 0.3, "start_timeout_s": 60.0, "on_worker_death": "restart"}
    with (
        make("pool:2", options=options, row=0, reset="sleep") as envs,
        warnings.catch_warnings(),
        pytest.raises(WorkerDied, match="has now died 4 times"),
    ):
        warnings.simplefilter("ignore", VecselectWarning)
        envs.reset(seed=1)


@case(modes=["pool:2", "thread:2"])
def test_a_step_whose_wait_ran_out_is_still_pending(mode):
    with make(mode) as envs:
        envs.reset(seed=1)
        batch = actions({3: "nap"})
        envs.step_async(batch)
        with pytest.raises(multiprocessing.TimeoutError, match="still pending"):
            envs.step_wait(timeout=0.02)
        with pytest.raises(AlreadyPendingCallError):
            envs.step(batch)
        assert_step(envs.step_wait(), batch, 1)
        with pytest.raises(NoAsyncCallError):
            envs.step_wait()


@case(modes=PROCESSES)
@pytest.mark.parametrize("fault", ["sleep", *only_full("stop")])
def test_a_wait_that_ran_out_can_be_closed(mode, fault):
    with in_use(mode, timeout=0.2) as envs:
        envs.step_async(actions({3: fault}))
        with within(LIMIT_S + REPORTED_S), pytest.raises(multiprocessing.TimeoutError):
            envs.step_wait(timeout=LIMIT_S)


@case(modes=PROCESSES, deadline_s=60.0, full=True)
def test_random_interleavings_show_nothing_stale(mode):
    random = np.random.default_rng(3)
    with make(mode) as envs:
        steps = np.zeros(COUNT, int)
        assert_reset(envs.reset(seed=1), 1)
        timeouts = 0
        for turn in range(100):
            if steps.max() >= 2 or random.random() < 0.2:
                assert_reset(envs.reset(seed=turn), turn)
                steps[:] = 0
            faults = {int(random.integers(COUNT)): "blink"} if random.random() < 0.4 else {}
            batch = actions(faults, base=int(random.integers(10)))
            envs.step_async(batch)
            steps += 1
            result = None
            for timeout in (1e-4, 0.01, None):
                try:
                    result = envs.step_wait(timeout=timeout)
                    break
                except multiprocessing.TimeoutError:
                    timeouts += 1
                    if random.random() < 0.1:
                        break
            if result is None:  # given up: a reset must bring everything back
                recover(envs, turn)
                steps[:] = 0
            else:
                assert_step(result, batch, steps)
        assert timeouts > 10, timeouts


def recover(envs, seed):
    """Collects what is pending, as Gymnasium's rules want it, and resets."""
    while True:
        try:
            envs.step_wait(timeout=5.0)
            break
        except multiprocessing.TimeoutError:
            continue
    assert_reset(envs.reset(seed=seed), seed)


STATES = ["fresh", "idle", "pending", "timed out", "dead", "dead pending", "stopped", "failed"]


def bring_into(envs, state):
    """Puts a vector environment into a state; what that raises is not the point here."""
    if state == "fresh":
        return
    envs.reset(seed=1)
    victim = pids(envs)[3]
    if state in ("pending", "timed out"):
        envs.step_async(actions({3: "sleep"}))
    if state == "timed out":
        with contextlib.suppress(multiprocessing.TimeoutError):
            envs.step_wait(timeout=0.1)
    if state == "dead pending":
        envs.step_async(actions({2: "sleep", 3: "sigkill"}))
    if state == "failed":
        with contextlib.suppress(Exception):
            envs.step(actions({3: "runtime"}))
    if state in ("dead", "stopped"):
        os.kill(victim, signal.SIGKILL if state == "dead" else signal.SIGSTOP)


@case(modes=PROCESSES, deadline_s=80.0, full=True, each={"state": STATES})
@pytest.mark.parametrize("options", [{}, {"timeout": 0.3}, {"terminate": True}])
def test_closing_ends_in_every_state(mode, options, state):
    envs = make(mode)
    everyone = workers_of(envs)
    bring_into(envs, state)
    close_in_time(envs, **options)
    assert all(map(gone, everyone))


@case(modes=PROCESSES, noise=4)
@pytest.mark.parametrize("fault", ["runtime", *only_full("sleep", "sigkill", "stop")])
def test_closing_ends_though_an_environment_does_not_want_to(mode, fault):
    envs = make(mode, row=3, close=fault)
    everyone = workers_of(envs)
    envs.reset(seed=1)
    close_in_time(envs, timeout=0.5)
    assert all(map(gone, everyone))


@case(modes=PROCESSES, full=True)
def test_the_program_ends_though_a_worker_is_stopped_and_nobody_closes(mode):
    Program(programs.run, mode=mode, ending="leave stopped").finish().check(noise=None)


def test_the_faults_are_actions():
    assert len(set(CODES.values())) == len(CODES)
