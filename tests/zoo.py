"""Small environments whose every number can be told in advance."""

from __future__ import annotations

import os
import random
import signal
import socket
import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from vecselect.testing.envs import (
    ACTION_SPACES,
    SPACES,
    EchoEnv,
    InfoEnv,
    PickyEnv,
    SampleEnv,
)

__all__ = ["ACTION_SPACES", "SPACES", "EchoEnv", "InfoEnv", "PickyEnv", "SampleEnv"]


class BufferEnv(gym.Env):
    """Returns the same observation and info objects each time, changed in place."""

    observation_space = spaces.Box(-100, 100, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.buffer = np.zeros(2, np.float32)
        self.info = {"steps": 0}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.buffer[:] = 0
        self.info["steps"] = 0
        return self.buffer, self.info

    def step(self, action):
        self.buffer += 1
        self.info["steps"] += 1
        return self.buffer, 1.0, bool(self.buffer[0] >= 3), False, self.info


class BusyEnv(gym.Env):
    """Burns CPU time: a step costs the same however many of them share a core."""

    observation_space = spaces.Box(0, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, step_time_s=0.003):
        self.step_time_s = step_time_s

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.random(3, dtype=np.float32), {}

    def step(self, action):
        end_s = time.thread_time() + self.step_time_s
        while time.thread_time() < end_s:
            pass
        return self.np_random.random(3, dtype=np.float32), float(action), False, False, {}


class GlobalEnv(EchoEnv):
    """Observes what the global generators of the process it runs in draw."""

    def step(self, action):
        observation, *rest = super().step(action)
        observation[:2] = np.random.random(), random.random()
        return observation, *rest


class ActingEnv(gym.Env):
    """Calls `act` when it comes to `phase`: construct, reset, step or close."""

    observation_space = spaces.Box(-1e9, 1e9, (1,), np.float64)
    action_space = spaces.Discrete(3)

    def __init__(self, phase=None, act=None):
        self.phase, self.act = phase, act
        self.enter("construct")

    def enter(self, phase):
        if phase == self.phase:
            self.act()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.enter("reset")
        return np.zeros(1), {}

    def step(self, action):
        self.enter("step")
        assert self.action_space.contains(action), f"{action!r} invalid"
        return np.array([float(action)]), 0.0, False, False, {}

    def close(self):
        self.enter("close")


class CustomSpace(gym.Space):
    """A space that only its author knows."""

    def __init__(self):
        super().__init__(None, None)

    def sample(self, mask=None, probability=None):
        return ("custom", int(self.np_random.integers(1000)))

    def contains(self, x):
        return isinstance(x, tuple)

    @property
    def is_np_flattenable(self):
        return False

    def __eq__(self, other):
        return isinstance(other, CustomSpace)

    __hash__ = None


class HoldingEnv(EchoEnv):
    """Opens a socket, as an environment that talks to a simulator does."""

    def __init__(self):
        super().__init__()
        self.socket = socket.socket()

    def close(self):
        self.socket.close()


class ToldEnv(EchoEnv):
    """Sleeps for the tenths of a second that its action says; 6 hangs, 8 raises, 9 is killed."""

    @property
    def pid(self):
        return os.getpid()

    def step(self, action):
        if action == 8:
            raise ValueError("eight")
        if action == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60 if action == 6 else action / 10)
        return super().step(action)
