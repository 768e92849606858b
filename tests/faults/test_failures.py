"""What raises, dies or hangs is an error that names it, and harms nothing else."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError

from tests.faults.case import MODES, PROCESSES, case
from tests.faults.faulty import (
    COUNT,
    DOZE_S,
    ERRORS,
    REPORTED_S,
    USES,
    ZEROS,
    actions,
    assert_reset,
    assert_step,
    assert_usable,
    close_in_time,
    in_use,
    make,
    pids,
    text_of,
    use,
    within,
    workers_of,
)
from tests.marks import only_full
from tests.processes import gone, until
from vecselect import VecselectWarning, WorkerDied, WorkerError
from vecselect.errors import StepTimeout

VICTIM = 3

# What raises


@case(modes=MODES, deadline_s=60.0)
def test_what_is_raised_arrives_as_it_was_and_harms_nothing(mode):
    with make(mode) as envs:
        everyone = pids(envs)
        for name, (_, kind, args, words) in ERRORS.items():
            for phase in USES if name == "key" else ("step", "call"):
                for row in (0, VICTIM):
                    envs.reset(seed=1)
                    with within(REPORTED_S), pytest.raises(kind) as caught:
                        use(envs, phase, name, row)
                    text = text_of(caught.value)
                    assert args is None or caught.value.args == args, (name, phase, text)
                    assert words in text, (name, phase, text)
                    assert "in _raise" in text, text  # also where that is in a worker
                    assert_usable(envs, seed=row)
        for faults in ({0: "key", 3: "key"}, {2: "key", 3: "key"}, dict.fromkeys(range(4), "key")):
            with within(REPORTED_S), pytest.raises(KeyError):
                envs.step(actions(faults))
            assert_usable(envs)
        assert pids(envs) == everyone


@case(modes=["async", "pool:0", "pool:2"])
def test_notes_say_where_and_when(mode):
    """Which sub-environment, which seed, which step of its episode, which phase."""
    if sys.version_info < (3, 11):
        return
    with make(mode) as envs:
        for row in (0, VICTIM):
            envs.reset(seed=40)
            for _ in range(3 + row + 1 + 1):  # an episode, the autoreset, and a step
                envs.step(actions())
            when = f"step, step 2 of its episode, last seeded with {40 + row}"
            for phase, where in (("step", when), ("reset", "reset")):
                with pytest.raises(RuntimeError) as caught:
                    use(envs, phase, "runtime", row)
                assert f"sub-environment {row} in {where}" in text_of(caught.value)
        if mode == "pool:2":
            envs.reset(seed=1)
            with pytest.raises(WorkerError, match=r"3 raised TwoArguments in step \(step 1 of its"):
                envs.step(actions({VICTIM: "two"}))


BATCHES = [ZEROS[:3], np.zeros(5, np.int64), np.zeros((4, 1), np.int64), ZEROS / 2, "abcd", 3, None]
SEEDS = [-1, [1, 2, 3], [1, "x", 3, 4], 1.5, np.array([1, 2, 3]), [1, 2, 3, -4]]
LOCK = threading.Lock()


@case(modes=MODES)
def test_what_is_refused_leaves_no_trace(mode):
    with make(mode) as envs:
        everyone = pids(envs)
        envs.reset(seed=1)
        mask = {"reset_mask": [1, 0, 0, 1]}
        mistakes = [
            *(partial(step, one) for one in BATCHES for step in (envs.step, envs.step_async)),
            *(partial(envs.reset, seed=seed) for seed in SEEDS),
            partial(envs.reset, options=mask),
            partial(envs.reset_async, options=mask),
            partial(envs.get_attr, "no_such_name"),
            partial(envs.call, "no_such_method"),
            partial(envs.call, "double"),
            partial(envs.set_attr, "token", [1, 2]),
        ]
        if mode in PROCESSES:
            mistakes += [
                partial(envs.get_attr, "lock"),
                partial(envs.set_attr, "token", [1, 2, 3, LOCK]),
                partial(envs.set_attr, "token", [1, 2, LOCK, 4]),
            ]
            for name in ("reset", "step", "close"):
                with pytest.raises(ValueError, match=rf"use envs.{name}\(\)"):
                    envs.call(name)
        for step in (1, 2):
            for mistake in mistakes:
                with pytest.raises((AttributeError, TypeError, ValueError)):
                    mistake()
            batch = actions(base=step)
            assert_step(envs.step(batch), batch, step)
        assert envs.get_attr("token") == (0, 1, 2, 3)
        assert pids(envs) == everyone


BUILT = [*MODES, "async spawn", "async fork", "pool:2 spawn", "pool:2 fork"]


@case(modes=BUILT)
def test_an_environment_that_cannot_be_built_leaves_nothing(mode):
    """What is left behind is counted by `case`."""
    for row in (0, 1, VICTIM):
        with pytest.raises(FileNotFoundError) as caught:
            make(mode, row=row, construct="os")
        assert caught.value.args == (2, "Gone")
        if mode in PROCESSES and sys.version_info >= (3, 11):
            assert f"sub-environment {row}" in text_of(caught.value).lower()
        assert multiprocessing.active_children() == []


# What dies

DEATHS = [
    ("idle", "sigkill", "SIGKILL"),
    ("step", "segfault", "SIGSEGV"),
    ("step", "exit", "code 3"),
    ("step", "sys_exit", "code 0"),
    ("step_wait", "exit", "code 3"),
    ("reset", "exit", "code 3"),
    ("call", "exit", "code 3"),
]
ADVICE = {"async": "memory.*make a new one", "pool:2": "memory.*have workers replaced"}


@case(modes=PROCESSES)
def test_a_worker_that_dies_is_named_ever_after(mode):
    """And is not replaced, since that was not asked for."""
    for death in DEATHS:
        assert_death_is_named(mode, *death)


def assert_death_is_named(mode, phase, fault, how):
    with in_use(mode) as envs:
        calls = [lambda: envs.step(actions()), envs.reset, lambda: envs.get_attr("label")]
        pid = pids(envs)[VICTIM]
        if phase == "idle":
            os.kill(pid, signal.SIGKILL)
            assert gone(pid)
        else:
            calls.insert(0, lambda: use(envs, phase, fault, VICTIM))
        for call in calls:
            with within(REPORTED_S), pytest.raises((WorkerDied, SystemExit)) as caught:
                call()
            if isinstance(caught.value, SystemExit):
                return
            for words in (how, rf"\b{pid}\b", rf"sub-environment {VICTIM}\b"):
                assert re.search(words, str(caught.value)), caught.value
            assert how != "SIGKILL" or re.search(ADVICE[mode], str(caught.value))


@case(modes=PROCESSES)
def test_death_in_building_and_of_two_at_once(mode):
    with pytest.raises(WorkerDied, match="code 3"):
        make(mode, row=VICTIM, construct="exit")
    with in_use(mode) as envs, within(REPORTED_S), pytest.raises(WorkerDied, match="SIGKILL"):
        envs.step(actions({2: "sigkill", VICTIM: "sigkill"}))


@case(modes=PROCESSES)
def test_fails_while_another_one_is_stuck(mode):
    for fault, kind in (("sigkill", WorkerDied), ("runtime", RuntimeError)):
        for stuck in ("sleep", "stop"):
            with in_use(mode, timeout=0.2) as envs, within(REPORTED_S), pytest.raises(kind):
                envs.step(actions({2: stuck, VICTIM: fault}))


# What hangs

LIMIT_S = 0.5
DEADLINES = ["pool:2", "pool:4", "thread:2", "thread:4", "async"]
"""The modes that keep a deadline for every sub-environment, the first one too."""

STUCK = {"first": ("sleep", 0), "all": ("sleep", None), "stopped": ("stop", 3)}
"""Who is stuck: in what, and in which row, or in every one."""


def stuck_in(mode, stuck):
    """The fault and the row; threads cannot be ended, and sleep for long enough instead."""
    fault, row = STUCK[stuck]
    return ("doze" if mode.startswith("thread") else fault), row


def assert_names_the_stuck(error, row):
    """The message names the row, and none of the other half of the batch."""
    assert isinstance(error, multiprocessing.TimeoutError)
    found = re.findall(r"sub-environments? ([\d, and–-]+)", str(error))
    named = " ".join(found)
    assert re.search(rf"\b{row or 0}\b", named), error
    assert row is None or not re.search(rf"\b[{'01' if row else '23'}]\b", named), error


def assert_threads_end():
    """Threads that were left behind end when what they are in returns."""

    def ended():
        return not any(one.name.startswith("vecselect-thread") for one in threading.enumerate())

    assert until(ended, 20.0)


@case(modes=DEADLINES)
@pytest.mark.parametrize("stuck", ["first", *only_full("all", "stopped")])
@pytest.mark.parametrize("phase", ["step", *only_full("reset", "call")])
def test_a_call_that_takes_too_long_is_given_up(mode, phase, stuck):
    fault, row = stuck_in(mode, stuck)
    envs = make(mode, options={"step_timeout_s": LIMIT_S})
    envs.reset(seed=1)
    everyone = workers_of(envs)
    too_long = r"step_timeout_s=0\.5\. Close the vector environment and make a"
    with within(LIMIT_S + REPORTED_S), pytest.raises(StepTimeout, match=too_long) as caught:
        use(envs, phase, fault, row)
    assert_names_the_stuck(caught.value, row)
    if mode.startswith("thread"):
        with pytest.warns(VecselectWarning, match="still busy .* after they had been told to end"):
            close_in_time(envs, timeout=0.1)
        assert_threads_end()
    else:
        close_in_time(envs, timeout=0.2)
        assert all(map(gone, everyone))


@case(modes=DEADLINES)
@pytest.mark.parametrize("limit", ["step_timeout_s", *only_full("start_timeout_s")])
def test_within_a_deadline_all_goes_on_as_ever_and_the_caller_steps_nothing(mode, limit):
    with make(mode, options={limit: 60.0}) as envs:
        if not mode.startswith("thread"):
            assert os.getpid() not in pids(envs)
        assert_usable(envs)
        envs.reset(seed=1)
        batch = actions({2: "nap"})
        assert_step(envs.step(batch), batch, 1)


@case(modes=["pool:2", "thread:2"], full=True)
def test_what_was_given_up_leaves_nothing_stale(mode):
    with make(mode, options={"step_timeout_s": LIMIT_S}) as envs:
        envs.reset(seed=1)
        with pytest.raises(StepTimeout):
            envs.step(actions({VICTIM: "doze"}))
        time.sleep(DOZE_S)
        assert_usable(envs)


BUILDING = [*itertools.product(DEADLINES, ["all", "stopped"])]
BUILDING += [("pool:2 spawn", "stopped"), ("async different", "stopped")]


@case(deadline_s=60.0, full=True)
@pytest.mark.parametrize(("mode", "stuck"), BUILDING)
def test_building_that_hangs_is_given_up(mode, stuck):
    fault, row = stuck_in(mode, stuck)
    options = {"start_timeout_s": 5.0 if mode.endswith("spawn") else 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VecselectWarning)  # of threads that are still busy
        with within(4 * REPORTED_S), pytest.raises(StepTimeout, match="start_timeout_s=") as caught:
            make(mode, options=options, row=row, construct=fault)
    assert_names_the_stuck(caught.value, row)
    assert_threads_end()


@case(modes=["pool:2", "pool:4"])
@pytest.mark.parametrize("row", [0, *only_full(None)])
def test_whoever_hangs_is_replaced(mode, row):
    options = {"step_timeout_s": LIMIT_S, "on_worker_death": "restart"}
    with make(mode, options=options) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match=r"step_timeout_s=0\.5\. It was replaced"):
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


@case(modes=["pool:2", "thread:2", "async"])
def test_a_step_whose_wait_ran_out_is_still_pending(mode):
    with make(mode) as envs:
        envs.reset(seed=1)
        batch = actions({VICTIM: "nap"})
        envs.step_async(batch)
        with pytest.raises(multiprocessing.TimeoutError, match="still pending"):
            envs.step_wait(timeout=0.02)
        with pytest.raises(AlreadyPendingCallError):
            envs.step(batch)
        assert_step(envs.step_wait(), batch, 1)
        with pytest.raises(NoAsyncCallError):
            envs.step_wait()


@case(modes=PROCESSES, deadline_s=60.0, full=True)
def test_random_interleavings_show_nothing_stale(mode):
    random = np.random.default_rng(3)
    with make(mode) as envs:
        steps, timeouts, given_up = 9, 0, False
        for turn in range(100):
            if given_up:  # what is pending is collected first, as Gymnasium's rules want it
                envs.step_wait(timeout=DOZE_S)
            if given_up or steps >= 2 or random.random() < 0.2:
                assert_reset(envs.reset(seed=turn), turn)
                steps = 0
            faults = {int(random.integers(COUNT)): "blink"} if random.random() < 0.4 else {}
            batch = actions(faults, base=int(random.integers(10)))
            envs.step_async(batch)
            steps, given_up = steps + 1, random.random() < 0.1
            for timeout in (1e-4, 0.01) if given_up else (1e-4, 0.01, None):
                try:
                    assert_step(envs.step_wait(timeout=timeout), batch, steps)
                    given_up = False
                    break
                except multiprocessing.TimeoutError:
                    timeouts += 1
        assert timeouts > 10, timeouts
