"""What a report says, in words and rows: a plan or a sweep becomes sections, which renderers show.

    plan, stats --> content() ---------.
                                        >--> Content --> text, html, markdown
    sweep --------> sweep_content() ---'

No renderer looks at a plan's numbers itself, but for the plots and the raw JSON. Nothing is
predicted here: all figures are the plan's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.modes import Mode
from vecselect.report.evidence import cores, evidence_of, how_sure, measured_loop
from vecselect.report.units import (
    all_printable,
    between,
    counted,
    rate,
    ratio,
    seconds,
    share,
    size,
)
from vecselect.selection.sweep import (
    NOT_REACHED,
    SAME_AS,
    another_text,
    fastest_by_number,
    returns_text,
    winners_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vecselect.plan import Candidate, Note, Plan
    from vecselect.report.evidence import Rows
    from vecselect.run_stats import Stats
    from vecselect.selection.sweep import Point
    from vecselect.sweeps import Sweep

PREDICTED = "~"
"""Stands before a figure that was predicted."""

BEST = "*"
"""Stands before the best figure of a sweep."""

PARTS = {
    "stepping_s": "stepping",
    "stragglers_s": "stragglers",
    "hand_off_s": "hand-off",
    "copying_s": "copying",
    "loop_s": "loop",
}
"""The parts of a vector step: their names in `Parts`, and in words."""

MOST_BARS = 6
LONGEST = 4.0
"""A bar that is more than this many times as long as the chosen one's is cut off."""

VISIBLE = 0.02
"""Share of a vector step below which a part is drawn with the loop."""

MODES_PER_TABLE = 5
"""So many columns of a sweep fit into 80 characters; more modes make a further table."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: What it is about: a mode, or a number of sub-environments.
        cells: Its figures; none where nothing is known.
        chosen: Whether it is the answer.
        best: The number of the cell that stands out, -1 for none; None for the whole row.
        muted: Whether it is a prediction among measured ones, which it cannot be held against.
        remark: What there is to say of it beside its figures.
        place: Its rank where a short report has no room for all rows; 0 is the last to go.
    """

    name: str
    cells: tuple[str, ...]
    chosen: bool = False
    best: int | None = None
    muted: bool = False
    remark: str = ""
    place: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of figures under a heading; `columns` names the first column and that of each cell."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Facts:
    """Names and texts under a heading."""

    heading: str
    rows: Rows


@dataclass(frozen=True)
class Part:
    """A part of a vector step.

    Attributes:
        name: One of the words of `PARTS`.
        text: Its time, and its share of the vector step.
        start: Where it begins, as a share of the longest bar.
        end: Where it ends.
    """

    name: str
    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Bar:
    """A vector step taken apart.

    Attributes:
        name: The mode.
        total: Its time.
        parts: The parts that are worth drawing, one after the other.
        cut: Whether it is longer than there is room for.
    """

    name: str
    total: str
    parts: tuple[Part, ...]
    cut: bool


@dataclass(frozen=True)
class Bars:
    """Bars under a heading, all to one scale."""

    heading: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Content:
    """All that a report says.

    Attributes:
        what: What it is about: the environment and the number of sub-environments.
        where: The cores that could be used.
        chosen: The answer: the mode, and the learner's threads where the plan asks for some; in a
            sweep with the number of sub-environments; empty if there is none.
        sure: What decided, and how sure that is; in a sweep, the throughput.
        reason: Why; empty if there is nothing to say.
        sections: What bears on it at first sight. A short report has no bars and cuts the tables.
        notes: What else the reader should know, the weightiest first.
        pin: Lines to paste that make the same choice again; none where nothing was chosen.
        evidence: All that was measured, and what follows from it.
    """

    what: str
    where: str
    chosen: str
    sure: str
    reason: str
    sections: tuple[Table | Bars | Facts, ...]
    notes: tuple[Note, ...]
    pin: tuple[str, ...]
    evidence: tuple[Facts, ...] = ()


def content(plan: Plan, stats: Stats | None = None) -> Content:
    """What a report of a plan says.

    Args:
        plan: The plan.
        stats: How a run after it has gone so far, if there is one.

    Returns:
        The sections, with all foreign text made printable.
    """
    headings = ("mode", "loop" if plan.learner_s > 0 else "vector step", "env steps/s", "vs sync")
    rows, so_far, bars = _candidates(plan), _so_far(plan, stats), _bars(plan)
    sections = (
        Table("Candidates", headings, rows) if rows else None,
        Facts("So far", so_far) if so_far else None,
        Bars("Predicted vector step, without the learner", bars) if bars else None,
    )
    threads = plan.learner_threads
    beside = "" if threads is None else f" with {counted(threads, 'learner thread')}"
    found = Content(
        what=f"{plan.env} x {plan.num_envs}",
        where=cores(plan.evidence.machine),
        chosen=f"{plan.mode}{beside}",
        sure=how_sure(plan) + (f", recalled from {plan.created[:10]}" if plan.recalled else ""),
        reason=plan.reason,
        sections=tuple(section for section in sections if section),
        notes=plan.notes,
        pin=_pin(plan),
        evidence=tuple(Facts(*group) for group in evidence_of(plan)),
    )
    return all_printable(found)


