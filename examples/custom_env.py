"""An environment of one's own whose step takes 3 ms, and a learner that takes its time too."""

import time

import gymnasium as gym
import numpy as np

from vecselect import auto_make_vec


class SlowSimulator(gym.Env):
    """Moves a point towards the origin; each step computes for 3 ms."""

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-5, 5, 2).astype(np.float32)
        return self.position, {}

    def step(self, action):
        end_s = time.thread_time() + 0.003
        while time.thread_time() < end_s:
            pass
        self.position = np.clip(self.position + action, -10, 10).astype(np.float32)
        distance = float(np.linalg.norm(self.position))
        return self.position, -distance, distance < 0.5, False, {"distance": distance}


def main() -> None:
    with auto_make_vec(SlowSimulator, 4, learner=0.001) as envs:
        print(envs.report)
        observations, _ = envs.reset(seed=1)
        for _ in range(20):
            observations, *_ = envs.step(np.clip(-observations, -1, 1))
        print("distances:", np.linalg.norm(observations, axis=1).round(2))


if __name__ == "__main__":
    main()
