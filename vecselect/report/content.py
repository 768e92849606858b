"""What a report says, in words and rows: a plan becomes sections, and renderers lay them out.

    plan, stats --> content() --> Content --> text, html, markdown

No renderer looks at a plan's numbers by itself, but for plots and the raw JSON. Nothing is
predicted here: all figures are the plan's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.report.bars import Bar, bars
from vecselect.report.details import Group, Rows, cores, groups, measured_loop
from vecselect.report.units import (
    all_printable,
    between,
    counted,
    kind_of,
    rate,
    ratio,
    seconds,
    share,
)
from vecselect.report.verdict import how_sure

if TYPE_CHECKING:
    from vecselect.plan import Candidate, Note, Plan
    from vecselect.run_stats import Stats

PREDICTED = "~"
"""Stands before a figure that was predicted."""

BRIEF_ROWS = 6
"""Candidates in the short report."""

_ID = re.compile(r"(?:[\w.]+:)?[\w./-]+-v\d+")
"""What looks like the id of an environment, and not like the name of a callable."""


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        what: The environment and the number of sub-environments.
        cores: The cores that may be used, and what bounds them.
        mode: The mode.
        threads: The learner's threads that the plan asks for, in words; empty where it asks for
            none.
        sure: What decided, and how sure that is.
        gain: How many times the throughput of `sync`; empty for `sync`, or where it is not known.
        about_gain: How that is known, and how far it may be off.
        reason: Why.
    """

    what: str
    cores: str
    mode: str
    threads: str
    sure: str
    gain: str
    about_gain: str
    reason: str


@dataclass(frozen=True)
class Row:
    """A candidate.

    Attributes:
        mode: The mode.
        name: The same, with the learner's threads where they are not those of the choice.
        cells: Its loop, env steps per second, and throughput over that of `sync`; behind `~` as
            predicted; empty where nothing is known.
        skipped: Why it could not be chosen; empty if it could.
        chosen: Whether it is the choice.
        measured: Whether its figures were measured.
        share: Its throughput over the best of the table's, from 0 to 1; 0.0 for a prediction beside
            measured ones, which it cannot be held against.
        brief: Whether the short report has it.
    """

    mode: str
    name: str
    cells: tuple[str, str, str]
    skipped: str
    chosen: bool
    measured: bool
    share: float
    brief: bool

    @property
    def remark(self) -> str:
        """What there is to say of it beside its figures."""
        return "chosen" if self.chosen else f"not chosen: {self.skipped}" if self.skipped else ""


@dataclass(frozen=True)
class Pin:
    """How to get the same choice again.

    Attributes:
        arguments: The arguments of `auto_make_vec`.
        call: The whole call.
        variable: The environment variable.
        collecting: The statement around the steps of a rollout that gives the learner the threads
            planned for; empty where the plan asks for none.
    """

    arguments: str
    call: str
    variable: str
    collecting: str


@dataclass(frozen=True)
class Content:
    """All that a report says.

    Attributes:
        verdict: The answer.
        headings: Of a candidate's name and its cells.
        candidates: The candidates: the measured ones first, the faster first, those without figures
            last; empty for a pin, which left none to choose.
        notes: What else the reader should know, the weightiest first.
        so_far: How a run after the plan has gone so far; empty where there is none.
        bars: Vector steps taken apart, the choice first; empty without a model.
        groups: All of the evidence.
        pin: How to get the same choice again.
        created: When the plan was made.
    """

    verdict: Verdict
    headings: tuple[str, str, str, str]
    candidates: tuple[Row, ...]
    notes: tuple[Note, ...]
    so_far: Rows
    bars: tuple[Bar, ...]
    groups: tuple[Group, ...]
    pin: Pin
    created: str


