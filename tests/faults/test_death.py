"""A worker that dies is reported, named and cleaned up."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.faults.case import PROCESSES, case
from tests.faults.faulty import LANES, REPORTED_S, actions, in_use, make, pids, within
from tests.processes import gone
from vecselect.errors import WorkerDied

VICTIM = 3
ADVICE = {"async": "memory.*make a new one", "pool:2": "memory.*have workers replaced"}
HOW = {"sigkill": "SIGKILL", "segfault": "SIGSEGV", "exit": "code 3", "sys_exit": "code 0"}


def assert_names(error, mode, pid, how):
    """The message says which sub-environments died with it, the process and its end."""
    rows = next(lane for lane in LANES[mode] if VICTIM in lane)
    message = str(error)
    assert all(re.search(rf"\b{row}\b", message) for row in (rows[0], rows[-1])), message
    assert str(pid) in message, message
    assert how in message, message


@case(modes=PROCESSES)
def test_killed_while_idle(mode):
    with in_use(mode) as envs:
        pid = pids(envs)[VICTIM]
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        for use in (lambda: envs.step(actions()), envs.reset, lambda: envs.get_attr("label")):
            with within(REPORTED_S), pytest.raises(WorkerDied, match=ADVICE[mode]) as caught:
                use()
            assert_names(caught.value, mode, pid, "SIGKILL")


@case(modes=PROCESSES, each={"fault": HOW})
def test_dies_in_a_step(mode, fault):
    """And is not replaced, since that was not asked for."""
    with in_use(mode) as envs:
        pid = pids(envs)[VICTIM]
        with within(REPORTED_S), pytest.raises((WorkerDied, SystemExit)) as caught:
            envs.step(actions({VICTIM: fault}))
        if isinstance(caught.value, WorkerDied):
            assert_names(caught.value, mode, pid, HOW[fault])
            for _ in range(2):
                with within(REPORTED_S), pytest.raises(WorkerDied, match=HOW[fault]):
                    envs.step(actions())


@case(modes=PROCESSES, each={"phase": ["reset", "call", "wait"]})
def test_dies_in_another_call(mode, phase):
    with in_use(mode) as envs, within(REPORTED_S), pytest.raises(WorkerDied, match="code 3"):
        if phase == "reset":
            envs.reset(options={"fault": "exit", "row": VICTIM})
        elif phase == "call":
            envs.call("do", "exit", VICTIM)
        else:
            envs.step_async(actions({VICTIM: "exit"}))
            envs.step_wait(timeout=60)


@case(modes=PROCESSES)
def test_dies_while_it_is_built(mode):
    with pytest.raises(WorkerDied, match="code 3"):
        make(mode, row=VICTIM, construct="exit")


@case(modes=PROCESSES)
def test_two_die_at_once(mode):
    with in_use(mode) as envs, within(REPORTED_S), pytest.raises(WorkerDied, match="SIGKILL"):
        envs.step(actions({2: "sigkill", VICTIM: "sigkill"}))


BOTH = {"fault": ["sigkill", "runtime"], "stuck": ["sleep", "stop"]}


@case(modes=PROCESSES, each=BOTH)
def test_fails_while_another_one_is_stuck(mode, fault, stuck):
    kind = WorkerDied if fault == "sigkill" else RuntimeError
    with in_use(mode, timeout=0.2) as envs, within(REPORTED_S), pytest.raises(kind):
        envs.step(actions({2: stuck, VICTIM: fault}))
