"""A worker that dies is reported, named and cleaned up."""

from __future__ import annotations

import os
import re
import signal
import time

import numpy as np
import pytest

from tests.faults.harness import PROCESSES, case, within
from tests.faults.support import (
    LANES,
    REPORTED_S,
    actions,
    assert_reset,
    assert_step,
    assert_usable,
    close_in_time,
    gone,
    make,
    pids,
    running,
    text_of,
    workers_of,
)
from vecselect.errors import WorkerDied

VICTIM = 3
RESTART = {"on_worker_death": "restart"}

WARNED = 8
"""Lines: each replacement is a warning."""


def assert_names(error, mode, pid, how):
    """The message says which sub-environments died with it, the process and its end."""
    rows = next(lane for lane in LANES[mode] if VICTIM in lane)
    message = str(error)
    assert all(re.search(rf"\b{row}\b", message) for row in (rows[0], rows[-1])), message
    assert str(pid) in message, message
    assert any(word in message for word in how), message


@case(modes=PROCESSES)
def test_killed_while_idle(mode):
    """Check 17."""
    envs = make(mode)
    envs.reset(seed=1)
    everyone = workers_of(envs)
    pid = pids(envs)[VICTIM]
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    for use in (lambda: envs.step(actions()), envs.reset, lambda: envs.get_attr("label")):
        with within(REPORTED_S), pytest.raises(WorkerDied) as caught:
            use()
        assert_names(caught.value, mode, pid, ["SIGKILL"])
        assert "memory" in str(caught.value), caught.value
    close_in_time(envs)
    assert not any(map(running, everyone))


@case(fold=True, modes=PROCESSES)
@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("sigkill", ["SIGKILL"]),
        ("segfault", ["SIGSEGV"]),
        ("exit", ["code 3"]),
        ("sys_exit", ["code 0", "SystemExit"]),
    ],
)
def test_dies_in_a_step(mode, deed, how):
    """Checks 17 and 18."""
    envs = make(mode)
    envs.reset(seed=1)
    everyone = workers_of(envs)
    pid = pids(envs)[VICTIM]
    with within(REPORTED_S), pytest.raises((WorkerDied, SystemExit)) as caught:
        envs.step(actions({VICTIM: deed}))
    if isinstance(caught.value, WorkerDied):
        assert_names(caught.value, mode, pid, how)
    close_in_time(envs)
    assert not any(map(running, everyone))


@case(fold=True, modes=PROCESSES)
@pytest.mark.parametrize("phase", ["reset", "call"])
def test_dies_in_a_reset_or_a_call(mode, phase):
    """Checks 17 and 18."""
    envs = make(mode)
    envs.reset(seed=1)
    with within(REPORTED_S), pytest.raises(WorkerDied, match="code 3"):
        if phase == "reset":
            envs.reset(options={"deed": "exit", "row": VICTIM})
        else:
            envs.call("do", "exit", VICTIM)
    close_in_time(envs)


@case(modes=PROCESSES)
def test_dies_while_it_is_built(mode):
    """Check 18, 25."""
    with within(5.0), pytest.raises(WorkerDied, match="code 3"):
        make(mode, when="construct", deed="exit", row=VICTIM)


@case(fold=True, modes=PROCESSES, full=True)
@pytest.mark.parametrize("deed", ["sigkill", "runtime"])
@pytest.mark.parametrize("stuck", ["sleep", "stop"])
def test_fails_while_another_one_is_stuck(mode, deed, stuck):
    """Check 19."""
    envs = make(mode)
    envs.reset(seed=1)
    everyone = workers_of(envs)
    kind = WorkerDied if deed == "sigkill" else RuntimeError
    with within(REPORTED_S), pytest.raises(kind):
        envs.step(actions({1: stuck, VICTIM: deed}))
    close_in_time(envs, timeout=0.2)
    assert not any(map(running, everyone))


@case(modes=PROCESSES)
def test_split_calls_report_it_too(mode):
    """Check 17."""
    envs = make(mode)
    envs.reset(seed=1)
    envs.step_async(actions({VICTIM: "sigkill"}))
    with within(REPORTED_S), pytest.raises(WorkerDied, match="SIGKILL"):
        envs.step_wait(timeout=10)
    close_in_time(envs)


