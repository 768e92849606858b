"""However a pool is left, its processes end; however long it runs, it does not grow."""

from __future__ import annotations

import functools
import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from tests import zoo
from tests.marks import only_full
from vecselect import auto_make_vec
from vecselect.process import contexts
from vecselect.process.interrupts import DeferredInterrupts

GRACE_S = 15.0

PROGRAM = """
import functools, os, signal, sys, time
import numpy as np
from tests import zoo
from vecselect import auto_make_vec
from vecselect.process import contexts

class Noted(zoo.EchoEnv):
    def __init__(self, index, folder):
        super().__init__(index)
        self.folder = folder
    def step(self, action):
        if action == 9:
            time.sleep(1000)
        return super().step(action)
    def close(self):
        open(os.path.join(self.folder, f"closed {self.index}"), "w").close()

envs = auto_make_vec([functools.partial(Noted, i, sys.argv[1]) for i in range(6)], mode="pool:2")
envs.reset(seed=1)
envs.step(np.zeros(6, np.int64))
print(*[handle.process.pid for handle in envs.unwrapped._workers.each], flush=True)
"""

ENDINGS = {
    "the end of the program": "",
    "an exception": "raise ZeroDivisionError",
    "sys.exit": "sys.exit(3)",
    "del": "del envs; time.sleep(60)",
    "close": "envs.close(); time.sleep(60)",
}


def echoes(kind=zoo.EchoEnv):
    return [functools.partial(kind, index) for index in range(4)]


