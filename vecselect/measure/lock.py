"""How much of a step does without the interpreter's lock: two environments in two threads."""

from __future__ import annotations

import copy
import itertools
import math
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gymnasium as gym

BLOCK_S = 0.01
"""Seconds of stepping alone that are compared with the same beside another: twice the interval at
which the interpreter makes a thread that computes hand over its lock."""

ROUNDS = 5
BUDGET_S = 0.15
ACTIONS_DRAWN = 16


def free_share(envs: Sequence[gym.Env], step_time_s: float) -> float:
    """The share of an environment's computing that threads can do side by side.

    Two environments take R times as long for their steps in two threads as one of them takes for
    its own: 1 where nothing holds the lock, 2 where all does. The share is 2 - R, each from the
    least of a few rounds, which other programs disturbed the least. It takes two cores.

    Args:
        envs: Two environments of a kind, neither of them reset. They are left open.
        step_time_s: Mean seconds of a step.

    Returns:
        The share, from 0 to 1.

    Raises:
        Exception: What the environments raise.
    """
    steppers = [_Stepper(env, seed) for seed, env in enumerate(envs)]
    steps = max(math.ceil(BLOCK_S / step_time_s), 1)
    for stepper in steppers:
        stepper.run(1)
    alone_s = together_s = math.inf
    limit_s = time.perf_counter() + BUDGET_S
    for index in range(ROUNDS):
        alone_s = min(alone_s, _seconds(steppers[index % 2 :][:1], steps))
        together_s = min(together_s, _seconds(steppers, steps))
        if time.perf_counter() > limit_s:
            break
    return min(max(2.0 - together_s / alone_s, 0.0), 1.0)


class _Stepper:
    """One environment, stepped with random actions from episode to episode."""

    def __init__(self, env: gym.Env, seed: int) -> None:
        space = copy.deepcopy(env.action_space)
        space.seed(seed)
        self._env = env
        self._action = itertools.cycle([space.sample() for _ in range(ACTIONS_DRAWN)]).__next__
        self._failure: Exception | None = None
        env.reset(seed=seed)

    def run(self, steps: int) -> None:
        env, action = self._env, self._action
        for _ in range(steps):
            _, _, terminated, truncated, _ = env.step(action())
            if terminated or truncated:
                env.reset()

    def try_to_run(self, steps: int) -> None:
        """The same in a thread, whose exceptions nobody else would see."""
        try:
            self.run(steps)
        except Exception as error:
            self._failure = error

    def join(self, thread: threading.Thread) -> None:
        thread.join()
        if self._failure is not None:
            raise self._failure


def _seconds(steppers: Sequence[_Stepper], steps: int) -> float:
    """Seconds until each of them has done so many steps; the first one does so in this thread."""
    threads: list[tuple[Any, threading.Thread]] = [
        (stepper, threading.Thread(target=stepper.try_to_run, args=(steps,), daemon=True))
        for stepper in steppers[1:]
    ]
    start_s = time.perf_counter()
    for _, thread in threads:
        thread.start()
    steppers[0].run(steps)
    for stepper, thread in threads:
        stepper.join(thread)
    return time.perf_counter() - start_s
