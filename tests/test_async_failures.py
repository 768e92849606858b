"""Mode `async`: workers that die, hang or are interrupted."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal

import pytest
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector.async_vector_env import AsyncState

from tests.deeds import (
    CLOSED_S,
    DEATHS,
    GRACE_S,
    REPORTED_S,
    ZEROS,
    assert_gone,
    assert_usable,
    make,
    pids,
    tell,
    within,
)
from tests.marks import only_full
from vecselect.errors import ModeUnavailable, StepTimeout, WorkerDied


def test_a_failure_is_not_kept_waiting_for_a_stuck_worker():
    envs = make()
    envs.reset(seed=1)
    tell(envs, "step", "sleep", 0)
    tell(envs, "step", "key", 3)
    with within(REPORTED_S), pytest.raises(KeyError):
        envs.step(ZEROS)
    everyone = [process.pid for process in envs.unwrapped.processes]
    with within(CLOSED_S):
        envs.close(timeout=0.1)
    assert_gone(everyone, 0.5)


@pytest.mark.parametrize("name", DEATHS)
@pytest.mark.parametrize("method", ["step", *only_full("reset", "call")])
def test_a_death_is_reported_at_once_though_another_worker_is_stuck(name, method):
    envs = make()
    envs.reset(seed=1)
    everyone = pids(envs)
    tell(envs, method, "sleep", 0)
    tell(envs, method, name)
    uses = {
        "step": lambda: envs.step(ZEROS),
        "reset": envs.reset,
        "call": lambda: envs.call("maybe", "call"),
    }
    with within(REPORTED_S), pytest.raises(WorkerDied, match=DEATHS[name][1]) as caught:
        uses[method]()
    assert f"sub-environment 2 (pid {everyone[2]})" in str(caught.value)
    for use in uses.values():
        with within(REPORTED_S), pytest.raises(WorkerDied, match="make a new one"):
            use()
    with within(CLOSED_S):
        envs.close(timeout=0.1)
    assert_gone(everyone, 0.5)


def test_a_worker_killed_while_idle_is_reported():
    envs = make()
    envs.reset(seed=1)
    everyone = pids(envs)
    os.kill(everyone[1], signal.SIGKILL)
    assert_gone(everyone[1:2])
    for use in (lambda: envs.step(ZEROS), envs.reset, lambda: envs.get_attr("label")):
        with within(REPORTED_S), pytest.raises(WorkerDied, match="SIGKILL"):
            use()
    envs.close()
    assert_gone(everyone, 0.5)


# Calls that take too long, or are interrupted.


def test_a_wait_that_ran_out_may_be_repeated_or_left():
    with make() as envs:
        envs.reset(seed=1)
        tell(envs, "step", "doze")
        for _ in range(2):
            envs.step_async(ZEROS)
            with pytest.raises(multiprocessing.TimeoutError):
                envs.step_wait(timeout=0.05)
            assert envs.unwrapped._state is AsyncState.DEFAULT
        assert envs.step_wait(timeout=GRACE_S)[0][:, 3].tolist() == [2] * 4
        envs.step_async(ZEROS)
        with pytest.raises(multiprocessing.TimeoutError):
            envs.step_wait(timeout=0.01)
        tell(envs, "nothing", None)
        assert_usable(envs)
        with pytest.raises(NoAsyncCallError):
            envs.step_wait()
        envs.step_async(ZEROS)
        with pytest.raises(AlreadyPendingCallError):
            envs.reset()
        envs.step_wait()


@pytest.mark.full
def test_time_limits_are_errors_that_name_the_worker():
    options = {"step_timeout_s": 0.3}
    envs = make(options=options)
    envs.reset(seed=1)
    tell(envs, "step", "sleep")
    with within(REPORTED_S), pytest.raises(StepTimeout, match=r"sub-environment 2 .*step_timeout"):
        envs.step(ZEROS)
    envs.close(timeout=0.1)
    with within(GRACE_S), pytest.raises(StepTimeout, match=r"sub-environment 2 .*start_timeout"):
        make(options={"start_timeout_s": 2.0}, construct="sleep")
    with pytest.raises(ModeUnavailable, match="on_worker_death"):
        make(options={"on_worker_death": "restart"})


@pytest.mark.full
def test_interrupted_calls_leave_nothing_stale():
    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    chance, interrupts = random.Random(1), 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with make() as envs:
            for attempt in range(80):
                try:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 4e-3))
                        for step in range(1000):
                            envs.step(ZEROS)
                            if step % 3 == 0:
                                envs.reset(seed=step)
                                envs.get_attr("label")
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    interrupts += 1
                assert_usable(envs, seed=attempt)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupts > 60