def _pin(plan: Plan) -> tuple[str, ...]:
    mode = f'mode="{plan.mode}"'
    variable = f"VECSELECT_MODE={plan.mode}"
    if plan.learner_threads is None:
        return (f"{mode}  or  {variable}",)
    return (
        f"{mode}, learner_threads={plan.learner_threads}  or  {variable}",
        "with envs.collecting():  # around the steps of a rollout",
    )


def _candidates(plan: Plan) -> tuple[Row, ...]:
    """The measured ones first, the faster first, those without figures last; none for a pin."""
    if plan.decided_by == "pin":
        return ()
    shown = _worth_a_row(plan)
    places = {id(one): place for place, one in enumerate(_most_telling_first(plan, shown))}
    any_measured = any(one.measured for one in shown)
    rows = []
    for one in shown:
        threads = _other_threads(plan, one)
        why = next((o.skipped for o in plan.candidates if o.mode == one.mode and o.skipped), None)
        chosen = one is plan.chosen
        rows.append(
            Row(
                name=f"{one.mode} ({threads})" if threads else one.mode,
                cells=_cells(plan, one),
                chosen=chosen,
                muted=any_measured and one.measured is None,
                remark="chosen" if chosen else f"not chosen: {why}" if why else "",
                place=places.get(id(one), len(shown)),
            )
        )
    return tuple(rows)


def _worth_a_row(plan: Plan) -> list[Candidate]:
    """The candidates worth a row.

    Those with the learner's threads that the choice is for. Of the others only the best, and that
    only where the plan is about threads or it is faster than the choice.
    """
    ours = [one for one in plan.candidates if one.threads in (None, plan.threads)]
    known = {one.mode for one in ours if one.loop_s}
    ours = [one for one in ours if one.loop_s or one.mode not in known]
    others = [one for one in plan.candidates if one.loop_s and _other_threads(plan, one)]
    if others:
        best = min(others, key=lambda one: one.loop_s or 0.0)
        chosen_s = plan.chosen.loop_s if plan.chosen else None
        if plan.learner_threads is not None or (chosen_s and (best.loop_s or 0.0) < chosen_s):
            ours.append(best)
    return sorted(ours, key=lambda one: (not one.loop_s, not one.measured, one.loop_s or 0.0))


def _most_telling_first(plan: Plan, shown: list[Candidate]) -> list[Candidate]:
    """Those with figures: the choice, `sync`, other threads, the best of each kind, the others."""
    known = [one for one in shown if one.loop_s]
    best_of_kind: dict[str, Candidate] = {}
    for one in known:
        best_of_kind.setdefault(Mode.parse(one.mode).kind, one)
    ranked = [
        *(one for one in known if one is plan.chosen),
        *(one for one in known if one.mode == "sync" or _other_threads(plan, one)),
        *best_of_kind.values(),
        *known,
    ]
    return list({id(one): one for one in ranked}.values())


def _other_threads(plan: Plan, one: Candidate) -> str:
    """A candidate's learner threads, in words, where they are not those of the choice."""
    return "" if one.threads in (None, plan.threads) else counted(one.threads, "thread")


def _cells(plan: Plan, one: Candidate) -> tuple[str, ...]:
    """A candidate's loop, its throughput, and that over the throughput of `sync`."""
    if one.loop_s is None:
        return ()
    against = _against_sync(plan, one)
    over = "-" if against is None else f"{'' if against[1] else PREDICTED}{ratio(against[0])}"
    per_s = rate(plan.num_envs / one.loop_s)
    if one.measured is not None:
        return measured_loop(plan, one.mode, one.measured), per_s, over
    assert one.predicted is not None
    return PREDICTED + between(one.predicted), PREDICTED + per_s, over


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
    if plan.decided_by == "observed" and sync.loop_s and one.loop_s:
        return sync.loop_s / one.loop_s, False
    return None


def _so_far(plan: Plan, stats: Stats | None) -> Rows:
    """How a run after the plan has gone so far; nothing before its second step."""
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


def _bars(plan: Plan) -> tuple[Bar, ...]:
    """The candidates that matter, all to one scale, the choice first."""
    ranked = _most_telling_first(plan, _worth_a_row(plan))
    known = [
        (one.parts.total_s, one)
        for one in ranked
        if one.parts and one.parts.total_s > 0 and not _other_threads(plan, one)
    ]
    shown = sorted(known[:MOST_BARS], key=lambda pair: (pair[1] is not plan.chosen, pair[0]))
    if not shown:
        return ()
    scale_s = min(max(total_s for total_s, _ in shown), LONGEST * shown[0][0])
    return tuple(_bar(one, scale_s) for _, one in shown)


