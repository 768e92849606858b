"""What never returns is waited for no longer than was asked, and closed all the same."""

from __future__ import annotations

import multiprocessing
import re
import time

import numpy as np
import pytest

from tests.faults.envs import CODES
from tests.faults.harness import PROCESSES, case, within
from tests.faults.runner import Program
from tests.faults.support import (
    CLOSED_S,
    COUNT,
    StepTimeout,
    actions,
    assert_reset,
    assert_step,
    assert_usable,
    close_in_time,
    make,
    running,
    workers_of,
)
from tests.marks import only_full

LIMIT_S = 0.5


def assert_names_the_stuck(error, rows, others):
    message = str(error)
    assert all(re.search(rf"\b{row}\b", message) for row in rows), message
    found = re.findall(r"sub-environments? ([\d, and–-]+)", message)
    assert found, message
    assert not any(re.search(rf"\b{row}\b", part) for part in found for row in others), message


@case()
@pytest.mark.parametrize("deed", ["sleep", *only_full("stop")])
@pytest.mark.parametrize("phase", ["step", *only_full("reset", "call")])
def test_a_call_that_takes_too_long_is_given_up(deed, phase):
    """Check 20."""
    envs = make("pool:2", options={"step_timeout_s": LIMIT_S})
    envs.reset(seed=1)
    everyone = workers_of(envs)
    with within(LIMIT_S + 1.0), pytest.raises(StepTimeout) as caught:
        if phase == "step":
            envs.step(actions({3: deed}))
        elif phase == "reset":
            envs.reset(options={"deed": deed, "row": 3})
        else:
            envs.call("do", deed, 3)
    assert isinstance(caught.value, multiprocessing.TimeoutError)
    assert_names_the_stuck(caught.value, rows=[2, 3] if deed == "stop" else [3], others=[0, 1])
    close_in_time(envs, timeout=0.2)
    assert not any(map(running, everyone))


@case()
def test_a_call_in_time_is_not_given_up():
    """Check 20."""
    with make("pool:2", options={"step_timeout_s": 5.0}) as envs:
        envs.reset(seed=1)
        for step in (1, 2):
            batch = actions({2: "nap"}, base=step)
            assert_step(envs.step(batch), batch, step)


@case(full=True)
def test_what_was_given_up_leaves_nothing_stale():
    """Checks 7 and 20."""
    with make("pool:2", options={"step_timeout_s": LIMIT_S}) as envs:
        envs.reset(seed=1)
        with pytest.raises(StepTimeout):
            envs.step(actions({3: "doze"}))
        time.sleep(1.5)
        assert_usable(envs)


@case(modes=PROCESSES)
@pytest.mark.parametrize("deed", ["sleep", *only_full("stop")])
def test_a_wait_that_ran_out_can_be_closed(mode, deed):
    """Check 20, 27."""
    envs = make(mode)
    envs.reset(seed=1)
    everyone = workers_of(envs)
    envs.step_async(actions({3: deed}))
    with within(1.5), pytest.raises(multiprocessing.TimeoutError):
        envs.step_wait(timeout=0.3)
    close_in_time(envs, timeout=0.2)
    assert not any(map(running, everyone))


@case(modes=PROCESSES, deadline_s=60.0, full=True)
def test_random_interleavings_show_nothing_stale(mode):
    """Check 7."""
    random = np.random.default_rng(3)
    with make(mode) as envs:
        steps = np.zeros(COUNT, int)
        assert_reset(envs.reset(seed=1), 1)
        timeouts = 0
        for turn in range(100):
            if steps.max() >= 2 or random.random() < 0.2:
                assert_reset(envs.reset(seed=turn), turn)
                steps[:] = 0
            deeds = {int(random.integers(COUNT)): "blink"} if random.random() < 0.4 else {}
            batch = actions(deeds, base=int(random.integers(10)))
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


@case(modes=[*PROCESSES, "pool:2 spawn"], full=True)
@pytest.mark.parametrize("deed", ["sleep", "stop"])
def test_building_that_takes_too_long_is_given_up(mode, deed):
    """Check 25."""
    mode, _, context = mode.partition(" ")
    options = {"start_timeout_s": 2.0 if context else 1.0}
    options |= {"context": context} if context else {}
    with within(8.0), pytest.raises(multiprocessing.TimeoutError) as caught:
        make(mode, options=options, when="construct", deed=deed, row=3)
    assert_names_the_stuck(caught.value, rows=[3], others=[0, 1])


STATES = ["fresh", "idle", "pending", "timed out", "dead", "dead pending", "stopped", "failed"]


def bring_into(envs, state):
    """Puts a vector environment into a state; what that raises is not the point here."""
    import contextlib
    import os
    import signal

    if state == "fresh":
        return
    envs.reset(seed=1)
    victim = envs.call("pid")[3]
    if state == "pending":
        envs.step_async(actions({3: "sleep"}))
    elif state == "timed out":
        envs.step_async(actions({3: "sleep"}))
        with contextlib.suppress(multiprocessing.TimeoutError):
            envs.step_wait(timeout=0.1)
    elif state == "dead":
        os.kill(victim, signal.SIGKILL)
    elif state == "dead pending":
        envs.step_async(actions({1: "sleep", 3: "sigkill"}))
    elif state == "stopped":
        os.kill(victim, signal.SIGSTOP)
    elif state == "failed":
        with contextlib.suppress(Exception):
            envs.step(actions({3: "runtime"}))


@case(modes=PROCESSES, deadline_s=80.0, full=True)
@pytest.mark.parametrize("options", [{"timeout": 0.3}, {"terminate": True}])
def test_closing_ends_in_every_state(mode, options):
    """Check 27."""
    for state in STATES:
        envs = make(mode)
        everyone = workers_of(envs)
        bring_into(envs, state)
        try:
            close_in_time(envs, **options)
        except Exception as error:
            raise AssertionError(f"in state {state!r}") from error
        assert not any(map(running, everyone)), state


@case(modes=PROCESSES, full=True)
@pytest.mark.parametrize("state", ["pending", "stopped", "dead"])
def test_closing_ends_without_a_limit_of_the_users(mode, state):
    """Check 27."""
    envs = make(mode)
    everyone = workers_of(envs)
    bring_into(envs, state)
    close_in_time(envs)
    assert not any(map(running, everyone))


@case(modes=PROCESSES, noise=4)
@pytest.mark.parametrize("deed", ["runtime", *only_full("sleep", "sigkill", "stop")])
def test_closing_ends_though_an_environment_does_not_want_to(mode, deed):
    """Check 27."""
    envs = make(mode, when="close", deed=deed, row=3)
    everyone = workers_of(envs)
    envs.reset(seed=1)
    close_in_time(envs, timeout=0.5)
    assert not any(map(running, everyone))


@case(modes=PROCESSES, full=True)
def test_the_program_ends_though_a_worker_is_stopped(mode):
    """Check 27: without any close()."""
    outcome = Program("tests.faults.programs:leave_stopped", inside=False, mode=mode).finish()
    outcome.check(noise=None)
    assert outcome.wall_s < 2 * CLOSED_S + 3, outcome.wall_s


def test_the_deeds_are_actions():
    assert len(set(CODES.values())) == len(CODES)
