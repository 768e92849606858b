"""However it ends, nothing is left: no process, no descriptor, no name."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import resource
import signal

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium.error import ClosedEnvironmentError

from tests import zoo
from tests.faults import programs
from tests.faults.case import LEAVE_S, MODES, PROCESSES, Program, case, until
from tests.faults.faulty import (
    COUNT,
    ZEROS,
    FaultyEnv,
    Forks,
    actions,
    assert_step,
    assert_usable,
    close_in_time,
    gone,
    make,
    notes,
    workers_of,
)
from vecselect import RequestError, auto_make_vec


def sleeping(run):
    """What the environments of a program have started."""
    return [one for one in run.alive() if one.name() == "sleep"]


def closed(note):
    return sorted(int(name.split()[1]) for name in os.listdir(note) if name.startswith("closed"))


@case(modes=MODES)
def test_a_whole_life_leaves_nothing_and_prints_nothing(mode):
    """What `case` counts."""
    envs = make(mode)
    assert_usable(envs)
    close_in_time(envs)
    with pytest.raises(ClosedEnvironmentError):
        envs.reset()


@case(modes=PROCESSES, full=True)
@pytest.mark.parametrize("ending", ["close", "terminate", "delete", "leave", "raise"])
def test_what_environments_started_is_ended_with_them(mode, ending):
    """An environment that owns a process, and does not end it in close()."""
    note = notes()
    run = Program(programs.run, mode=mode, note=note, construct="popen", ending=ending)
    if ending == "delete":
        run.wait_for("deleted")
        until(lambda: len(closed(note)) == COUNT, LEAVE_S)
        # What the caller's own lane started belongs to the caller, who is still there.
        until(lambda: all(one.ppid() == run.pid for one in sleeping(run)), LEAVE_S)
        own = [one for one in sleeping(run) if one.ppid() == run.pid]
        assert len(sleeping(run)) == len(own) <= 2, sleeping(run)
        run.send(signal.SIGKILL)
        for one in own:
            one.kill()
        run.finish()
    else:
        outcome = run.finish(leave_s=2.0)
        # What was built in the program itself: two of the pool, and one to look at in async.
        own = 1 if mode == "async" else 2
        left = [one for one in outcome.processes if "sleep 300" in one]
        assert len(outcome.processes) == len(left) <= own, outcome.processes
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.shared == outcome.files == []
        assert outcome.stderr == "", outcome.stderr
    if ending != "terminate":
        assert closed(note) == list(range(COUNT)), closed(note)


@case(modes=[*PROCESSES, "async spawn", "async fork", "pool:2 spawn", "pool:2 fork"], full=True)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("stuck", [None, 2, 3])
def test_nothing_is_left_when_the_program_is_killed(mode, number, stuck):
    mode, _, context = mode.partition(" ")
    program = {"mode": mode, "stuck": stuck, "context": context or None}
    run = Program(programs.run, construct="popen", **program)
    run.wait_for("ready")
    own = [c for c in psutil.Process(run.pid).children() if c.name() == "sleep"]
    run.send(number)
    until(lambda: run.popen.poll() is not None, LEAVE_S)
    for one in own:  # the caller's own: nobody but the system could have ended them
        if one.is_running() and one.ppid() != run.pid:
            one.kill()
    run.finish().check(returncode=-number, result=False, noise=1, files=False)


@case(modes=PROCESSES)
def test_a_killed_program_lets_environments_close_and_leaves_no_files(mode):
    """`close` of the environments runs in every worker that can run it."""
    note = notes()
    run = Program(programs.run, mode=mode, note=note)
    run.wait_for("ready")
    run.send(signal.SIGKILL)
    run.finish().check(returncode=-9, result=False, noise=None)
    assert closed(note) == (list(range(COUNT)) if mode == "async" else [2, 3])


@case(modes=PROCESSES, full=True)
def test_a_scheduler_ends_all_at_once(mode):
    run = Program(programs.run, mode=mode)
    run.wait_for("ready")
    run.send(signal.SIGTERM, group=True)
    run.finish().check(returncode=-signal.SIGTERM, result=False, noise=1, files=False)


def step(envs):
    with pytest.raises(Exception, match="."):
        envs.step(actions(base=7))


USES = {
    "forget": lambda kept: (kept.clear(), gc.collect()),
    "close": lambda kept: kept[0].close(),
    "step": lambda kept: step(kept[0]),
}


@case(modes=PROCESSES, each={"use": USES})
def test_a_forked_process_harms_nothing_and_steals_nothing(mode, use):
    kept = [make(mode)]
    kept[0].reset(seed=1)
    everyone = workers_of(kept[0])
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # ends it if it hangs
        code = 1
        with contextlib.suppress(BaseException):
            USES[use](kept)
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "it stepped, or hung"
    batch = actions()
    assert_step(kept[0].step(batch), batch, 1)
    assert workers_of(kept[0]) == everyone
    close_in_time(kept[0])


@case(modes=PROCESSES)
def test_copying_is_refused_and_harms_nothing(mode):
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
    """The pool's is in test_pool_lifecycle."""
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
    before = len(os.listdir("/proc/self/fd"))
    with make("pool:2", zoo.EchoEnv, count=256) as envs:
        envs.reset(seed=1)
        assert len(os.listdir("/proc/self/fd")) - before < 20
        assert len(envs.step(np.zeros(256, np.int64))[1]) == 256


@case(modes=PROCESSES, deadline_s=60.0, full=True)
def test_too_few_descriptors_are_one_error(mode):
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
    with make(mode, Forks) as envs:
        envs.reset(seed=1)
        for step in (1, 2):
            batch = actions(base=step)
            assert_step(envs.step(batch), batch, step)


@case(modes=MODES)
def test_factories_may_come_from_a_generator(mode):
    with auto_make_vec((lambda i=i: FaultyEnv(i) for i in range(COUNT)), mode=mode) as envs:
        assert_usable(envs)
    for count in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            auto_make_vec("CartPole-v1", count, mode=mode)


@case(modes=["sync", "pool:0", "pool:2"])
def test_one_environment_for_all_is_noticed(mode):
    env = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="same instance"):
        auto_make_vec([lambda: env] * 6, mode=mode)
    env.close()


@case(modes=PROCESSES, full=True)
def test_ended_workers_are_gone_when_close_returns(mode):
    for _ in range(5):
        envs = make(mode, construct="popen")
        envs.reset(seed=1)
        children = psutil.Process().children(recursive=True)
        mine = [c for c in children if c.name() == "sleep" and c.ppid() == os.getpid()]
        theirs = [c for c in children if c.name() == "sleep" and c not in mine]
        assert len(theirs) == (COUNT if mode == "async" else COUNT - len(mine))
        close_in_time(envs)
        assert all(gone(child.pid) for child in theirs)
        for child in mine:
            child.kill()
            child.wait()
