"""What a plan says, in words and rows: shared by the reports that are files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.report.units import counted, rate, ratio, seconds, share
from vecselect.report.verdict import certainty_of, is_proven, of_estimate, of_race
from vecselect.selection.situation import changes

if TYPE_CHECKING:
    from vecselect.plan import Candidate, Plan
    from vecselect.selection.compare import Interval
    from vecselect.watching import Stats

_ID = re.compile(r"(?:[\w.]+:)?[\w./-]+-v\d+")
"""What looks like the id of an environment, and not like the name of a callable."""

PREDICTED = "~"
"""Stands before a figure that was predicted where measured ones could stand."""


@dataclass(frozen=True)
class CandidateRow:
    """A candidate in words.

    Attributes:
        mode: The mode.
        predicted: Its vector step as predicted, with the interval; empty if it was not.
        predicted_against_sync: How many times the throughput of `sync` that is; empty where the
            plan has no measured one to be told from.
        measured: The same as measured.
        rate: Env steps per second; behind `~` as predicted.
        against_sync: How many times the throughput of `sync`; behind `~` as predicted.
        remark: That it was chosen, or why it was skipped.
        env_steps_per_s: The same as `rate`, as a number; 0.0 where nothing is known.
        chosen: Whether it is the choice.
    """

    mode: str
    predicted: str
    predicted_against_sync: str
    measured: str
    rate: str
    against_sync: str
    remark: str
    env_steps_per_s: float
    chosen: bool


def between(interval: Interval) -> str:
    """A duration with its ends, where it has any width: `10.2 ms (9.10-11.4 ms)`."""
    low, high = seconds(interval.low), seconds(interval.high)
    if low == high:
        return seconds(interval.mid)
    number, _, unit = low.partition(" ")
    low = number if high.endswith(f" {unit}") else low
    return f"{seconds(interval.mid)} ({low}-{high})"


def faster(plan: Plan) -> tuple[str, str] | None:
    """How many times the throughput of `sync` the choice has, and how far that may be off.

    Returns:
        The number, and a phrase about it; None where it is `sync`, or nothing is known.
    """
    if plan.mode == "sync":
        return None
    race = plan.race
    if race is not None and race.chosen == plan.mode and race.speedup is not None:
        found = race.speedup
        fewer = "" if is_whole(plan) else f" with {race.num_envs} sub-environments"
        ends = f"{ratio(found.low)}-{ratio(found.high)}"
        return ratio(found.mid), f"measured again after the race{fewer}; 95 %: {ends}"
    pair = _beside_sync(plan, plan.chosen) if plan.chosen else None
    if pair is None:
        return None
    sync, ours, how = pair
    low, high = ratio(sync.mid / ours.high), ratio(sync.mid / ours.low)
    return ratio(sync.mid / ours.mid), how if low == high else f"{how}; {low}-{high}"


def _beside_sync(plan: Plan, candidate: Candidate) -> tuple[Interval, Interval, str] | None:
    """A candidate and `sync`, both measured or both predicted."""
    sync = next((one for one in plan.candidates if one.mode == "sync"), None)
    if sync is None:
        return None
    if sync.measured is not None and candidate.measured is not None:
        return sync.measured, candidate.measured, "measured"
    if sync.predicted is not None and candidate.predicted is not None:
        return sync.predicted, candidate.predicted, "predicted"
    return None


def against_sync(plan: Plan, candidate: Candidate) -> str:
    """How many times the throughput of `sync` a candidate has; empty where that is not known.

    Both are measured, or else both are predicted, which the mark `~` says.
    """
    pair = _beside_sync(plan, candidate)
    if pair is None:
        return ""
    return f"{PREDICTED if pair[2] == 'predicted' else ''}{ratio(pair[0].mid / pair[1].mid)}"


def measured_against_sync(plan: Plan, candidate: Candidate) -> str:
    """The same as measured; empty where one of the two was not."""
    found = against_sync(plan, candidate)
    return "" if found.startswith(PREDICTED) else found


def predicted_against_sync(plan: Plan, candidate: Candidate) -> str:
    """The same as predicted, measured or not."""
    sync = next((one for one in plan.candidates if one.mode == "sync"), None)
    if sync is None or sync.predicted is None or candidate.predicted is None:
        return ""
    return f"{PREDICTED}{ratio(sync.predicted.mid / candidate.predicted.mid)}"


def is_raced(plan: Plan) -> bool:
    """Whether candidates were measured with as many sub-environments as were asked for."""
    return any(candidate.measured is not None for candidate in plan.candidates)


def is_whole(plan: Plan) -> bool:
    """Whether a race, if there was one, ran as many sub-environments as were asked for."""
    return plan.race is None or plan.race.num_envs == plan.num_envs


def smaller_race(plan: Plan) -> tuple[str, list[tuple[str, str, str, str]]] | None:
    """What a race with fewer sub-environments measured, whose times stand beside no prediction.

    Returns:
        What it is, and rows of the mode, the loop, the throughput and how many times that of
        `sync` it is; None where there was no such race.
    """
    race = plan.race
    if race is None or is_whole(plan):
        return None
    sync = race.of("sync")
    rows = [
        (
            one.mode,
            loop_of(plan, one.mode, one.loop_s),
            rate(race.num_envs / one.loop_s.mid),
            ratio(sync.loop_s.mid / one.loop_s.mid) if sync else "-",
        )
        for one in race.entrants
    ]
    return f"Measured in a race of {race.num_envs} of the {plan.num_envs} sub-environments", rows


def loop_of(plan: Plan, mode: str, measured: Interval) -> str:
    """What a loop took, and how far that may be off where that was measured: `11.2 ms ±1.8 %`."""
    time = seconds(measured.mid)
    return f"{time} {spread(measured)}" if _is_repeated(plan, mode) else time


def _is_repeated(plan: Plan, mode: str) -> bool:
    """Whether a candidate was measured more than once: what varies within one block says nothing.

    `sync` runs once more beside the choice, when the advantage is measured again.
    """
    entrant = plan.race.of(mode) if plan.race else None
    if plan.race is None or entrant is None or len(entrant.blocks_s) > 1:
        return True
    return mode == "sync" and plan.race.speedup is not None


def spread(interval: Interval) -> str:
    """How far a quantity may be off: `±1.8 %`."""
    percent = (interval.high / interval.mid - 1) * 100
    return f"±{percent:.1f} %" if percent < 9.95 else f"±{percent:.0f} %"


def how_sure(plan: Plan) -> str:
    """What decided, and how sure that is."""
    race, estimate, rule = plan.race, plan.estimate, plan.rule
    if plan.decided_by == "race" and race is not None:
        said = of_race(plan, race)
        if said.endswith("the fastest") and is_proven(race):
            lost = f"taking it is expected to lose {share(race.expected_loss)}"
            said = f"the fastest with {certainty_of(race)} certainty; {lost}"
        return f"By a race of {counted(race.rounds, 'round')}: {said}."
    if plan.decided_by == "estimate" and estimate is not None:
        said = of_estimate(plan, estimate)
        return "By prediction, and clear." if said == "clear" else f"By prediction: {said}."
    if plan.decided_by == "rule" and rule is not None:
        line = short_rule(plan)
        return f"By the ~1 ms rule: {'close to' if rule.near_line else 'clear of'} the {line}."
    if plan.decided_by == "pin":
        return f"Pinned by {plan.pinned_by}."
    return "The only mode left."


def short_rule(plan: Plan) -> str:
    """Where the rule draws its line."""
    assert plan.rule is not None
    return f"line of {seconds(plan.rule.threshold_s)}"


def pins(plan: Plan) -> tuple[str, str]:
    """The line of Python that reproduces the choice, and the environment variable."""
    env = f'"{plan.env}"' if _ID.fullmatch(plan.env) else "..."
    call = f'auto_make_vec({env}, {plan.num_envs}, mode="{plan.mode}")'
    return call, f"VECSELECT_MODE={plan.mode}"


def candidates(plan: Plan) -> list[CandidateRow]:
    """Every candidate, those with figures first; none for a pin, which left none to choose."""
    if plan.decided_by == "pin":
        return []
    rows = [_row(plan, candidate) for candidate in plan.candidates]
    return sorted(rows, key=lambda row: row.env_steps_per_s == 0)


def _row(plan: Plan, candidate: Candidate) -> CandidateRow:
    chosen = candidate.mode == plan.mode
    remarks = ["chosen"] if chosen else []
    if candidate.skipped:
        remarks.append(f"skipped: {candidate.skipped}")
    raced = is_raced(plan)
    per_s = plan.num_envs / candidate.loop_s if candidate.loop_s else 0.0
    mark = "" if candidate.measured is not None else PREDICTED
    return CandidateRow(
        mode=candidate.mode,
        predicted=between(candidate.predicted) if candidate.predicted else "",
        predicted_against_sync=predicted_against_sync(plan, candidate) if raced else "",
        measured=_measured(plan, candidate),
        rate=f"{mark}{rate(per_s)}" if per_s else "",
        against_sync=(measured_against_sync if raced else against_sync)(plan, candidate),
        remark="; ".join(remarks),
        env_steps_per_s=per_s,
        chosen=chosen,
    )


def _measured(plan: Plan, candidate: Candidate) -> str:
    """What was measured of a candidate's loop."""
    measured = candidate.measured
    if measured is None:
        return ""
    return between(measured) if _is_repeated(plan, candidate.mode) else seconds(measured.mid)


