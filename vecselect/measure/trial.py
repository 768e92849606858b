"""One timed block of a built vector environment, with the learner between its steps."""

from __future__ import annotations

import contextlib
import copy
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from gymnasium.vector import VectorEnv

    from vecselect.measure.learner import Learner

BATCHES_DRAWN = 64
"""Batches of actions drawn before timing; the vector steps cycle through them."""

SEED = 0
"""Of the first reset and of the actions."""


@dataclass(frozen=True)
class Block:
    """What one block took.

    Attributes:
        vector_steps: Vector steps made.
        total_s: Seconds of the whole loop.
        learner_s: Seconds of that spent in the learner.
    """

    vector_steps: int
    total_s: float
    learner_s: float

    @property
    def loop_s(self) -> float:
        """Seconds from one vector step to the next."""
        return self.total_s / self.vector_steps


class Trial:
    """A vector environment that takes part in a race.

    Every trial of a race draws the same actions from the same seed, so that the n-th vector step is
    the same work in each of them.
    """

    def __init__(self, envs: VectorEnv, learner: Learner | None = None) -> None:
        """Takes a vector environment over; `close` closes it.

        Args:
            envs: Freshly built.
            learner: What happens between two vector steps; nothing by default.
        """
        self.envs = envs
        disabled = envs.metadata.get("autoreset_mode") == AutoresetMode.DISABLED
        self._step = self._step_and_reset if disabled else envs.step
        self._learn = learner.run if learner is not None else None
        self._conditions: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
        space = copy.deepcopy(envs.action_space)
        space.seed(SEED)
        self._actions = itertools.cycle([space.sample() for _ in range(BATCHES_DRAWN)]).__next__

    def reset(self) -> Any:
        """What a seeded reset returns."""
        return self.envs.reset(seed=SEED)

    def step(self) -> Any:
        """What one vector step returns; nothing is timed."""
        return self._step(self._actions())

    def _step_and_reset(self, actions: Any) -> Any:
        """A vector step as loops make it that reset ended episodes themselves."""
        observations, rewards, terminated, truncated, infos = self.envs.step(actions)
        ended = terminated | truncated
        if ended.any():
            observations, infos = self.envs.reset(options={"reset_mask": ended})
        return observations, rewards, terminated, truncated, infos

    def block(self, vector_steps: int) -> Block:
        """Times so many vector steps, the learner after each of them."""
        step, act, learn, clock = self._step, self._actions, self._learn, time.perf_counter_ns
        learner_ns = 0
        with self._conditions():
            start_ns = clock()
            if learn is None:
                for _ in range(vector_steps):
                    step(act())
            else:
                for _ in range(vector_steps):
                    observations = step(act())[0]
                    before_ns = clock()
                    learn(observations)
                    learner_ns += clock() - before_ns
            total_ns = clock() - start_ns
        return Block(vector_steps, total_ns * 1e-9, learner_ns * 1e-9)

    def under(self, conditions: Callable[[], AbstractContextManager[Any]]) -> Trial:
        """The same trial under other conditions; it shares the vector environment.

        Args:
            conditions: Gives a context manager that is entered around each block.
        """
        other = copy.copy(self)
        other._conditions = conditions
        return other

    def __enter__(self) -> Trial:
        """The trial itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Closes the vector environment, whatever it says to that."""
        with contextlib.suppress(Exception):
            self.envs.close()
