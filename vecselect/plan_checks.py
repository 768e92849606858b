"""What must hold of a plan that somebody else may have written, beyond the types of its values."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError
from vecselect.modes import Mode
from vecselect.selection.compare import Interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecselect.plan import Plan

EFFORTS = ("rule", "measure", "race")
"""How much measuring is allowed; a plan of a later one serves a request for an earlier one."""

DECIDED_BY = ("rule", "model", "race", "observed", "pin", "elimination")

MOST_ENVS = 100_000
"""Far more sub-environments than anybody runs in one process."""


def why_unsound(plan: Plan) -> str | None:
    """One sentence if what a plan holds cannot be of a plan that was made, else None.

    Whatever is computed or shown of a plan needs no other check.

    Args:
        plan: Its values have the right types, and its numbers are finite.
    """
    return next((what for what, holds in _conditions(plan) if not holds), None)


def _conditions(plan: Plan) -> Iterator[tuple[str, bool]]:
    """What would be wrong, and whether all is well."""
    evidence = plan.evidence
    profile, rule, race = evidence.profile, evidence.rule, evidence.race
    for mode in _modes(plan):
        yield f"{mode[:40]!r} is no mode", _is_mode(mode)
    yield "there is no such effort", plan.effort in EFFORTS
    yield "nothing decides in that way", plan.decided_by in DECIDED_BY
    needed = {"rule": rule, "model": profile, "observed": profile, "race": race}
    yield "what decided is missing", needed.get(plan.decided_by, plan) is not None
    yield "nobody has so many sub-environments", 1 <= evidence.num_envs <= MOST_ENVS
    yield "a machine has cores", evidence.machine.cores > 0
    yield "there is some learner, or none", bool(evidence.learners)
    threads = [plan.learner_threads, *(one.threads for one in evidence.learners)]
    yield "there is at least one thread", all(number is None or number >= 1 for number in threads)
    for found in _intervals(plan):
        yield "an interval has its ends the wrong way round", _is_ordered(found)
    if evidence.ray is not None:
        yield "a cluster has lanes", evidence.ray.cores > 0 and evidence.ray.lanes >= 1
    if profile is not None:
        quantiles = profile.step_quantiles_s, profile.reset_quantiles_s
        yield "a step takes time", profile.step_time_s > 0 and profile.steps >= 1
        yield "no times may be negative", all(times and min(times) >= 0 for times in quantiles)
        yield "steps take some of the time", profile.reset_share < 1
        yield "fractions are no more than 1", profile.off_cpu_fraction <= 1
        yield "episodes have steps", profile.episode_steps is None or profile.episode_steps > 0
    if evidence.hand_off is not None:
        yield "an exchange takes time", min(dataclasses.astuple(evidence.hand_off)[:5]) > 0
    for seen in evidence.observations:
        yield "what was observed takes time", seen.inside_s > 0 and seen.outside_s >= 0
    if rule is not None:
        yield "the rule compares times", rule.threshold_s > 0 and rule.step_time_s > 0
    if race is not None:
        counts = (race.num_envs, race.vector_steps, race.rounds)
        yield "a race has entrants and rounds of steps", bool(race.entrants) and min(counts) >= 1
        yield "a probability is no more than 1", race.p_best <= 1
        for entrant in race.entrants:
            yield "a block takes time", bool(entrant.blocks_s) and min(entrant.blocks_s) > 0


def _modes(plan: Plan) -> list[str]:
    """Every mode that a plan names."""
    modes = [plan.mode, *(one.mode for one in plan.candidates)]
    modes += [one.mode for one in plan.what_if]
    modes += [one.mode for one in plan.evidence.observations]
    race = plan.evidence.race
    if race is not None:
        modes += [race.chosen, race.leader, *(one.mode for one in race.entrants)]
    return modes


def _is_mode(text: str) -> bool:
    try:
        return (Mode.parse(text).workers or 0) <= MOST_ENVS
    except RequestError:
        return False


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
    """Whether an interval of times has its middle between its ends, but for rounding."""
    return 0 <= found.low <= found.mid * (1 + 1e-9) and 0 < found.mid <= found.high * (1 + 1e-9)
