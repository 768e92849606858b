"""However it ends, nothing is left: no process, no descriptor, no name."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import resource
import signal
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium.error import ClosedEnvironmentError

from tests import zoo
from tests.faults.envs import Fault, Forks, Owner
from tests.faults.harness import MODES, PROCESSES, case, within
from tests.faults.runner import LEAVE_S, Program
from tests.faults.support import (
    COUNT,
    actions,
    assert_step,
    assert_usable,
    close_in_time,
    folder,
    make,
    running,
    workers_of,
)
from vecselect import RequestError, auto_make_vec

RUN = "tests.faults.programs:run"
ZEROS = np.zeros(COUNT, np.int64)


def closed(note):
    return sorted(int(name.split()[1]) for name in os.listdir(note) if name.startswith("closed"))


def program(**arguments):
    return Program(RUN, inside=False, **arguments)


@case(modes=MODES)
def test_a_whole_life_leaves_nothing_and_prints_nothing(mode):
    """Checks 27 and 43: the census of the harness."""
    envs = make(mode)
    assert_usable(envs)
    close_in_time(envs)
    with pytest.raises(ClosedEnvironmentError):
        envs.reset()


@case(modes=PROCESSES, full=True)
@pytest.mark.parametrize("ending", ["close", "terminate", "delete", "leave", "raise"])
def test_what_environments_started_is_ended_with_them(mode, ending):
    """Check 28: an environment that owns a process, and does not end it in close()."""
    note = folder()
    run = program(mode=mode, note=note, kind="Owner", ending=ending)
    if ending == "delete":
        run.wait_for("deleted")
        until_s = time.monotonic() + LEAVE_S
        while len(closed(note)) < COUNT and time.monotonic() < until_s:
            time.sleep(0.02)
        time.sleep(0.3)
        theirs = [one for one in run.alive() if one.name() == "sleep"]
        # What the caller's own lane started belongs to the caller, who is still there.
        own = [one for one in theirs if one.ppid() == run.pid]
        assert len(theirs) == len(own) <= 1, theirs
        run.send(signal.SIGKILL)
        for one in own:
            one.kill()
        run.finish()
    else:
        outcome = run.finish()
        # One was built in the program itself: the pool's first, and Gymnasium's dummy in async.
        own = 1
        left = [one for one in outcome.processes if "sleep 300" in one]
        assert len(outcome.processes) == len(left) <= own, outcome.processes
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.shared == outcome.files == []
        assert outcome.stderr == "", outcome.stderr
    if ending != "terminate":
        assert closed(note) == list(range(COUNT)), closed(note)


@case(modes=PROCESSES, full=True)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("stuck", [None, 1, 3])
def test_nothing_is_left_when_the_program_is_killed(mode, number, stuck):
    """Checks 28 and 29, with the start method that is ours."""
    assert_nothing_left_of(mode, number, stuck)


@case(modes=["async spawn", "async fork", "pool:2 spawn", "pool:2 fork"], full=True)
@pytest.mark.parametrize("stuck", [1, 3])
def test_nothing_is_left_with_other_start_methods(mode, stuck):
    """Check 29."""
    mode, context = mode.split()
    assert_nothing_left_of(mode, signal.SIGKILL, stuck, context)


def assert_nothing_left_of(mode, number, stuck, context=None):
    run = program(mode=mode, kind="Owner", stuck=stuck, context=context)
    run.wait_for("ready")
    own = [c for c in psutil.Process(run.pid).children() if c.name() == "sleep"]
    run.send(number)
    killed_s = time.monotonic()
    while run.popen.poll() is None and time.monotonic() < killed_s + 5.0:
        time.sleep(0.01)
    for one in own:  # the caller's own: nobody but the system could have ended them
        if one.is_running() and one.ppid() != run.pid:
            one.kill()
    run.finish(leave_s=LEAVE_S).check(returncode=-number, result=False, noise=1, files=False)


@case(modes=PROCESSES)
def test_a_killed_program_leaves_no_files(mode):
    """Check 29."""
    run = program(mode=mode)
    run.wait_for("ready")
    run.send(signal.SIGKILL)
    run.finish().check(returncode=-9, result=False, noise=None)


@case(modes=PROCESSES, full=True)
def test_a_scheduler_ends_all_at_once(mode):
    """Check 28 and 29: SIGTERM to everything."""
    run = program(mode=mode)
    run.wait_for("ready")
    run.send(signal.SIGTERM, group=True)
    run.finish().check(returncode=-signal.SIGTERM, result=False, noise=1, files=False)


@case(modes=PROCESSES, full=True)
def test_a_killed_program_lets_environments_close(mode):
    """Check 28: env.close() runs in every worker that can run it."""
    note = folder()
    run = program(mode=mode, note=note)
    run.wait_for("ready")
    run.send(signal.SIGKILL)
    run.finish().check(returncode=-9, result=False, noise=1, files=False)
    expected = list(range(COUNT)) if mode == "async" else [1, 2, 3]
    assert closed(note) == expected


@case(modes=PROCESSES, full=True)
def test_a_process_that_somebody_forked_harms_nothing(mode):
    """Check 33."""
    with make(mode) as envs:
        everyone = workers_of(envs)
        envs.reset(seed=1)
        batch = actions()
        assert_step(envs.step(batch), batch, 1)
        pid = os.fork()
        if pid == 0:
            os.closerange(1, 3)
            del envs
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        batch = actions(base=2)
        assert_step(envs.step(batch), batch, 2)
        assert workers_of(envs) == everyone


@case(modes=PROCESSES)
def test_closing_in_a_forked_process_harms_nothing(mode):
    """Check 33: as a `with` block does, when the forked process leaves it."""
    with make(mode) as envs:
        envs.reset(seed=1)
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(Exception):
                signal.alarm(10)
                envs.close()
                code = 0
            os._exit(code)
        os.waitpid(pid, 0)
        batch = actions()
        assert_step(envs.step(batch), batch, 1)


@case(modes=PROCESSES, full=True)
def test_use_in_a_forked_process_steals_nothing(mode):
    """Check 33."""
    with make(mode) as envs:
        envs.reset(seed=1)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(5)
                envs.step(actions(base=7))
            except Exception:
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "it stepped, or hung"
        batch = actions()
        assert_step(envs.step(batch), batch, 1)


@case(modes=PROCESSES)
def test_copying_is_refused_and_harms_nothing(mode):
    """Check 33."""
    with make(mode) as envs:
        envs.reset(seed=1)
        for attempt in (copy.deepcopy, pickle.dumps):
            for one in (envs, envs.unwrapped):
                with pytest.raises(Exception, match="."):
                    attempt(one)
        gc.collect()
        batch = actions()
        assert_step(envs.step(batch), batch, 1)


@case(modes=["async"], deadline_s=60.0, full=True)
def test_opening_and_closing_does_not_add_up(mode):
    """Check 34; the pool's is in test_pool_lifecycle."""
    process = psutil.Process()

    def cycle():
        with make(mode, count=2) as envs:
            envs.reset(seed=1)
            envs.step(ZEROS[:2])

    for _ in range(5):
        cycle()
    gc.collect()
    before = process.num_fds(), len(process.memory_maps(grouped=False))
    rss = process.memory_info().rss
    for _ in range(25):
        cycle()
    gc.collect()
    after = process.num_fds(), len(process.memory_maps(grouped=False))
    assert after[0] <= before[0] and after[1] <= before[1] + 4, (before, after)
    assert process.memory_info().rss - rss < 4 << 20


