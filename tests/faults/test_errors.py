"""What an environment raises arrives as it was raised, and harms nothing else."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading

import numpy as np
import psutil
import pytest

from tests.faults.case import MODES, PROCESSES, case
from tests.faults.faulty import (
    COUNT,
    REPORTED_S,
    actions,
    assert_step,
    assert_usable,
    make,
    pids,
    text_of,
    within,
)
from vecselect import WorkerError

UNICODE = ("utf-8", b"\xff", 0, 1, "invalid start byte")
KINDS = {
    "runtime": (RuntimeError, ("plain", 1), "plain"),
    "key": (KeyError, ("missing_key",), "missing_key"),
    "two": (Exception, None, "TwoArguments: left and right"),
    "keyword": (Exception, None, "code 5"),
    "local": (Exception, None, "made in a function"),
    "unpicklable": (Exception, None, "holds a lock"),
    "unicode": (UnicodeDecodeError, UNICODE, "invalid start byte"),
    "unspeakable": (Exception, None, "Unspeakable"),
    "stop_iteration": ((StopIteration, RuntimeError), None, "over"),
    "os": (FileNotFoundError, (2, "No such file"), "track.dat"),
    "memory": (MemoryError, ("too large",), "too large"),
    "interrupt": (KeyboardInterrupt, ("broken off",), "broken off"),
    "generator_exit": (GeneratorExit, ("broken off",), "broken off"),
    "own": (BaseException, None, "broken off"),
}


@case(modes=MODES, deadline_s=60.0)
def test_every_kind_of_exception_arrives(mode):
    with make(mode) as envs:
        everyone = pids(envs)
        for name, (kind, args, words) in KINDS.items():
            for row in (0, 3):
                envs.reset(seed=1)
                with within(REPORTED_S), pytest.raises(kind) as in_call:
                    envs.call("do", name, row)
                with within(REPORTED_S), pytest.raises(kind) as caught:
                    envs.step(actions({row: name}))
                for error in (in_call.value, caught.value):
                    text = text_of(error)
                    assert args is None or error.args == args, (name, error.args)
                    assert words in text, (name, text)
                if mode in PROCESSES and row == 3:  # which runs in a worker
                    assert "Traceback (most recent call last)" in text, text
                    assert "faulty.py" in text, text
                assert_usable(envs, seed=row)
        assert pids(envs) == everyone


@case(modes=["async", "pool:0", "pool:2"])
def test_notes_say_where_and_when(mode):
    """Which sub-environment, which seed, which step of its episode, which phase."""
    if sys.version_info < (3, 11):
        return
    with make(mode) as envs:
        for row in (0, 3):
            envs.reset(seed=40)
            for _ in range(3 + row + 1 + 1):  # an episode, the autoreset, and a step
                envs.step(actions())
            with pytest.raises(RuntimeError) as caught:
                envs.step(actions({row: "runtime"}))
            where = (
                f"sub-environment {row} in step, step 2 of its episode, last seeded with {40 + row}"
            )
            assert where in text_of(caught.value), text_of(caught.value)
            with pytest.raises(RuntimeError) as caught:
                envs.reset(options={"fault": "runtime", "row": row})
            assert f"sub-environment {row} in reset" in text_of(caught.value)
        if mode == "pool:2":
            envs.reset(seed=1)
            with pytest.raises(WorkerError, match=r"3 raised TwoArguments in step \(step 1 of its"):
                envs.step(actions({3: "two"}))


@case(modes=MODES)
def test_all_is_usable_after_an_exception_anywhere(mode):
    with make(mode) as envs:
        everyone = pids(envs)
        for row in (0, 3):
            envs.reset(seed=1)
            with pytest.raises(KeyError):
                envs.step(actions({row: "key"}))
            assert_usable(envs)
            with pytest.raises(KeyError):
                envs.reset(options={"fault": "key", "row": row})
            assert_usable(envs)
            with pytest.raises(KeyError):
                envs.call("do", "key", row)
            assert_usable(envs)
            envs.call("tell", "render", "key", row)
            with pytest.raises(KeyError):
                envs.render()
            assert_usable(envs)
        assert pids(envs) == everyone


@case(modes=PROCESSES)
def test_split_calls_raise_it_and_go_on(mode):
    with make(mode) as envs:
        envs.reset(seed=1)
        for row in (0, 3):
            envs.step_async(actions({row: "key"}))  # which steps none of them itself
            with pytest.raises(KeyError):
                envs.step_wait(timeout=5)
            assert_usable(envs)
        envs.reset_async(seed=2, options={"fault": "key", "row": 3})
        with pytest.raises(KeyError):
            envs.reset_wait()
        envs.call_async("do", "key", 3)
        with pytest.raises(KeyError):
            envs.call_wait()
        assert_usable(envs)


@case(modes=PROCESSES)
def test_several_that_fail_at_once_are_one_error(mode):
    with make(mode) as envs:
        envs.reset(seed=1)
        for faults in ({0: "key", 3: "key"}, {2: "key", 3: "key"}, dict.fromkeys(range(4), "key")):
            with within(REPORTED_S), pytest.raises(KeyError):
                envs.step(actions(faults))
            assert_usable(envs)


@case(modes=MODES)
def test_a_mistaken_name_harms_nobody(mode):
    with make(mode) as envs:
        everyone = pids(envs)
        envs.reset(seed=1)
        envs.step(actions())
        mistakes = [
            lambda: envs.get_attr("no_such_name"),
            lambda: envs.call("no_such_method"),
            lambda: envs.call("double"),
            lambda: envs.set_attr("label", [1, 2]),
        ]
        if mode in PROCESSES:
            mistakes.append(lambda: envs.get_attr("lock"))
            for name in ("reset", "step", "close"):
                with pytest.raises(ValueError, match=rf"use envs.{name}\(\)"):
                    envs.call(name)
        for mistake in mistakes:
            with pytest.raises((AttributeError, TypeError, ValueError)):
                mistake()
        batch = actions(base=5)
        assert_step(envs.step(batch), batch, 2)
        assert pids(envs) == everyone


@case(modes=[mode for mode in MODES if not mode.startswith("thread")])  # which refuse frames
def test_use_before_the_first_reset_harms_nobody(mode):
    """With what `gym.make` puts around an environment."""
    from vecselect import auto_make_vec

    with auto_make_vec("CartPole-v1", 4, mode=mode, render_mode="rgb_array") as envs:
        for use in (envs.render, lambda: envs.step(np.zeros(4, int))):
            with pytest.raises(Exception, match="reset"):
                use()
        envs.reset(seed=1)
        envs.step(np.zeros(4, int))


@case(modes=MODES)
def test_an_attribute_is_set_everywhere_or_nowhere(mode):
    with make(mode) as envs:
        everyone = pids(envs)
        envs.reset(seed=1)
        if mode in PROCESSES:
            for values in ([1, 2, 3, threading.Lock()], [1, 2, threading.Lock(), 4]):
                with pytest.raises(TypeError):
                    envs.set_attr("token", values)
                assert envs.get_attr("token") == (0, 1, 2, 3)
        batch = actions()
        assert_step(envs.step(batch), batch, 1)
        envs.set_attr("token", [5, 6, 7, 8])
        with contextlib.suppress(TypeError):  # where there are processes
            envs.set_attr("label", [1, 2, 3, threading.Lock()])
        assert envs.get_attr("token") == (5, 6, 7, 8)
        assert pids(envs) == everyone


BUILT = [*MODES, "async spawn", "async fork", "pool:2 spawn", "pool:2 fork"]


@case(modes=BUILT, each={"row": [0, 1, 3]})
def test_an_environment_that_cannot_be_built_leaves_nothing(mode, row):
    """What is left behind is counted by `case`."""
    mode, _, context = mode.partition(" ")
    options = {"context": context} if context else None
    with pytest.raises(FileNotFoundError) as caught:
        make(mode, options=options, row=row, construct="os")
    assert caught.value.args == (2, "No such file")
    if mode in PROCESSES and sys.version_info >= (3, 11):
        assert f"sub-environment {row}" in text_of(caught.value).lower()
    assert multiprocessing.active_children() == []
    assert not [c for c in psutil.Process().children() if c.name() == "sleep"]


@case(modes=MODES)
def test_bad_seeds_and_masks_are_refused_before_anything_is_sent(mode):
    with make(mode) as envs:
        everyone = pids(envs)
        envs.reset(seed=1)
        for seed in (-1, [1, 2, 3], [1, "x", 3, 4], 1.5, np.array([1, 2, 3]), [1, 2, 3, -4]):
            with pytest.raises((ValueError, TypeError)):
                envs.reset(seed=seed)
        for reset in (envs.reset, envs.reset_async):
            with pytest.raises((ValueError, TypeError)):
                reset(options={"reset_mask": [1, 0, 0, 1]})
        assert envs.get_attr("steps") == (0,) * COUNT
        batch = actions()
        assert_step(envs.step(batch), batch, 1)
        assert pids(envs) == everyone
        assert os.getpid() in everyone or mode == "async"
