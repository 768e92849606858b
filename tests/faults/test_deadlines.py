"""A deadline holds for every sub-environment, the first one too, and for all of them at once."""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
import time
import warnings

import pytest

from tests.faults.harness import case, within
from tests.faults.support import (
    CLOSED_S,
    COUNT,
    StepTimeout,
    actions,
    assert_usable,
    close_in_time,
    make,
    pids,
    running,
    workers_of,
)
from tests.marks import only_full
from vecselect import VecselectWarning, WorkerDied

LIMIT_S = 0.5
LATE_S = 2.0
"""How long after its limit a deadline may be noticed, where other programs have the cores."""

DEADLINES = ["pool:2", "pool:4", "thread:2", "thread:4", "async"]
ROWS = [[0], *only_full([0, 1, 2, 3])]


def stuck_in(mode):
    """What takes too long: for ever where it can be ended, else for long enough."""
    return "doze" if mode.startswith("thread") else "sleep"


def threads_gone(limit_s=20.0):
    """Whether the threads that were left behind end when what they are in returns."""
    until_s = time.monotonic() + limit_s
    while any(one.name.startswith("vecselect-thread") for one in threading.enumerate()):
        if time.monotonic() > until_s:
            return False
        time.sleep(0.02)
    return True


@case(modes=DEADLINES)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("phase", ["step", *only_full("reset", "call")])
def test_whoever_hangs_is_given_up(mode, rows, phase):
    envs = make(mode, options={"step_timeout_s": LIMIT_S})
    envs.reset(seed=1)
    everyone, deed = workers_of(envs), stuck_in(mode)
    row = 0 if rows == [0] else None  # of all
    with within(LIMIT_S + LATE_S), pytest.raises(StepTimeout, match=r"\b0\b.* step_timeout_s=0.5"):
        if phase == "step":
            envs.step(actions(dict.fromkeys(rows, deed)))
        elif phase == "reset":
            envs.reset(options={"deed": deed, "row": row})
        else:
            envs.call("do", deed, row)
    if mode.startswith("thread"):
        with pytest.warns(VecselectWarning, match="still busy .* after they had been told to end"):
            close_in_time(envs, timeout=0.1)
        assert threads_gone()
    else:
        close_in_time(envs, timeout=0.2)
        assert not any(map(running, everyone))


@case(modes=DEADLINES, deadline_s=60.0, full=True)
@pytest.mark.parametrize("row", [0, None])
def test_building_that_hangs_is_given_up(mode, row):
    options = {"start_timeout_s": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VecselectWarning)  # of threads that are still busy
        with within(1.0 + CLOSED_S + LATE_S), pytest.raises(StepTimeout) as caught:
            make(mode, options=options, when="construct", deed=stuck_in(mode), row=row)
    assert isinstance(caught.value, multiprocessing.TimeoutError)
    assert re.search(r"sub-environments? 0\b.* start_timeout_s=1", str(caught.value))
    assert threads_gone()


@case(modes=DEADLINES)
@pytest.mark.parametrize("limit", ["step_timeout_s", *only_full("start_timeout_s")])
def test_the_calling_process_steps_nothing_and_all_goes_on_as_ever(mode, limit):
    with make(mode, options={limit: 60.0}) as envs:
        if not mode.startswith("thread"):
            assert os.getpid() not in pids(envs)
        assert_usable(envs)


@case(modes=["pool:2", "pool:4"])
@pytest.mark.parametrize("rows", ROWS)
def test_whoever_hangs_is_replaced(mode, rows):
    options = {"step_timeout_s": LIMIT_S, "on_worker_death": "restart"}
    with make(mode, options=options) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match=r"step_timeout_s=0.5\. It was replaced"):
            *_, truncated, infos = envs.step(actions(dict.fromkeys(rows, "sleep")))
        size = COUNT // int(mode[-1])
        lost = [any(row // size == one // size for one in rows) for row in range(COUNT)]
        assert truncated.tolist() == infos["_worker_restarted"].tolist() == lost
        assert_usable(envs)


@case(full=True)
def test_a_new_worker_that_hangs_too_is_given_up():
    options = {"step_timeout_s": 0.3, "start_timeout_s": 20.0, "on_worker_death": "restart"}
    with (
        make("pool:2", options=options, when="reset", deed="sleep", row=0) as envs,
        warnings.catch_warnings(),
        within(15.0),
        pytest.raises(WorkerDied, match="death number 4 of this worker"),
    ):
        warnings.simplefilter("ignore", VecselectWarning)
        envs.reset(seed=1)


@case(full=True)
def test_looking_at_every_environment_is_given_up_too():
    """With observation_mode='different' each is built once more, only to be looked at."""
    options = {"start_timeout_s": 20.0, "observation_mode": "different"}
    with make("async", options=options) as envs:
        assert_usable(envs)
    options["start_timeout_s"] = 1.0
    with within(8.0), pytest.raises(StepTimeout, match="looks at sub-environment 3 "):
        make("async", options=options, when="construct", deed="sleep", row=3)