@case(deadline_s=60.0, full=True)
def test_many_sub_environments_need_few_descriptors():
    """Check 35."""
    before = len(os.listdir("/proc/self/fd"))
    with make("pool:2", zoo.EchoEnv, count=256) as envs:
        envs.reset(seed=1)
        assert len(os.listdir("/proc/self/fd")) - before < 20
        assert len(envs.step(np.zeros(256, np.int64))[1]) == 256


@case(modes=PROCESSES, deadline_s=60.0, full=True)
def test_too_few_descriptors_are_one_error(mode):
    """Check 35."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        with make(mode, zoo.EchoEnv, count=40) as envs:
            envs.reset(seed=1)
            envs.step(np.zeros(40, np.int64))
    except (OSError, RequestError) as error:
        assert mode == "async", error
        assert "file descriptors" in str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@case(modes=MODES)
def test_environments_may_start_processes(mode):
    """Check 40."""
    with make(mode, Forks) as envs:
        envs.reset(seed=1)
        for step in (1, 2):
            batch = actions(base=step)
            assert_step(envs.step(batch), batch, step)


@case(modes=MODES)
def test_factories_may_come_from_a_generator(mode):
    """Check 41."""
    with auto_make_vec((lambda i=i: Fault(i) for i in range(COUNT)), mode=mode) as envs:
        assert_usable(envs)
    for count in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            auto_make_vec("CartPole-v1", count, mode=mode)


@case(modes=["sync", "pool:0", "pool:2"])
def test_one_environment_for_all_is_noticed(mode):
    """Check 41."""
    env = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="same instance"):
        auto_make_vec([lambda: env] * 6, mode=mode)
    env.close()


@case(modes=PROCESSES, full=True)
def test_ended_workers_are_gone_when_close_returns(mode):
    """Check 27."""
    for _ in range(5):
        envs = make(mode, Owner)
        envs.reset(seed=1)
        children = psutil.Process().children(recursive=True)
        mine = [c for c in children if c.name() == "sleep" and c.ppid() == os.getpid()]
        theirs = [c for c in children if c.name() == "sleep" and c not in mine]
        assert len(theirs) == (COUNT if mode == "async" else COUNT - len(mine))
        with within(5.0):
            envs.close()
        time.sleep(0.1)
        assert not [c.pid for c in theirs if running(c.pid)]
        for child in mine:
            child.kill()
            child.wait()