def start(tmp_path, ending):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + ending)
    program = subprocess.Popen(
        [sys.executable, path, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    return program, [int(pid) for pid in program.stdout.readline().split()]


def assert_gone(pids):
    until_s = time.monotonic() + GRACE_S
    while left := [pid for pid in pids if running(pid)]:
        assert time.monotonic() < until_s, f"still running: {left}"
        time.sleep(0.05)


def running(pid):
    """Whether a process runs; one that only waits to be reaped by somebody else does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def closed(tmp_path):
    return sorted(path.name for path in tmp_path.glob("closed *"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_workers_end_and_close_their_environments_however_the_pool_is_left(tmp_path, ending):
    program, workers = start(tmp_path, ENDINGS[ending])
    assert len(workers) == 2
    try:
        assert_gone(workers)
        until_s = time.monotonic() + GRACE_S
        while len(closed(tmp_path)) < 6 and time.monotonic() < until_s:
            time.sleep(0.05)
        assert closed(tmp_path) == [f"closed {index}" for index in range(6)]
    finally:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("stuck", [False, *only_full(True)])
def test_workers_end_when_the_program_is_killed(tmp_path, stuck):
    step = "envs.step_async(np.full(6, 9)); " if stuck else ""
    program, workers = start(tmp_path, f"{step}time.sleep(60)")
    assert len(workers) == 2
    time.sleep(0.2)
    program.send_signal(signal.SIGKILL)
    _, errors = program.communicate()
    assert_gone(workers)
    assert errors == ""
    if not stuck:
        assert closed(tmp_path) == [f"closed {index}" for index in range(2, 6)]


def test_ctrl_c_ends_the_program_with_one_traceback(tmp_path):
    program, workers = start(tmp_path, "\nwhile True: envs.step(np.zeros(6, np.int64))")
    time.sleep(0.3)
    for pid in (*workers, program.pid):  # as a terminal does: to the whole group
        os.kill(pid, signal.SIGINT)
    _, errors = program.communicate(timeout=GRACE_S)
    assert errors.count("Traceback") == 1
    assert "KeyboardInterrupt" in errors
    assert_gone(workers)


def use(envs):
    """Calls this and that for longer than anybody waits."""
    for step in range(1000):
        envs.step(np.full(4, step % 10))
        if step % 7 == 0:
            envs.reset(seed=step)
        if step % 5 == 0:
            envs.get_attr("label")


def interrupted(envs, after_s):
    """Uses a pool until Ctrl-C comes; whether it came."""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, after_s)
            use(envs)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    return False


def test_interrupted_calls_leave_no_stale_data():
    """Ctrl-C at random moments, caught: the next reset and steps are what they should be."""
    random = np.random.default_rng(0)
    interrupts = 0
    with auto_make_vec(echoes(zoo.InfoEnv), mode="pool:2") as envs:
        envs.reset(seed=1)
        for attempt in range(400):
            interrupts += interrupted(envs, random.uniform(1e-5, 2e-3))
            observations, infos = envs.reset(seed=attempt)
            assert observations[:, 1].tolist() == [attempt + i for i in range(4)]
            assert observations[:, 3:].tolist() == [[0, -1]] * 4
            assert infos["index"].tolist() == [0, 1, 2, 3]
            for step in (1, 2):
                actions = random.integers(0, 10, 4)
                observations, rewards, *_ = envs.step(actions)
                assert observations[:, 3].tolist() == [step] * 4
                assert observations[:, 4].tolist() == actions.tolist()
                assert rewards.tolist() == [
                    1000 * i + 10 * step + actions[i] / 10 for i in range(4)
                ]
    assert interrupts > 300


@pytest.fixture(autouse=True)
def alarm_is_ctrl_c():
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    gc.disable()  # what is raised in another library's callback of it is lost
    yield
    gc.enable()
    signal.signal(signal.SIGALRM, before)


def test_ctrl_c_is_heard_again_where_a_handler_has_raised_before_it_was():
    before = signal.getsignal(signal.SIGINT)
    message = DeferredInterrupts()
    message.__enter__()
    signal.raise_signal(signal.SIGINT)  # put off
    del message  # as where the handler of another signal raises before `__exit__` has begun
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.full
def test_a_stuck_worker_does_not_hold_up_close():
    class Stuck(zoo.EchoEnv):
        def step(self, action):
            if action == 9:
                time.sleep(1000)
            return super().step(action)

    envs = auto_make_vec(echoes(Stuck), mode="pool:1")
    envs.reset(seed=1)
    envs.step_async(np.array([0, 0, 9, 9]))
    pids = [handle.process.pid for handle in envs.unwrapped._workers.each]
    start_s = time.monotonic()
    envs.close()
    assert time.monotonic() - start_s < GRACE_S
    assert_gone(pids)


def test_a_process_forked_from_the_caller_ends_without_ending_the_workers():
    with auto_make_vec(echoes(), mode="pool:1") as envs:
        envs.reset(seed=1)
        pid = os.fork()
        if pid == 0:
            del envs
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        envs.step(np.zeros(4, np.int64))


OURS = f"vecselect-{os.getpid()}-"


def measures():
    process = psutil.Process()
    return {
        "descriptors": process.num_fds(),
        "processes": len(process.children(recursive=True)),
        "shared memory": sum(OURS in name for name in os.listdir("/dev/shm")),
    }


def cycle():
    env_fns = [functools.partial(zoo.InfoEnv, index) for index in range(4)]
    with auto_make_vec(env_fns, mode="pool:1") as envs:
        envs.reset(seed=1)
        envs.step(np.zeros(4, np.int64))


@pytest.mark.full
def test_opening_and_closing_leaves_nothing_behind():
    for _ in range(20):
        cycle()
    gc.collect()
    before, memory_before = measures(), psutil.Process().memory_info().rss
    for _ in range(180):
        cycle()
    gc.collect()
    assert measures() == before
    assert psutil.Process().memory_info().rss - memory_before < 8 << 20


@pytest.mark.full
def test_a_long_run_does_not_grow():
    with auto_make_vec(echoes(zoo.InfoEnv), mode="pool:1") as envs:
        workers = [psutil.Process(h.process.pid) for h in envs.unwrapped._workers.each]
        everyone = [psutil.Process(), *workers]
        envs.reset(seed=1)
        space = envs.action_space
        space.seed(1)
        actions = [space.sample() for _ in range(16)]

        def run(vector_steps):
            for step in range(vector_steps):
                envs.step(actions[step % 16])
            gc.collect()
            return [one.memory_info().rss for one in everyone], measures()

        memory_before, before = run(4_000)
        memory_after, after = run(16_000)
        assert after == before
        for early, late in zip(memory_before, memory_after, strict=True):
            assert late - early < 8 << 20


def test_a_worker_that_cannot_be_started_leaves_no_name_and_no_file(monkeypatch):
    def start(process):
        raise OSError("no more processes")

    auto_make_vec("CartPole-v1", 4, mode="pool:2").close()  # what multiprocessing itself keeps open
    kind = type(contexts.get_context().Process(target=None))
    monkeypatch.setattr(kind, "start", start)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no more processes"):
        auto_make_vec("CartPole-v1", 4, mode="pool:2")
    gc.collect()
    assert not [name for name in os.listdir("/dev/shm") if f"-{os.getpid()}-" in name]
    assert len(os.listdir("/proc/self/fd")) <= before
