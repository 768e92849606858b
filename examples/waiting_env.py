"""Environments that wait for a program of their own: threads let them all wait at the same time."""

import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from vecselect import auto_make_vec

SIMULATOR = """
import sys, time
for line in sys.stdin:
    time.sleep(0.005)  # it has something to do, or a frame rate to keep
    print(float(line) / 2, flush=True)
"""
NUM_ENVS, STEPS = 16, 20


class Remote(gym.Env):
    """Sends each action to a simulator, a program of its own, and waits for what it answers."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self):
        self.simulator = subprocess.Popen(
            [sys.executable, "-c", SIMULATOR], stdin=-1, stdout=-1, text=True, bufsize=1
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.simulator.stdin.write(f"{action[0]}\n")
        answer = float(self.simulator.stdout.readline())
        return np.array([answer], np.float32), answer, False, False, {}

    def close(self):
        self.simulator.communicate()  # the end of its input is the end of the program


def main() -> None:
    for mode in ("sync", "thread"):
        with auto_make_vec(Remote, NUM_ENVS, mode=mode) as envs:
            envs.reset(seed=1)
            actions = np.linspace(-1.0, 1.0, NUM_ENVS, dtype=np.float32)[:, None]
            start_s = time.perf_counter()
            for _ in range(STEPS):
                observations, *_ = envs.step(actions)
            rate = NUM_ENVS * STEPS / (time.perf_counter() - start_s)
            print(f"{envs.mode:>9}: {rate:6.0f} env steps/s, answers up to {observations.max()}")


if __name__ == "__main__":
    main()
