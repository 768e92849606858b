"""What the facade adds to a vector step, in microseconds.

Run from the repository's root: python -m tests.benchmarks.facade
"""

from __future__ import annotations

import time

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vecselect import auto_make_vec
from vecselect.vector_env import AutoVectorEnv

CALLS = 20_000
ROUNDS = 9


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


if __name__ == "__main__":
    main()
