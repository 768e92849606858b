"""What the loops cost is measured over stubs that play a recording."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from vecselect.planning.asked import Asked
from vecselect.planning.calibrate import loop_costs
from vecselect.planning.draft import Draft
from vecselect.planning.memory import Memory

from tests.records import a_calibration
from tests.zoo import EchoEnv
from vecselect.machine import read_machine
from vecselect.measure.probe import probe
from vecselect.request import Request, read_request


class Telling(gym.Env):
    """An environment with many infos, or none."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, infos):
        self.infos = {f"info {number}": float(number) for number in range(infos)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), dict(self.infos)

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, dict(self.infos)


def costs(infos, **options):
    env_fns = (lambda: Telling(infos),) * 4
    found = probe(env_fns, budget_s=0.05)
    return loop_costs(Request("telling", env_fns, vector_kwargs=options), found)


def test_what_infos_and_copies_take_is_told_from_the_rest_of_the_loop():
    found = costs(infos=30)
    assert found.sync.infos_s > 0 and found.pool().infos_s > 0
    assert found.sync.infos_s > 0.5 * found.sync.total_s
    assert found.sync_copying_s > 0 and found.pool_copying_s > 0


def test_what_is_not_done_takes_no_time():
    found = costs(infos=0, copy=False)
    assert found.sync_infos_s == found.pool_infos_s == 0.0
    assert found.sync_copying_s == found.pool_copying_s == 0.0
    assert found.sync_s > 0


def test_loops_that_leave_resets_to_the_caller_have_their_costs_too():
    found = probe((EchoEnv,), budget_s=0.05)
    options = {"autoreset_mode": AutoresetMode.DISABLED}
    found = loop_costs(Request("echo", (EchoEnv,) * 4, vector_kwargs=options), found)
    assert found.sync_s > 0 and found.pool_s > 0


@pytest.mark.parametrize("own_cores", [4.0, 1.0], ids=["remembered", "disturbed"])
def test_measuring_the_machine_once_is_not_taken_from_a_plan_s_budget(monkeypatch, own_cores):
    machine = dataclasses.replace(read_machine(), cores=4.0, cpu=f"a test's {own_cores}")
    monkeypatch.setattr("vecselect.planning.draft.read_machine", lambda: machine)
    made = a_calibration(own_cores, seconds=2.0)
    monkeypatch.setattr("vecselect.planning.memory.calibrate", lambda machine, skipped: made)
    draft = Draft(read_request(EchoEnv, 2), Asked(budget_s=3.0))
    memory = Memory(draft)
    assert memory.calibration() == made
    assert draft.deadline_s == pytest.approx(draft.start_s + 5.0)
    assert memory.calibration() == made
    again = 5.0 if own_cores == 4.0 else 7.0
    assert draft.deadline_s == pytest.approx(draft.start_s + again)
