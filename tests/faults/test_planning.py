"""What goes wrong while a mode is chosen does not go wrong for the user."""

from __future__ import annotations

import functools
import importlib.util
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tests import zoo
from tests.faults import programs
from tests.faults.case import LEAVE_S, PROCESSES, Program, case
from tests.faults.faulty import CLOSED_S, FaultyEnv, Forks, notes, within
from tests.marks import only_full
from tests.noting import Notes
from tests.processes import until
from vecselect import ProfileError, auto_make_vec
from vecselect.testing.contract import assert_same_run

EFFORTS = ["rule", "measure", "race"]


@case(deadline_s=60.0, each={"effort": EFFORTS})
def test_planning_changes_no_result_and_no_generator(effort):
    np.random.seed(5)
    random.seed(5)
    before = np.random.get_state(), random.getstate()
    with auto_make_vec("CartPole-v1", 4, effort=effort, budget_s=0.5) as envs:
        after = np.random.get_state(), random.getstate()
        assert after[1] == before[1]
        assert after[0][2:] == before[0][2:] and (after[0][1] == before[0][1]).all()
        with auto_make_vec("CartPole-v1", 4, mode="sync") as pinned:
            assert_same_run(envs, pinned, 40)


@case(deadline_s=60.0, full=True, each={"effort": EFFORTS})
def test_every_environment_that_was_built_is_closed(effort):
    noted = Notes(Path(notes()) / effort)
    with auto_make_vec(noted.factories(3), effort=effort, budget_s=0.5):
        pass
    assert noted.built
    assert until(lambda: len(noted.closed) == len(noted.built), LEAVE_S)
    assert sorted(one.pid for one in noted.closed) == sorted(one.pid for one in noted.built)


@case(deadline_s=60.0, noise=None, each={"fault": ["segfault", "runtime", "sys_exit"]}, full=True)
def test_what_fails_only_where_it_is_measured_does_not_end_the_program(fault):
    """An error that can be caught, or another mode is taken."""
    outcome = Program(programs.plan, fault=fault, count=3, budget_s=1.0).finish()
    assert not outcome.hung
    if outcome.result and not outcome.result["error"]:
        assert "done" in outcome.stdout
    else:
        assert outcome.result is not None, outcome.stderr
        assert "ProfileError" in outcome.result["error"], outcome.result["error"]
    assert outcome.processes == outcome.shared == outcome.files == []


@case(deadline_s=30.0, full=True)
def test_an_environment_that_forks_while_it_is_measured_is_served():
    with auto_make_vec([functools.partial(Forks, i) for i in range(3)], budget_s=1.0) as envs:
        oracle = SyncVectorEnv([functools.partial(zoo.EchoEnv, i) for i in range(3)])
        assert_same_run(envs, oracle, 10)


@case(deadline_s=60.0, full=True)
def test_an_environment_that_cannot_be_measured_can_be_pinned():
    env_fns = [functools.partial(FaultyEnv, i, row=2, reset="runtime") for i in range(3)]
    with pytest.raises(ProfileError, match="RuntimeError") as caught:
        auto_make_vec(env_fns, budget_s=1.0)
    assert isinstance(caught.value.__cause__, RuntimeError)
    with auto_make_vec(env_fns[:2], mode="sync") as envs:
        envs.reset(seed=1)


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
def test_ctrl_c_while_planning_leaves_nothing(after_s):
    run = Program(programs.plan, budget_s=20.0, effort="race")
    run.wait_for("ready")
    time.sleep(after_s)
    run.send(signal.SIGINT, group=True)
    with within(CLOSED_S):
        outcome = run.finish().check(returncode=None, result=False, noise=None)
    # A process that Python was still starting may say so too, before anything of ours runs in it.
    assert outcome.stderr.rstrip().endswith("KeyboardInterrupt"), outcome.stderr


@case(deadline_s=60.0, full=True)
@pytest.mark.parametrize("after_s", [0.5])
def test_a_program_killed_while_planning_leaves_nothing(after_s):
    run = Program(programs.plan, budget_s=20.0, effort="race")
    run.wait_for("ready")
    time.sleep(after_s)
    run.send(signal.SIGKILL)
    # multiprocessing's resource tracker says what it removed.
    run.finish().check(returncode=-9, result=False, noise=4, files=False)
