"""What real use shows: the gap between two steps, and whether the plan still holds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from vecselect.errors import VecselectWarning

if TYPE_CHECKING:
    from vecselect.plan import Plan

OBSERVE_NS = 2_000_000_000
"""The first nanoseconds of a run, in which the gaps between its steps are noted."""

WINDOW_NS = 10_000_000_000
WINDOWS = 3
"""Spans of time in a row in which steps must be slower than planned before that is said."""

SLOWER = 1 / 0.7
"""A plan has become untrue where it brings 30 % less than it promised."""


@dataclass(frozen=True)
class Stats:
    """How the time of a run was spent so far.

    Attributes:
        vector_steps: Calls of `step` that returned.
        env_steps: The same times `num_envs`; steps that only reset a sub-environment count too.
        inside_s: Seconds inside `step`.
        outside_s: Seconds between the end of one `step` and the beginning of the next: the learner.
        env_steps_per_s: Env steps per second of both together; 0.0 before the first step.
    """

    vector_steps: int
    env_steps: int
    inside_s: float
    outside_s: float
    env_steps_per_s: float


@dataclass(frozen=True)
class Observed:
    """What the first seconds of real use showed.

    Attributes:
        vector_steps: Vector steps in them.
        inside_s: Seconds inside `step`.
        outside_s: Seconds between two steps, all together.
        gap_s: Median seconds between two steps.
    """

    vector_steps: int
    inside_s: float
    outside_s: float
    gap_s: float


class Watch:
    """Looks at a run now and then.

    Attributes:
        gaps_ns: Where to note the time between two steps; None once enough were noted.
        look_at_ns: When `look` wants to be called, by `time.perf_counter_ns`; 0 for at once.
        observed: What the first seconds showed; None before they are over.
    """

    def __init__(self, plan: Plan) -> None:
        self.gaps_ns: list[int] | None = []
        self.look_at_ns = 0
        self.observed: Observed | None = None
        self._plan = plan
        chosen_s = plan.chosen.loop_s if plan.chosen else None
        self._planned_s = None if chosen_s is None else max(chosen_s - plan.learner_s, 0.0)
        self._seen = (0, 0)
        self._slow_windows = 0
        self._warned = False

    def look(self, now_ns: int, vector_steps: int, inside_ns: int, outside_ns: int) -> bool:
        """Takes in how the run stands.

        Args:
            now_ns: The time.
            vector_steps: Vector steps so far.
            inside_ns: Nanoseconds inside `step` so far.
            outside_ns: Nanoseconds between two steps so far.

        Returns:
            Whether `observed` is new.
        """
        if self.look_at_ns == 0:
            self.look_at_ns = now_ns + OBSERVE_NS
            return False
        fresh = self.gaps_ns is not None and len(self.gaps_ns) > 0
        if fresh:
            self.observed = Observed(
                vector_steps,
                inside_ns * 1e-9,
                outside_ns * 1e-9,
                median(self.gaps_ns or [0]) * 1e-9,
            )
            self.gaps_ns = None
        else:
            self._compare(vector_steps, inside_ns)
        self._seen = (vector_steps, inside_ns)
        self.look_at_ns = now_ns + WINDOW_NS
        return fresh

    def _compare(self, vector_steps: int, inside_ns: int) -> None:
        """Warns once, when steps have been slower than planned for long."""
        steps = vector_steps - self._seen[0]
        if not self._planned_s or steps == 0:
            return
        step_s = (inside_ns - self._seen[1]) * 1e-9 / steps
        self._slow_windows = self._slow_windows + 1 if step_s > SLOWER * self._planned_s else 0
        if self._slow_windows == WINDOWS and not self._warned:
            self._warned = True
            slow_s = WINDOWS * WINDOW_NS / 1e9
            warnings.warn(
                f"For {slow_s:.0f} s vector steps of {self._plan.env} have taken "
                f"{step_s * 1e3:.3g} ms, where the plan counted on {self._planned_s * 1e3:.3g} ms. "
                f"Mode {self._plan.mode!r} stays; whether another has become better is told by "
                "recommend(..., learner=your_function, use_store=False).",
                VecselectWarning,
                stacklevel=2,
            )
