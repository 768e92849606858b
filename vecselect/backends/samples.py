"""What environments say of themselves, asked in a process of its own, since building may hang."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vecselect import processes
from vecselect.backends.pool.server import Sample, sample_of
from vecselect.child import ChildEnded, child_at_work, tell
from vecselect.errors import StepTimeout, WorkerDied
from vecselect.failures import Failed, portable, raised_there

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    import gymnasium as gym


class Announced:
    """Stands for an environment where only what it says of itself is asked for."""

    def __init__(self, sample: Sample) -> None:
        self.observation_space = sample.observation_space
        self.action_space = sample.action_space
        self.metadata = sample.metadata
        self.render_mode = sample.render_mode

    def close(self) -> None:
        """Nothing is open."""


def announce(
    env_fns: Sequence[Callable[[], gym.Env]], limit_s: float, start_method: str | None
) -> list[Announced]:
    """Builds environments, one after the other, looks at each, and closes it again.

    Args:
        env_fns: Their factories, sent as multiprocessing sends them.
        limit_s: Seconds that all of it may take.
        start_method: Of the process that does it; the safest one by default.

    Raises:
        StepTimeout: If it takes longer.
        WorkerDied: If that process ends instead.
        Exception: What a factory raised.
    """
    until_s = time.monotonic() + limit_s
    found: list[Announced] = []
    with child_at_work(processes.get_context(start_method), _look, list(env_fns)) as child:
        while len(found) < len(env_fns):
            row = len(found)
            if not child.stirs(max(until_s - time.monotonic(), 0.0)):
                child.kill()
                raise StepTimeout(
                    f"A process that looks at sub-environment {row} has not built it within "
                    f"start_timeout_s={limit_s:g}."
                )
            try:
                _, said = child.said()
            except ChildEnded as end:
                raise WorkerDied(f"A process that looks at sub-environment {row} {end}.") from None
            if isinstance(said, Failed):
                raise raised_there(said)
            found.append(Announced(said))
    return found


def _look(pipe: Connection, env_fns: Sequence[Callable[[], gym.Env]]) -> None:
    """Runs in the child."""
    for row, make in enumerate(env_fns):
        try:
            env = make()
            tell(pipe, "built", sample_of(env))
            env.close()
        except Exception as error:
            tell(pipe, "raised", Failed(row, "construct", portable(error)))
            return