def what_would_change(plan: Plan) -> list[tuple[str, str, str, str]]:
    """What the model would choose if one thing were different.

    Returns:
        The thing, the mode then, its throughput, and whether it is the same choice.
    """
    situation = plan.situation
    if situation is None:
        return []
    here = plan.mode.removesuffix(":sleep")
    rows = []
    for change in changes(situation):
        same = "the same choice" if change.mode == here else "another choice"
        times = "" if change.speedup is None else f"{ratio(change.speedup)} sync"
        rows.append((change.what, change.mode, times, same))
    return rows


def break_even_s(plan: Plan) -> dict[str, float | None]:
    """By mode, the step time from which on it pays here: the model's, or else the rule's own."""
    if plan.estimate is not None:
        return plan.estimate.break_even_s
    return {} if plan.rule is None else {"async": plan.rule.break_even_s}


def break_even(plan: Plan) -> list[tuple[str, str]]:
    """From which step time on a mode pays here, beside the ~1 ms rule."""
    rule = plan.rule
    if rule is None:
        return []
    rows = [(f"{mode} pays", _pays(at_s)) for mode, at_s in break_even_s(plan).items()]
    rows.append(("the rule's line", f"{seconds(rule.threshold_s)} per step, then async"))
    near = "close to the line" if rule.near_line else "clear of the line"
    rows.append(("this environment", f"{seconds(rule.step_time_s)} per step, {near}"))
    rows.append(("the rule says", f"{rule.mode}. {rule.reason}"))
    return rows


def _pays(from_s: float | None) -> str:
    if from_s is None:
        return "never here"
    return f"from {seconds(from_s)} per step" if from_s > 0 else "at any step time"


def so_far(plan: Plan, stats: Stats | None) -> list[tuple[str, str]]:
    """How a run after the plan has gone so far."""
    if stats is None or stats.outside_s <= 0 or not stats.vector_steps:
        return []
    planned = plan.chosen.loop_s if plan.chosen else None
    promised = f"; planned: {seconds(max(planned - plan.learner_s, 0.0))}" if planned else ""
    inside = share(stats.inside_s / (stats.inside_s + stats.outside_s))
    return [
        ("vector steps", f"{stats.vector_steps}"),
        ("vector step", f"{seconds(stats.inside_s / stats.vector_steps)}{promised}"),
        ("share of the loop", inside),
        ("throughput", f"{rate(stats.env_steps_per_s)} env steps/s, learner included"),
    ]
