"""An environment written twice: for one, and for many at once in NumPy arrays, by `native=`.

The second could as well be one over gymnax, MJX or Isaac. It is chosen only where
`allow=("native",)` says so, and only where it is the fastest; what random actions lead to in it is
held against the first one.
"""

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vecselect import auto_make_vec

SINGLE_OBSERVATION_SPACE = gym.spaces.Box(-10, 10, (2,), np.float32)
SINGLE_ACTION_SPACE = gym.spaces.Box(-1, 1, (2,), np.float32)


class Point(gym.Env):
    """A point to be moved to the origin."""

    observation_space = SINGLE_OBSERVATION_SPACE
    action_space = SINGLE_ACTION_SPACE

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-5, 5, 2).astype(np.float32)
        return self.position, {}

    def step(self, action):
        self.position = np.clip(self.position + action, -10, 10).astype(np.float32)
        distance = float(np.linalg.norm(self.position))
        return self.position, -distance, distance < 0.5, False, {}


class Points(VectorEnv):
    """Many of them at once. An episode that has ended begins anew in the next step."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    single_observation_space = SINGLE_OBSERVATION_SPACE
    single_action_space = SINGLE_ACTION_SPACE

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.observation_space = batch_space(SINGLE_OBSERVATION_SPACE, num_envs)
        self.action_space = batch_space(SINGLE_ACTION_SPACE, num_envs)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.positions = self.drawn()
        self.ended = np.zeros(self.num_envs, bool)
        return self.positions, {}

    def step(self, actions):
        moved = np.clip(self.positions + actions, -10, 10)
        self.positions = np.where(self.ended[:, None], self.drawn(), moved).astype(np.float32)
        distances = np.linalg.norm(self.positions, axis=1).astype(np.float64)
        rewards = np.where(self.ended, 0.0, -distances)
        self.ended = ~self.ended & (distances < 0.5)
        return self.positions, rewards, self.ended, np.zeros(self.num_envs, bool), {}

    def drawn(self):
        return self.np_random.uniform(-5, 5, (self.num_envs, 2)).astype(np.float32)


def main() -> None:
    with auto_make_vec(Point, 64, native=Points, allow=("native",)) as envs:
        print(envs.report)
        observations, _ = envs.reset(seed=1)
        for _ in range(20):
            observations, *_ = envs.step(np.clip(-observations, -1, 1))
        print("distances:", np.linalg.norm(observations[:6], axis=1).round(2))


if __name__ == "__main__":
    main()