def _bar(one: Candidate, scale_s: float) -> Bar:
    """One vector step in parts; those too short to be seen count as the loop."""
    assert one.parts is not None
    total_s, parts, start_s, hidden_s = one.parts.total_s, [], 0.0, 0.0
    for name, word in PARTS.items():
        value_s = getattr(one.parts, name)
        if name == "loop_s":
            value_s += hidden_s
        elif value_s < VISIBLE * total_s:
            hidden_s += value_s
            continue
        end_s = start_s + value_s
        if value_s > 0:
            text = f"{seconds(value_s)} ({share(value_s / total_s)})"
            ends = (min(start_s / scale_s, 1.0), min(end_s / scale_s, 1.0))
            parts.append(Part(word, text, *ends))
        start_s = end_s
    return Bar(one.mode, seconds(total_s), tuple(parts), total_s > scale_s * 1.001)


def sweep_content(sweep: Sweep) -> Content:
    """What a report of a sweep says: a table of throughput, one of memory, and what to take."""
    best = sweep.best
    measured = {point.mode for point in sweep.points if point.env_steps_per_s is not None}
    modes = [mode for mode in sweep.modes if mode in measured]
    shared = "" if sweep.memory_kind.startswith("prop") else ", shared pages in each"
    tables = (
        *_sweep_tables(sweep, modes, "env steps/s, 95 % interval", _throughput_cell),
        *_sweep_tables(sweep, modes, f"memory of all processes{shared}", _memory_cell),
    )
    left_out = _left_out(sweep)
    env = f'"{sweep.env}"' if sweep.by_id else sweep.env
    chosen, sure, reason = _best_of(sweep)
    found = Content(
        what=f"sweep of {sweep.env}",
        where=f"{sweep.machine.cores:g} usable cores, {seconds(sweep.seconds)}",
        chosen=chosen,
        sure=sure,
        reason=reason,
        sections=(*tables, *([Facts("Not measured", left_out)] if left_out else [])),
        notes=sweep.notes,
        pin=(f'auto_make_vec({env}, {best.num_envs}, mode="{best.mode}")',) if best else (),
    )
    return all_printable(found)


def _best_of(sweep: Sweep) -> tuple[str, str, str]:
    """What to take, its throughput, and where returns diminish."""
    best = sweep.best
    if best is None or best.env_steps_per_s is None:
        whole = sweep.whole
        return "", "nothing was measured" if whole else "interrupted; nothing was measured yet", ""
    per_s, sync = best.env_steps_per_s.mid, sweep.of("sync", best.num_envs)
    over = ""
    if best.mode != "sync" and sync is not None and sync.env_steps_per_s is not None:
        over = f", {ratio(per_s / sync.env_steps_per_s.mid)} of sync"
    texts = (
        returns_text(sweep.points, best.mode),
        winners_text(sweep.points, sweep.named_modes),
        another_text(sweep.points, sweep.named_modes),
        None if sweep.whole else "It was interrupted: this is not the whole sweep.",
    )
    reason = " ".join(text for text in texts if text)
    return f"{best.mode} x {best.num_envs}", f"{rate(per_s)} env steps/s{over} ({BEST})", reason


def _sweep_tables(
    sweep: Sweep, modes: Sequence[str], heading: str, cell: Callable[[Sweep, Point], str]
) -> list[Table]:
    """A row for each number of sub-environments, a column for each mode."""
    fastest = fastest_by_number(sweep.points, sweep.named_modes)
    tables = []
    for start in range(0, len(modes), MODES_PER_TABLE):
        columns = modes[start : start + MODES_PER_TABLE]
        rows = []
        for number in sweep.num_envs:
            points = [sweep.of(mode, number) for mode in columns]
            winner = fastest.get(number)
            rows.append(
                Row(
                    name=str(number),
                    cells=tuple("-" if one is None else cell(sweep, one) for one in points),
                    chosen=sweep.best in points,
                    best=points.index(winner) if winner and winner in points else -1,
                )
            )
        tables.append(Table(heading, ("envs", *columns), tuple(rows)))
    return tables


def _throughput_cell(sweep: Sweep, point: Point) -> str:
    """A throughput with its uncertainty, the best one marked."""
    found = point.env_steps_per_s
    if found is None:
        return "-"
    percent = round((found.high / found.mid - 1) * 100)
    return f"{BEST if point == sweep.best else ''}{rate(found.mid)} ±{percent}%"


def _memory_cell(sweep: Sweep, point: Point) -> str:
    return "-" if point.memory_bytes is None else size(point.memory_bytes)


def _left_out(sweep: Sweep) -> Rows:
    """Which points were not measured, and why; those with one reason together."""
    groups: dict[tuple[str, str], list[Point]] = {}
    same = SAME_AS.partition("{}")[0]
    quiet = NOT_REACHED if sweep.named_modes else (NOT_REACHED, same)
    for point in sweep.points:
        if point.skipped is not None and not point.skipped.startswith(quiet):
            # Reasons that differ in their numbers alone are one: the first stands for all. But the
            # numbers are what says which mode it is in truth.
            reason = point.skipped
            if not reason.startswith(same):
                reason = re.sub(r"\d+(\.\d+)?", "#", reason)
            groups.setdefault((point.mode, reason), []).append(point)
    return tuple(
        (
            mode
            if len(points) == len(sweep.num_envs)
            else f"{mode} x {', '.join(str(point.num_envs) for point in points)}",
            points[0].skipped or "",
        )
        for (mode, _), points in groups.items()
    )
