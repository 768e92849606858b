"""Mode `async`: closing, and what is left when a program or a construction fails."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from gymnasium.error import ClosedEnvironmentError

from tests.deeds import (
    CLOSED_S,
    ERRORS,
    GRACE_S,
    ZEROS,
    DoEnv,
    assert_gone,
    make,
    pids,
    tell,
    text_of,
    within,
)
from tests.marks import only_full
from vecselect import auto_make_vec
from vecselect.errors import WorkerDied

PROGRAM = """
import sys, time
from tests.deeds import ZEROS, make, pids, tell
from vecselect import auto_make_vec

if __name__ == "__main__":
    context, stuck, folder = sys.argv[1:]
    envs = make(note=folder, options={"context": context})
    envs.reset(seed=1)
    print(*pids(envs), flush=True)
    if stuck == "True":
        tell(envs, "step", "sleep")
        envs.step_async(ZEROS)
    time.sleep(60)
"""


@pytest.mark.parametrize("context", ["forkserver", *only_full("spawn", "fork")])
@pytest.mark.parametrize("stuck", [False, *only_full(True)])
def test_workers_close_and_end_when_the_program_is_killed(tmp_path, context, stuck):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, path, context, str(stuck), tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    workers = [int(pid) for pid in program.stdout.readline().split()]
    assert len(workers) == 4
    time.sleep(0.3)
    (tmp_path / "closed 0").unlink(missing_ok=True)  # that of the one Gymnasium builds first
    program.kill()
    assert_gone(workers, 5.0)
    _, errors = program.communicate()
    assert errors == ""
    expected = [0, 1, 3] if stuck else [0, 1, 2, 3]
    assert sorted(int(p.name[-1]) for p in tmp_path.glob("closed *")) == expected


def bring_into(envs, state):
    envs.reset(seed=1)
    victim = pids(envs)[2]
    if state in ("pending", "timed out"):
        tell(envs, "step", "sleep")
        envs.step_async(ZEROS)
    if state == "timed out":
        with pytest.raises(multiprocessing.TimeoutError):
            envs.step_wait(timeout=0.05)
    if state == "dead":
        os.kill(victim, signal.SIGKILL)
    if state == "stopped":
        os.kill(victim, signal.SIGSTOP)
    if state == "close hangs":
        tell(envs, "close", "sleep")
    if state == "close raises":
        tell(envs, "close", "key")
    if state == "owns a process":
        envs.call("do", "popen")


STATES = [
    "idle",
    "pending",
    "timed out",
    "dead",
    "stopped",
    "close hangs",
    "close raises",
    "owns a process",
]


@pytest.mark.parametrize("options", [{"terminate": True}, *only_full({}, {"timeout": 0.2})])
@pytest.mark.parametrize("state", STATES)
def test_closing_ends_everything_in_every_state(state, options):
    with make(count=1):  # what multiprocessing keeps open is open from here on
        pass
    gc.collect()
    descriptors = psutil.Process().num_fds()
    envs = make()
    everyone = pids(envs)
    bring_into(envs, state)
    everyone += [c.pid for c in psutil.Process().children(recursive=True) if c.name() == "sleep"]
    assert (len(everyone) == 5) == (state == "owns a process")
    with within(CLOSED_S):
        envs.close(**options)
    assert_gone(everyone, 0.5)
    with within(0.1):
        envs.close()
        envs.unwrapped.close()
    with pytest.raises(ClosedEnvironmentError):
        envs.unwrapped.reset()
    assert multiprocessing.active_children() == []
    assert not [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE]
    assert psutil.Process().num_fds() <= descriptors


def test_one_that_was_not_closed_closes_its_environments_when_it_is_collected(tmp_path):
    envs = make(note=str(tmp_path))
    (tmp_path / "closed 0").unlink()
    everyone = pids(envs)
    del envs
    gc.collect()
    assert_gone(everyone, 0.5)
    assert len(list(tmp_path.glob("closed *"))) == 4


@pytest.mark.parametrize("context", ["forkserver", *only_full("spawn", "fork")])
def test_a_factory_that_fails_leaves_nothing(context):
    builds = DoEnv.builds
    for name in ("runtime", "key"):
        with within(GRACE_S), pytest.raises(ERRORS[name][1]) as caught:
            make(options={"context": context}, construct=name)
        if hasattr(caught.value, "__notes__"):
            assert "sub-environment 2 in construct" in text_of(caught.value)
        assert caught.value.args == ERRORS[name][0]().args
    with within(GRACE_S), pytest.raises(WorkerDied, match=r"sub-environment 2 .* code 3"):
        make(options={"context": context}, construct="exit")
    assert multiprocessing.active_children() == []
    assert DoEnv.builds == builds + 3


class Unloadable:
    """A factory that breaks where it is unpacked."""

    def __init__(self, index):
        self.index = index

    def __reduce__(self):
        return int, ("no number",)

    def __call__(self):
        return DoEnv(self.index)


def test_a_factory_that_cannot_be_unpacked_says_so():
    env_fns = [functools.partial(DoEnv, 0), Unloadable(1)]
    with within(GRACE_S), pytest.raises(ValueError, match="no number"):
        auto_make_vec(env_fns, mode="async")


SPEAKING = """
from tests.deeds import ERRORS, ZEROS, make, tell

if __name__ == "__main__":
    envs = make()
    for name in ERRORS:
        envs.reset(seed=1)
        tell(envs, "step", name)
        try:
            envs.step(ZEROS)
        except BaseException:
            pass
        else:
            raise SystemExit("nothing was raised")
        tell(envs, "close", "key")
    envs.close()
"""


@pytest.mark.full
def test_nothing_is_printed_but_what_nobody_else_can_tell(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(SPEAKING)
    ended = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "vecselect: sub-environment 2 raised KeyError in close(): 'missing'\n"
