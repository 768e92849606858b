"""What the loops cost is measured over stubs that play a recording."""

import functools

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from tests.probes import probed
from tests.zoo import SPACES, EchoEnv, SampleEnv
from vecselect.planning import calibrate
from vecselect.planning.calibrate import measure_loops
from vecselect.request import Request


class Telling(gym.Env):
    """An environment with many infos, or none."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, infos=0, size=3):
        self.observation_space = gym.spaces.Box(-1, 1, (size,), np.float32)
        self.infos = {f"info {number}": float(number) for number in range(infos)}

    def observation(self):
        return np.zeros(self.observation_space.shape, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation(), dict(self.infos)

    def step(self, action):
        return self.observation(), 0.0, False, False, dict(self.infos)


def costs(make, count=4, **options):
    return measure_loops(Request("telling", (make,) * count, vector_kwargs=options), probed(make))


def test_more_infos_take_more_of_the_loops():
    few, many = costs(Telling), costs(functools.partial(Telling, 40))
    assert many.sync_s > few.sync_s > 0
    assert many.pool_s > few.pool_s >= few.pool_fixed_s >= 0


def test_copies_are_told_from_the_rest_of_the_loop_and_what_is_not_copied_takes_nothing():
    large = functools.partial(Telling, 0, 100_000)
    copied, kept = costs(large), costs(large, copy=False)
    assert 0 < copied.copying_s <= copied.sync_s
    assert kept.copying_s == 0.0


def test_with_many_sub_environments_the_loops_of_some_are_scaled(monkeypatch):
    made = []

    class Counting(calibrate.ReplayEnv):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(calibrate, "ReplayEnv", Counting)
    found = costs(Telling, 512)
    assert len(made) <= 2 * calibrate.MOST_ENVS + 2
    assert found.sync_s > costs(Telling, 4).sync_s
    assert found.pool_fixed_s < found.pool_s


def test_loops_of_every_autoreset_mode_and_kind_of_space_have_their_costs():
    found = costs(Telling, 1)  # also of one sub-environment
    assert found.sync_s >= 0 and found.pool_s >= found.pool_fixed_s >= 0
    for mode in AutoresetMode:
        assert costs(EchoEnv, autoreset_mode=mode).sync_s > 0
    for name in ("dict", "text", "graph", "sequence"):
        assert costs(functools.partial(SampleEnv, SPACES[name]), 2).sync_s > 0
