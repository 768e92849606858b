"""What goes wrong while a mode is chosen does not go wrong for the user."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tests import zoo
from tests.faults import programs
from tests.faults.case import PROCESSES, Program, case
from tests.faults.faulty import CLOSED_S, Forks, within
from tests.marks import only_full
from tests.processes import until
from vecselect import VecselectWarning, auto_make_vec, recommend
from vecselect.testing.contract import assert_same_run


@case(deadline_s=30.0, full=True)
def test_an_environment_that_forks_while_it_is_measured_is_served():
    with auto_make_vec([functools.partial(Forks, i) for i in range(3)], budget_s=1.0) as envs:
        oracle = SyncVectorEnv([functools.partial(zoo.EchoEnv, i) for i in range(3)])
        assert_same_run(envs, oracle, 10)


@case(modes=["sync", *PROCESSES], deadline_s=100.0, full=True)  # each of them loads torch
def test_threads_of_torch_do_not_reach_the_workers(mode):
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    torch.set_num_threads(2)
    torch.ones(500, 500) @ torch.ones(500, 500)
    with auto_make_vec([functools.partial(Torch, i) for i in range(3)], mode=mode) as envs:
        envs.reset(seed=1)
        for _ in range(20):
            envs.step(np.zeros(3, np.int64))


class Torch(zoo.EchoEnv):
    def step(self, action):
        import torch

        torch.ones(300, 300) @ torch.ones(300, 300)
        return super().step(action)


@case(deadline_s=60.0)
@pytest.mark.parametrize("after_s", [0.1, *only_full(0.5)])
@pytest.mark.parametrize("number", [signal.SIGINT, *only_full(signal.SIGKILL)])
def test_a_program_that_is_ended_while_planning_leaves_nothing(number, after_s):
    run = Program(programs.plan, budget_s=20.0, effort="race")
    run.wait_for("ready")
    time.sleep(after_s)
    run.send(number, group=number == signal.SIGINT)
    with within(CLOSED_S):
        run.finish()
    if number == signal.SIGKILL:  # multiprocessing's resource tracker says what it removed
        run.check(returncode=-9, result=False, noise=4, files=False)
    else:
        run.check(returncode=None, result=False, noise=None)
        # A process that Python was still starting may say so too, before anything of ours runs.
        assert run.stderr.rstrip().endswith("KeyboardInterrupt"), run.stderr


# A plan cache that is damaged, foreign or contended costs a warning at most.


@case()
@pytest.mark.parametrize("cache", ["below a file", "a dead link", "without a home"])
def test_a_cache_that_cannot_be_is_done_without(cache):
    base = Path(os.environ["TMPDIR"]).parent
    (base / "file").write_text("here")
    (base / "link").symlink_to("/proc/nowhere")
    places = {"below a file": base / "file" / "store", "a dead link": base / "link"}
    if cache in places:
        os.environ["VECSELECT_CACHE_DIR"] = str(places[cache])
    else:
        for name in ("VECSELECT_CACHE_DIR", "XDG_CACHE_HOME"):
            os.environ.pop(name, None)
        os.environ["HOME"] = "/proc/nowhere"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VecselectWarning)
        with auto_make_vec("CartPole-v1", 2, budget_s=0.1) as envs:
            envs.reset(seed=1)
            envs.step(envs.action_space.sample())


@case(deadline_s=60.0, full=True)
def test_a_killed_program_leaves_a_cache_that_can_be_read():
    """Killed around the moment at which the plan is written."""
    shared = Path(os.environ["TMPDIR"]).parent / "shared"
    os.environ["VECSELECT_CACHE_DIR"] = str(shared)
    warnings.simplefilter("error", VecselectWarning)
    for _ in range(4):
        run = Program(programs.plan, cache=str(shared), count=2, budget_s=0.05)
        run.wait_for("ready")
        until(lambda run=run: list(shared.rglob("*")) or run.popen.poll() is not None, 10.0)
        run.send(signal.SIGKILL)
        run.finish().check(returncode=None, result=False, noise=None, files=False)
        recommend("CartPole-v1", 2, budget_s=0.05)
        for path in shared.rglob("*.json"):
            json.loads(path.read_text())
            path.unlink()
