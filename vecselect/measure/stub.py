"""An environment that replays recorded transitions and costs next to nothing."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from collections.abc import Sequence

COST_STEPS = 500


class ReplayEnv(gym.Env):
    """Plays a recording over and over, whatever the actions."""

    def __init__(
        self, observation_space: gym.Space, action_space: gym.Space, transitions: Sequence[Any]
    ) -> None:
        """Takes a recording.

        Args:
            observation_space: Of the environment that was recorded.
            action_space: Of the same.
            transitions: What a reset returned, then what each step did; at least one step.
        """
        self.observation_space = observation_space
        self.action_space = action_space
        self.metadata = {}  # of its own, since older Gymnasiums write into it
        self._started = tuple(transitions[0])
        self._play = itertools.cycle([tuple(result) for result in transitions[1:]]).__next__

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """What the recorded reset returned."""
        return self._started

    def step(self, action: Any) -> Any:
        """What the next recorded step returned."""
        return self._play()


def replay_cost_s(env: ReplayEnv) -> float:
    """Seconds of one step of a replay, as a profile would measure them."""
    step = env.step
    start_s = time.perf_counter()
    for _ in range(COST_STEPS):
        step(None)
    return (time.perf_counter() - start_s) / COST_STEPS
