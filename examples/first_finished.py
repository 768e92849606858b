"""Environments whose steps take very different times: those that have finished first come first.

The steps wait, as for a simulator: 1 ms, and now and then 20 ms. In lockstep every step of the
batch takes as long as its slowest; with `batch_size`, `recv` and `send` nobody waits for others.
"""

import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from vecselect import auto_make_vec

NUM_ENVS, BATCH_SIZE, ENV_STEPS = 32, 8, 4000


class Target(gym.Env):
    """Find a point on a line; the simulator behind it takes its time."""

    observation_space = spaces.Box(-2.0, 2.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.distance = self.np_random.uniform(-1.0, 1.0)
        return np.array([self.distance], np.float32), {}

    def step(self, action):
        time.sleep(0.02 if self.np_random.random() < 0.05 else 0.001)
        self.distance = float(np.clip(self.distance - action[0], -2.0, 2.0))
        found = abs(self.distance) < 0.05
        return np.array([self.distance], np.float32), -abs(self.distance), found, False, {}


def policy(observations):
    return np.clip(0.5 * observations, -1.0, 1.0)


def lockstep(envs):
    observations, _ = envs.reset(seed=1)
    for _ in range(ENV_STEPS // NUM_ENVS):
        observations, *_ = envs.step(policy(observations))


def first_finished(envs):
    envs.async_reset(seed=1)
    for _ in range(ENV_STEPS // BATCH_SIZE):
        observations, rewards, terminated, truncated, infos = envs.recv()
        envs.send(policy(observations), infos["env_id"])


def main() -> None:
    rates = []
    for loop, options in ((lockstep, {}), (first_finished, {"batch_size": BATCH_SIZE})):
        with auto_make_vec(Target, NUM_ENVS, mode="thread", **options) as envs:
            start_s = time.perf_counter()
            loop(envs)
            rates.append(ENV_STEPS / (time.perf_counter() - start_s))
            print(f"{loop.__name__:>14}: {rates[-1]:6.0f} env steps/s")
    print(f"first finished over lockstep: {rates[1] / rates[0]:.1f}")


if __name__ == "__main__":
    main()