def content(plan: Plan, stats: Stats | None = None) -> Content:
    """What a report of a plan says.

    Args:
        plan: The plan.
        stats: How a run after it has gone so far, if there is one.

    Returns:
        The sections, with all foreign text made printable.
    """
    found = Content(
        verdict=_verdict(plan),
        headings=(
            "mode",
            "loop" if plan.learner_s > 0 else "vector step",
            "env steps/s",
            "vs sync",
        ),
        candidates=_candidates(plan),
        notes=plan.notes,
        so_far=_so_far(plan, stats),
        bars=bars(plan),
        groups=groups(plan),
        pin=_pin(plan),
        created=plan.created,
    )
    return all_printable(found)


def _verdict(plan: Plan) -> Verdict:
    gain, about = _gain(plan)
    return Verdict(
        what=f"{plan.env} x {plan.num_envs}",
        cores=cores(plan.evidence.machine),
        mode=plan.mode,
        threads=f"with {_threads(plan.learner_threads)}" if plan.learner_threads else "",
        sure=how_sure(plan) + (f", recalled from {plan.created[:10]}" if plan.recalled else ""),
        gain=gain,
        about_gain=about,
        reason=plan.reason,
    )


def _threads(number: int | None) -> str:
    return counted(number or 0, "learner thread")


def _pin(plan: Plan) -> Pin:
    env = f'"{plan.env}"' if _ID.fullmatch(plan.env) else "..."
    arguments = f'mode="{plan.mode}"'
    if plan.learner_threads is not None:
        arguments += f", learner_threads={plan.learner_threads}"
    return Pin(
        arguments=arguments,
        call=f"auto_make_vec({env}, {plan.num_envs}, {arguments})",
        variable=f"VECSELECT_MODE={plan.mode}",
        collecting="" if plan.learner_threads is None else "with envs.collecting():",
    )


def _candidates(plan: Plan) -> tuple[Row, ...]:
    if plan.decided_by == "pin":
        return ()
    shown = _shown(plan)
    brief = {id(one) for one in _most_telling(plan, shown)}
    any_measured = any(one.measured for one in shown)
    comparable_s = [
        one.loop_s for one in shown if one.loop_s and bool(one.measured) == any_measured
    ]
    rows = []
    for one in shown:
        threads = f" ({_other_threads(plan, one)})" if _other_threads(plan, one) else ""
        counts = one.loop_s and bool(one.measured) == any_measured
        rows.append(
            Row(
                mode=one.mode,
                name=f"{one.mode}{threads}",
                cells=_cells(plan, one),
                skipped=_why_skipped(plan, one.mode),
                chosen=one is plan.chosen,
                measured=one.measured is not None,
                share=min(comparable_s) / one.loop_s if counts and one.loop_s else 0.0,
                brief=id(one) in brief,
            )
        )
    return tuple(rows)


def _shown(plan: Plan) -> list[Candidate]:
    """The candidates worth a row.

    Those with the learner's threads that the choice is for. Of the others only the best, and that
    only where the plan is about threads or it is faster than the choice.
    """
    ours = [one for one in plan.candidates if one.threads in (None, plan.threads)]
    known = {one.mode for one in ours if one.loop_s}
    ours = [one for one in ours if one.loop_s or one.mode not in known]
    others = [one for one in plan.candidates if one.loop_s and one.threads != plan.threads]
    others = [one for one in others if one.threads is not None]
    if others:
        best = min(others, key=lambda one: one.loop_s or 0.0)
        chosen_s = plan.chosen.loop_s if plan.chosen else None
        if plan.learner_threads is not None or (chosen_s and (best.loop_s or 0.0) < chosen_s):
            ours.append(best)
    return sorted(ours, key=lambda one: (not one.loop_s, not one.measured, one.loop_s or 0.0))


def _most_telling(plan: Plan, shown: list[Candidate]) -> list[Candidate]:
    """What the short report shows: the choice, `sync`, other threads, the best of each kind."""
    known = [one for one in shown if one.loop_s]
    best_of_kind: dict[str, Candidate] = {}
    for one in known:
        best_of_kind.setdefault(kind_of(one.mode), one)
    ranked = [
        *(one for one in known if one is plan.chosen),
        *(one for one in known if one.mode == "sync" or _other_threads(plan, one)),
        *best_of_kind.values(),
        *known,
    ]
    return list({id(one): one for one in ranked}.values())[:BRIEF_ROWS]


