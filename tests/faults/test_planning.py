"""What goes wrong while a mode is chosen does not go wrong for the user."""

from __future__ import annotations

import functools
import importlib.util
import signal
import time

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tests import zoo
from tests.faults import programs
from tests.faults.case import PROCESSES, Program, case
from tests.faults.faulty import CLOSED_S, Forks, within
from tests.marks import only_full
from vecselect import auto_make_vec
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
