"""What must hold of a plan that somebody else may have written, beyond the types of its values."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from vecselect.selection.compare import Interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecselect.plan import Plan

MODE = re.compile(r"sync|async|native|(thread|ray)(:\d{1,6})?|pool(:\d{1,6}(:sleep)?)?")
"""A mode as plans name it: what can be pinned, with as many workers as anybody has."""

EFFORTS = ("rule", "estimate", "measure", "exhaustive")
"""How much measuring is allowed, the least first."""

DECIDED_BY = ("rule", "estimate", "race", "pin", "elimination")

MOST_ENVS = 100_000
"""Far more sub-environments than anybody runs in one process; the cost model draws for each."""


def why_unsound(plan: Plan) -> str | None:
    """One sentence if what a plan holds cannot be of a plan that was made, else None.

    Whatever is computed or shown of a plan needs no other check.

    Args:
        plan: Its values have the right types, and its numbers are finite.
    """
    return next((what for what, holds in _conditions(plan) if not holds), None)


def _conditions(plan: Plan) -> Iterator[tuple[str, bool]]:
    """What would be wrong, and whether all is well."""
    profile, rule, race = plan.profile, plan.rule, plan.race
    for mode in _modes(plan):
        yield f"{mode[:40]!r} is no mode", MODE.fullmatch(mode) is not None
    yield "there is no such effort", plan.effort in EFFORTS
    yield "nothing decides in that way", plan.decided_by in DECIDED_BY
    evidence = {"rule": rule, "estimate": plan.estimate, "race": race}.get(plan.decided_by, plan)
    yield "what decided is missing", evidence is not None
    yield "nobody has so many sub-environments", 1 <= plan.num_envs <= MOST_ENVS
    yield "a machine has cores", plan.machine.cores > 0
    for found in _intervals(plan):
        yield "an interval has its ends the wrong way round", _is_ordered(found)
    if plan.calibration is not None:
        yield "a machine has cores", plan.calibration.effective_cores > 0
    if plan.ray is not None:
        yield "a cluster has lanes", plan.ray.cores > 0 and plan.ray.lanes >= 1
    if profile is not None:
        yield "a step takes time", profile.step_time_s > 0 and sum(profile.step_times_s) > 0
        yield "no times may be negative", min(profile.step_times_s + profile.reset_times_s) >= 0
        yield "steps take some of the time", profile.reset_share < 1 and profile.wait_share <= 1
        yield "episodes have steps", profile.episode_steps is None or profile.episode_steps > 0
    if rule is not None:
        yield "the rule compares times", rule.threshold_s > 0 and rule.step_time_s > 0
    if plan.estimate is not None:
        yield "an estimate is one of candidates", bool(plan.estimate.forecasts)
    if race is not None:
        counts = (race.num_envs, race.vector_steps, race.rounds)
        yield "a race has entrants and rounds of steps", bool(race.entrants) and min(counts) >= 1
        yield "a probability is no more than 1", race.p_best <= 1
        for entrant in race.entrants:
            yield "a block takes time", bool(entrant.blocks_s) and min(entrant.blocks_s) > 0


def _modes(plan: Plan) -> list[str]:
    """Every mode that a plan names."""
    modes = [plan.mode, *(one.mode for one in plan.candidates)]
    if plan.estimate is not None:
        modes += [plan.estimate.mode, *(one.mode for one in plan.estimate.forecasts)]
    if plan.race is not None:
        modes += [plan.race.chosen, plan.race.leader, *(one.mode for one in plan.race.entrants)]
    return modes


def _intervals(value: Any) -> Iterator[Interval]:
    """Every interval in a value."""
    if isinstance(value, Interval):
        yield value
    elif isinstance(value, tuple):
        for item in value if value and dataclasses.is_dataclass(value[0]) else ():
            yield from _intervals(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _intervals(getattr(value, field.name))


def _is_ordered(found: Interval) -> bool:
    """Whether an interval of positive values has its middle between its ends, but for rounding."""
    return 0 < found.low <= found.mid * (1 + 1e-9) and found.mid <= found.high * (1 + 1e-9)
