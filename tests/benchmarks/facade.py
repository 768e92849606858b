"""What the facade and the pool add to a vector step, in microseconds.

Run from the repository's root: python -m tests.benchmarks.facade
"""

from __future__ import annotations

import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vecselect import auto_make_vec
from vecselect.vector_env import AutoVectorEnv

CALLS = 200
ROUNDS = 900


class Nothing(VectorEnv):
    """A vector environment whose step costs next to nothing."""

    def __init__(self, single_action_space, num_envs):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = self.observation_space = spaces.Discrete(1)
        self.single_action_space = single_action_space
        self.action_space = batch_space(single_action_space, num_envs)
        self.result = (0, 0, 0, 0, {})

    def step(self, actions):
        return self.result


class Still(gym.Env):
    """A sub-environment whose step costs next to nothing."""

    observation_space = spaces.Box(-1, 1, (4,), np.float32)
    action_space = spaces.Discrete(2)
    observation = np.zeros(4, np.float32)

    def reset(self, *, seed=None, options=None):
        return self.observation, {}

    def step(self, action):
        return self.observation, 0.0, False, False, {}


def seconds(step, actions):
    start = time.perf_counter()
    for _ in range(CALLS):
        step(actions)
    return (time.perf_counter() - start) / CALLS


def main() -> None:
    plan = auto_make_vec("Pendulum-v1", 2, mode="sync").plan
    for name, space in (
        ("Discrete", spaces.Discrete(3)),
        ("Box(6,)", spaces.Box(-1, 1, (6,), np.float32)),
        ("Dict of both", spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0, 1, (2,))})),
    ):
        bare = Nothing(space, 8)
        wrapped = AutoVectorEnv(bare, plan)
        actions = bare.action_space.sample()
        pairs = [
            (seconds(bare.step, actions), seconds(wrapped.step, actions)) for _ in range(ROUNDS)
        ]
        added = np.median([after - before for before, after in pairs])
        print(f"{name:>14}: {added * 1e6:.2f} us per vector step")
    with auto_make_vec(Still, 8, mode="pool:0") as envs:
        envs.reset(seed=1)
        actions, lane = np.zeros(8, np.int64), envs.unwrapped._lane
        pairs = [
            (seconds(lambda actions: lane.step(actions, 0), actions), seconds(envs.step, actions))
            for _ in range(ROUNDS)
        ]
        around = np.median([whole - lanes for lanes, whole in pairs])
        per_row = np.median([lanes for lanes, _ in pairs]) / 8
        print(
            f"pool:0: {around * 1e6:.2f} us around the slice, {per_row * 1e6:.2f} us for each row"
        )


if __name__ == "__main__":
    main()
