"""What of a step does without the interpreter's lock."""

import time

import gymnasium as gym
import pytest
from gymnasium import spaces
from vecselect.measure.lock import free_share

STEP_S = 2e-3


class Acting(gym.Env):
    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def __init__(self, act, steps=3):
        self.act, self.steps, self.step_times = act, steps, 0

    def reset(self, *, seed=None, options=None):
        self.step_times = 0
        return 0, {}

    def step(self, action):
        assert self.step_times < self.steps, "stepped beyond the end of an episode"
        self.step_times += 1
        self.act()
        return 0, 0.0, self.step_times == self.steps, False, {}


def hold_the_lock():
    end_s = time.thread_time() + STEP_S
    while time.thread_time() < end_s:
        pass


def let_it_go():
    time.sleep(STEP_S)


def fail():
    raise LookupError("no such joint")


def test_steps_that_let_the_lock_go_are_done_side_by_side():
    assert free_share([Acting(let_it_go), Acting(let_it_go)], STEP_S) > 0.5


def test_steps_that_hold_it_take_turns():
    assert free_share([Acting(hold_the_lock), Acting(hold_the_lock)], STEP_S) < 0.5


def test_what_an_environment_raises_in_the_other_thread_is_raised():
    with pytest.raises(LookupError, match="no such joint"):
        free_share([Acting(let_it_go), Acting(fail)], STEP_S)