@case(noise=WARNED)
@pytest.mark.parametrize("how", ["idle", "in a step"])
def test_is_replaced_where_that_was_asked_for(how):
    """Check 26."""
    with make("pool:2", options=RESTART) as envs:
        assert_reset(envs.reset(seed=1), 1)
        first = actions()
        assert_step(envs.step(first), first, 1)
        before = pids(envs)
        batch = actions(base=2)
        if how == "idle":
            os.kill(before[VICTIM], signal.SIGKILL)
            assert gone(before[VICTIM])
        else:
            batch = actions({VICTIM: "sigkill"}, base=2)
        with within(3.0):
            result = envs.step(batch)
        observations, rewards, terminated, truncated, infos = result
        assert_step(result, batch, 2, rows=[0, 1])
        lost = [2, 3]
        assert truncated[lost].all() and not terminated[lost].any()
        assert rewards[lost].tolist() == [0.0, 0.0]
        assert infos["worker_restarted"].tolist() == [False, False, True, True]
        assert envs.observation_space.contains(observations)
        again = actions(base=3)
        result = envs.step(again)  # NEXT_STEP: what was lost resets, the others go on
        assert_step(result, again, 3, rows=[0, 1])
        assert result[0][lost, 3].tolist() == [0, 0]
        assert result[1][lost].tolist() == [0.0, 0.0]
        assert not result[3][lost].any()
        assert "worker_restarted" not in result[4] or not result[4]["worker_restarted"].any()
        after = pids(envs)
        assert after[:2] == before[:2]
        assert after[VICTIM] != before[VICTIM] and after[2] == after[3]
        assert_usable(envs)


@case(noise=WARNED)
@pytest.mark.parametrize("autoreset_mode", ["SameStep", "Disabled"])
def test_is_replaced_in_every_autoreset_mode(autoreset_mode):
    """Check 26."""
    with make("pool:2", options={**RESTART, "autoreset_mode": autoreset_mode}) as envs:
        envs.reset(seed=1)
        envs.step(actions())
        batch = actions({VICTIM: "sigkill"}, base=2)
        result = envs.step(batch)
        assert_step(result, batch, 2, rows=[0, 1])
        assert result[3][[2, 3]].all()
        if autoreset_mode == "Disabled":
            envs.reset(options={"reset_mask": np.array([False, False, True, True])})
        again = actions(base=3)
        result = envs.step(again)
        assert_step(result, again, [3, 3, 1, 1], rows=[1, 2, 3])
        assert_usable(envs)


@case(noise=WARNED)
def test_is_replaced_when_it_dies_in_a_reset():
    """Check 26."""
    with make("pool:2", options=RESTART) as envs:
        envs.reset(seed=1)
        for _ in range(2):
            os.kill(pids(envs)[VICTIM], signal.SIGKILL)
            assert_usable(envs, seed=5)


@case(noise=WARNED)
def test_is_not_replaced_for_ever():
    """Check 26."""
    envs = make("pool:2", options=RESTART)
    envs.reset(seed=1)
    with within(15.0), pytest.raises(WorkerDied):
        for _ in range(50):
            envs.step(actions({VICTIM: "sigkill"}))
    close_in_time(envs)


@case(modes=PROCESSES)
def test_what_dies_is_not_replaced_by_default(mode):
    """Check 26."""
    envs = make(mode)
    envs.reset(seed=1)
    with pytest.raises(WorkerDied):
        envs.step(actions({VICTIM: "exit"}))
    for _ in range(2):
        with within(REPORTED_S), pytest.raises(WorkerDied) as caught:
            envs.step(actions())
        assert "code 3" in text_of(caught.value)
    close_in_time(envs)


@case(modes=PROCESSES)
def test_two_die_at_once(mode):
    """Check 17."""
    envs = make(mode)
    envs.reset(seed=1)
    start_s = time.monotonic()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        envs.step(actions({1: "sigkill", VICTIM: "sigkill"}))
    assert time.monotonic() - start_s < REPORTED_S
    close_in_time(envs)
