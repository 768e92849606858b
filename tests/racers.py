"""Environments that race, and how a race of them is run."""

import multiprocessing
import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from tests.zoo import ActingEnv, EchoEnv
from vecselect.planning.timing import TimingTask
from vecselect.request import read_request

NUM_ENVS = 2


def in_a_worker():
    return multiprocessing.parent_process() is not None


class WaitEnv(gym.Env):
    """Waits in each step: a worker halves that however busy the machine is."""

    observation_space = spaces.Box(0, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.random(3, dtype=np.float32), {}

    def step(self, action):
        time.sleep(0.02)
        return self.np_random.random(3, dtype=np.float32), float(action), False, False, {}


def fail_in_a_worker():
    if in_a_worker():
        raise OSError("the licence allows one process")


class HomeEnv(ActingEnv):
    """Fails in a worker, when it comes to `phase`."""

    def __init__(self, phase):
        super().__init__(phase, fail_in_a_worker)


class ClosingEnv(EchoEnv):
    """Leaves a file for every one that was closed; refuses to close quietly."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def close(self):
        (self.folder / str(time.monotonic_ns())).touch()
        raise OSError("it does not want to close")


def race(
    make,
    modes=("sync", "pool:1"),
    learner=0.0,
    num_envs=NUM_ENVS,
    vector_kwargs=None,
    isolated=False,
    progress=lambda message: None,
    **how,
):
    """A race with short blocks, few rounds and much time; `progress` is told texts alone."""
    count = None if isinstance(make, list) else num_envs
    request = read_request(make, count, vector_kwargs=vector_kwargs)
    which = tuple((mode, request.num_envs) for mode in modes)
    how = {"block_s": 0.002, "max_rounds": 3, "budget_s": 30, **how}
    timing = TimingTask(request, which, learner, spaces.Discrete(2), **how)

    if isolated:
        return timing.run_isolated(progress)
    return timing.run(progress=lambda told: progress(told) if isinstance(told, str) else None)


def the_modes(found):
    """The modes that were timed."""
    return [one.mode for one in found.entrants if one.loop_s]


def left_out(found):
    """By mode, why it was not timed."""
    return {one.mode: one.skipped for one in found.entrants if one.skipped}