def _other_threads(plan: Plan, one: Candidate) -> str:
    """A candidate's learner threads, in words, where they are not those of the choice."""
    same = one.threads in (None, plan.threads)
    return "" if same else counted(one.threads or 0, "thread")


def _why_skipped(plan: Plan, mode: str) -> str:
    return next((one.skipped for one in plan.candidates if one.mode == mode and one.skipped), "")


def _cells(plan: Plan, one: Candidate) -> tuple[str, str, str]:
    """A candidate's loop, its throughput, and that over the throughput of `sync`."""
    if one.loop_s is None:
        return ("", "", "")
    against = _against_sync(plan, one)
    per_s = rate(plan.num_envs / one.loop_s)
    over = "-" if against is None else f"{'' if against[1] else PREDICTED}{ratio(against[0])}"
    if one.measured is not None:
        return (measured_loop(plan, one.mode, one.measured), per_s, over)
    assert one.predicted is not None
    return (PREDICTED + between(one.predicted), PREDICTED + per_s, over)


def _against_sync(plan: Plan, one: Candidate) -> tuple[float, bool] | None:
    """A candidate's throughput over that of `sync`, and whether both were measured."""
    sync = plan.candidate("sync")
    if sync is None:
        return None
    if sync.measured is not None and one.measured is not None:
        return sync.measured.mid / one.measured.mid, True
    if sync.predicted is not None and one.predicted is not None:
        return sync.predicted.mid / one.predicted.mid, False
    # Predictions were rescaled by what earlier runs measured, and may stand beside it.
    beside = plan.decided_by == "observed" and sync.loop_s and one.loop_s
    return (sync.loop_s / one.loop_s, False) if beside and sync.loop_s and one.loop_s else None


def _gain(plan: Plan) -> tuple[str, str]:
    """How many times the throughput of `sync` the choice has, and how far that may be off."""
    chosen, race = plan.chosen, plan.evidence.race
    if plan.mode == "sync" or chosen is None:
        return "", ""
    if race is not None and race.chosen == plan.mode and race.speedup is not None:
        found = race.speedup
        fewer = "" if race.num_envs == plan.num_envs else f" with {race.num_envs} sub-environments"
        ends = f"{ratio(found.low)}-{ratio(found.high)}"
        return f"{ratio(found.mid)} sync", f"measured again after the race{fewer}; 95 %: {ends}"
    against = _against_sync(plan, chosen)
    if against is None:
        return "", ""
    if against[1]:
        return f"{ratio(against[0])} sync", "measured"
    sync = plan.candidate("sync")
    about = "predicted"
    if sync and sync.predicted and chosen.predicted:
        low, high = (
            ratio(sync.predicted.mid / end) for end in (chosen.predicted.high, chosen.predicted.low)
        )
        about += "" if low == high else f"; {low}-{high}"
    return f"{PREDICTED}{ratio(against[0])} sync", about


def _so_far(plan: Plan, stats: Stats | None) -> Rows:
    """How a run after the plan has gone so far."""
    if stats is None or stats.outside_s <= 0 or not stats.vector_steps:
        return ()
    planned = plan.chosen.loop_s if plan.chosen else None
    promised = f" (planned: {seconds(max(planned - plan.learner_s, 0.0))})" if planned else ""
    inside = share(stats.inside_s / (stats.inside_s + stats.outside_s))
    step = seconds(stats.inside_s / stats.vector_steps)
    return (
        ("vector steps", f"{stats.vector_steps} of {step}{promised}, {inside} of the loop"),
        ("throughput", f"{rate(stats.env_steps_per_s)} env steps/s, learner included"),
    )
