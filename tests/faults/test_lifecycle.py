"""However it ends, nothing is left: no process, no descriptor, no name."""

from __future__ import annotations

import contextlib
import copy
import gc
import multiprocessing
import os
import pickle
import signal

import numpy as np
import psutil
import pytest

from tests import zoo
from tests.faults import programs
from tests.faults.case import LEAVE_S, MODES, PROCESSES, Program, case, descriptors
from tests.faults.faulty import (
    COUNT,
    STARTED,
    FaultyEnv,
    Forks,
    actions,
    assert_step,
    close_in_time,
    make,
    notes,
    pids,
    workers_of,
)
from tests.marks import only_full
from tests.processes import gone, until
from vecselect import VecselectError, auto_make_vec

SPAWNED = ["async spawn", "async fork", "pool:2 spawn", "pool:2 fork"]


def closed(note):
    return sorted(int(name.split()[1]) for name in os.listdir(note) if name.startswith("closed"))


STATES = ["fresh", "idle", "pending", "timed out", "dead", "dead pending", "stopped", "failed"]


def bring_into(envs, state):
    """Puts a vector environment into a state; what that raises is not the point here."""
    if state == "fresh":
        return
    envs.reset(seed=1)
    if state in ("pending", "timed out"):
        envs.step_async(actions({3: "sleep"}))
    if state == "timed out":
        with contextlib.suppress(multiprocessing.TimeoutError):
            envs.step_wait(timeout=0.1)
    if state == "dead pending":
        envs.step_async(actions({2: "sleep", 3: "sigkill"}))
    if state == "failed":
        with contextlib.suppress(RuntimeError):
            envs.step(actions({3: "runtime"}))
    if state in ("dead", "stopped"):
        os.kill(pids(envs)[3], signal.SIGKILL if state == "dead" else signal.SIGSTOP)


@case(modes=PROCESSES, deadline_s=80.0)
@pytest.mark.parametrize("options", [{"timeout": 0.3}, *only_full({}, {"terminate": True})])
@pytest.mark.parametrize("states", [["timed out"], *only_full(STATES)])
def test_closing_ends_in_every_state(mode, options, states):
    for state in states:
        envs = make(mode)
        everyone = workers_of(envs)
        bring_into(envs, state)
        close_in_time(envs, **options)
        assert all(map(gone, everyone)), state


@case(modes=PROCESSES, noise=4)
@pytest.mark.parametrize("fault", ["runtime", *only_full("sleep", "sigkill", "stop")])
def test_closing_ends_though_an_environment_does_not_want_to(mode, fault):
    envs = make(mode, row=3, close=fault)
    everyone = workers_of(envs)
    envs.reset(seed=1)
    close_in_time(envs, timeout=0.5)
    assert all(map(gone, everyone))


# Programs that end, and environments that own a process, and do not end it in close()


@case(modes=PROCESSES)
@pytest.mark.parametrize("ending", ["raise", *only_full("close", "terminate", "leave")])
def test_what_environments_started_is_ended_with_the_program(mode, ending):
    note = notes()
    run = Program(programs.run, mode=mode, note=note, construct="popen", ending=ending)
    run.finish(leave_s=2.0)
    # What was built in the program itself: two of the pool, and one to look at in async.
    own = 1 if mode == "async" else 2
    left = [one for one in run.processes if "sleep 300" in one]
    assert len(run.processes) == len(left) <= own, run.processes
    assert run.returncode == 0, run.stderr
    assert run.shared == run.files == []
    assert run.stderr == "", run.stderr
    if ending != "terminate":
        assert closed(note) == list(range(COUNT)), closed(note)


@case(modes=PROCESSES, full=True)
def test_the_program_ends_though_a_worker_is_stopped_and_nobody_closes(mode):
    Program(programs.run, mode=mode, ending="leave stopped").finish().check(noise=None)


