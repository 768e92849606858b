"""Whether what an environment returns is the same from one run to the next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vecselect.measure.generators import untouched_generators
from vecselect.measure.learner import Learner
from vecselect.measure.sameness import first_difference
from vecselect.measure.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymnasium.vector import VectorEnv


def repeats_itself(make: Callable[[], VectorEnv], steps: int, limit_s: float) -> bool:
    """Whether the same seeds and actions give the same twice, from the same global generators.

    Args:
        make: Builds the vector environment anew; it is closed.
        steps: Vector steps after the first reset.
        limit_s: Seconds after which no further step is made.

    Returns:
        True too where it raises, and so says nothing.
    """
    try:
        runs = [_run(make, steps, limit_s) for _ in range(2)]
    except Exception:
        return True
    return all(first_difference(*pair) is None for pair in zip(*runs, strict=False))


def _run(make: Callable[[], VectorEnv], steps: int, limit_s: float) -> list[Any]:
    """What a reset and the steps return."""
    with untouched_generators():
        trial = Trial(make(), Learner("none"))
        try:
            results, start_s = [trial.reset()], time.perf_counter()
            for _ in range(steps):
                results.append(trial.step())
                if time.perf_counter() - start_s > limit_s:
                    break
        finally:
            trial.close()
    return results