@case(modes=[*PROCESSES, *SPAWNED])
@pytest.mark.parametrize("number", [signal.SIGKILL, *only_full(signal.SIGTERM)])
@pytest.mark.parametrize("stuck", [2, *only_full(None, 3)])
def test_a_killed_program_leaves_nothing_and_lets_environments_close(mode, number, stuck):
    """`close` of the environments runs in every worker that can run it."""
    note = notes()
    run = Program(programs.run, mode=mode, note=note, stuck=stuck, construct="popen")
    run.wait_for("ready")
    own = [c for c in psutil.Process(run.pid).children() if c.name() == "sleep"]
    if mode.startswith("async"):  # that of the one that was built in the program
        os.unlink(os.path.join(note, "closed 0"))
    run.send(number)
    until(lambda: run.popen.poll() is not None, LEAVE_S)
    for one in own:  # the caller's own: nobody but the system could have ended them
        if one.is_running() and one.ppid() != run.pid:
            one.kill()
    # A process that multiprocessing's own start methods leave may have a folder of its own.
    run.finish().check(returncode=-number, result=False, noise=1, files=mode in PROCESSES)
    workers = range(COUNT) if mode.startswith("async") else [2, 3]
    assert closed(note) == [row for row in workers if row != stuck]


@case(modes=PROCESSES, full=True)
def test_a_scheduler_ends_all_at_once(mode):
    run = Program(programs.run, mode=mode)
    run.wait_for("ready")
    run.send(signal.SIGTERM, group=True)
    run.finish().check(returncode=-signal.SIGTERM, result=False, noise=1, files=False)


@case(modes=PROCESSES, full=True)
def test_what_nobody_refers_to_any_more_is_closed(mode):
    note = notes()
    envs = make(mode, note=note, construct="popen")
    everyone = workers_of(envs)
    del envs
    gc.collect()
    assert until(lambda: len(closed(note)) == COUNT, LEAVE_S)
    assert all(map(gone, everyone))
    for one in STARTED:  # what the caller's own lane started belongs to the caller
        one.kill()
        one.wait()


# Forks, copies and processes of others


def forget(kept):
    kept.clear()
    gc.collect()


def step(kept):
    with pytest.raises(VecselectError, match="fork"):
        kept[0].step(actions(base=7))


@case(modes=[*PROCESSES, "thread:2"])
def test_a_forked_process_harms_nothing_and_steals_nothing(mode):
    kept = [make(mode)]
    kept[0].reset(seed=1)
    everyone = workers_of(kept[0])
    for number, use in enumerate((forget, step, lambda kept: kept[0].close()), 1):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)  # ends it if it hangs
            code = 1
            with contextlib.suppress(BaseException):
                use(kept)
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "it stepped, or hung"
        batch = actions()
        assert_step(kept[0].step(batch), batch, number)
        assert workers_of(kept[0]) == everyone
    close_in_time(kept[0])


@case(modes=[*PROCESSES, "thread:2"])
def test_copying_is_refused_and_harms_nothing(mode):
    with make(mode) as envs:
        envs.reset(seed=1)
        for attempt in (copy.deepcopy, pickle.dumps, lambda one: copy.copy(one.unwrapped)):
            for one in (envs, envs.unwrapped):
                with pytest.raises(VecselectError, match="cannot be copied"):
                    attempt(one)
        batch = actions()
        assert_step(envs.step(batch), batch, 1)


@case(deadline_s=60.0, full=True)
def test_many_sub_environments_need_few_descriptors():
    before = len(os.listdir("/proc/self/fd"))
    with make("pool:2", zoo.EchoEnv, count=256) as envs:
        envs.reset(seed=1)
        assert len(os.listdir("/proc/self/fd")) - before < 20
        assert len(envs.step(np.zeros(256, np.int64))[1]) == 256


@case(modes=MODES)
def test_environments_may_start_processes(mode):
    with make(mode, Forks) as envs:
        envs.reset(seed=1)
        for step in (1, 2):
            batch = actions(base=step)
            assert_step(envs.step(batch), batch, step)


@case(modes=["sync", "pool:0", "pool:2", "thread:2"])
def test_one_environment_for_all_is_noticed(mode):
    note = notes()
    env = FaultyEnv(note=note)
    with pytest.raises(ValueError, match="same instance"):
        auto_make_vec([lambda: env] * 6, mode=mode)
    assert closed(note) == [0]


@case(full=True)
def test_a_long_run_does_not_grow():
    with make("pool:2", zoo.InfoEnv) as envs:
        everyone = [psutil.Process(), *psutil.Process().children(recursive=True)]
        envs.reset(seed=1)

        def run(vector_steps):
            for step in range(vector_steps):
                envs.step(actions(base=step))
            gc.collect()
            return [one.memory_info().rss for one in everyone], len(descriptors())

        memory_before, before = run(4_000)
        memory_after, after = run(16_000)
        assert after == before
        for early, late in zip(memory_before, memory_after, strict=True):
            assert late - early < 8 << 20
