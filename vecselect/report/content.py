"""What a report says: a plan or a sweep becomes sections of rows, which renderers lay out.

Nothing is predicted here: all figures are the plan's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.report.evidence import cores, evidence_of, verdict
from vecselect.report.units import all_printable, counted, rate, ratio, seconds, share, size, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecselect.plan import Candidate, Note, Plan, Sweep
    from vecselect.report.evidence import Rows
    from vecselect.run_stats import Stats
    from vecselect.selection.race import Timed

PREDICTED = "~"
"""Stands before a figure that was predicted."""

BEST = "*"
"""Stands before the figure of a sweep's best mode, for each number of sub-environments."""

MODES_PER_TABLE = 5
"""So many columns of a sweep fit into 80 characters; more modes make a further table."""

PARTS = ("stepping_s", "stragglers_s", "hand_off_s", "overhead_s")
PART_NAMES = ("stepping", "imbalance", "hand-off", "other")
PARTS_CAPTION = (
    "Stepping: the sub-environments. Imbalance: waiting for the worker that takes longest. "
    "Hand-off: telling the workers to step, and hearing that they have. Other: the Python around "
    "it. The learner is not included."
)


@dataclass(frozen=True)
class Row:
    """A row of a section: what it is about, such as a mode, and a cell for each further column.

    Attributes:
        cells: None where nothing is known.
        chosen: Whether it is the answer.
        remark: Why it could not be chosen.
    """

    name: str
    cells: tuple[str, ...] = ()
    chosen: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Section:
    """Rows under a heading; without `columns` each is a name and a text."""

    heading: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Content:
    """All that a report says.

    Attributes:
        what: What it is about: the environment and the number of sub-environments.
        where: The cores that could be used.
        chosen: The answer: the mode, and the learner's threads where the plan asks for some; in a
            sweep with the number of sub-environments; empty if there is none.
        verdict: What decided, and how sure that is; in a sweep, the throughput.
        reason: Why; empty if there is nothing to say.
        sections: What bears on it at first sight.
        pin: Lines to paste that make the same choice again; none where nothing was chosen.
        evidence: All that was measured, and what follows from it: shown on request.
    """

    what: str
    where: str
    chosen: str
    verdict: str
    reason: str
    sections: tuple[Section, ...]
    notes: tuple[Note, ...]
    pin: tuple[str, ...]
    evidence: tuple[Section, ...] = ()


def content(plan: Plan, stats: Stats | None = None) -> Content:
    """What a report of a plan, and of a run after it, says: all foreign text made printable."""
    threads, made = plan.learner_threads, f"; plan of {plan.created[:10]}"
    chosen, keyword = plan.mode, f'mode="{plan.mode}"'
    collect: tuple[str, ...] = ()
    if threads is not None:
        chosen += f" with {counted(threads, 'learner thread')}"
        keyword += f", learner_threads={threads}"
        collect = ("with envs.collecting():  # around the steps, not around the update",)
    return all_printable(
        Content(
            what=f"{plan.env} x {plan.num_envs}",
            where=cores(plan.evidence.machine),
            chosen=chosen,
            verdict=verdict(plan) + (made if plan.recalled else ""),
            reason=plan.reason,
            sections=_with_rows(_candidates(plan), facts("So far", _so_far(plan, stats))),
            notes=plan.notes,
            pin=(f"{keyword}  or  VECSELECT_MODE={plan.mode}", *collect),
            evidence=_with_rows(_parts(plan), *(facts(*group) for group in evidence_of(plan))),
        )
    )


def _with_rows(*sections: Section) -> tuple[Section, ...]:
    return tuple(one for one in sections if one.rows)


def facts(heading: str, rows: Rows) -> Section:
    """A section of names and texts."""
    return Section(heading, tuple(Row(name, (text,)) for name, text in rows))


def _candidates(plan: Plan) -> Section:
    """The measured ones first, the faster first, those without figures last; none for a pin."""
    column, included = "vector step", ""
    if plan.learner_s > 0:
        column = "step + learner"
        included = f", of which the learner takes {seconds(plan.learner_s)}"
    rows = [
        Row(_name(plan, one), _cells(plan, one), one is plan.chosen, one.skipped or "")
        for one in _ranked(plan)
        if plan.decided_by != "pin"
    ]
    caption = (
        f"Time from one vector step to the next{included}. Predictions are marked with {PREDICTED}."
    )
    return Section("Candidates", tuple(rows), ("mode", column, "env steps/s", "vs sync"), caption)


def _ranked(plan: Plan) -> list[Candidate]:
    """The candidates that were measured, those predicted, and the others, each by their time."""
    return sorted(
        plan.candidates, key=lambda one: (not one.loop_s, not one.measured, one.loop_s or 0.0)
    )


def _name(plan: Plan, one: Candidate) -> str:
    """A candidate's mode, with its learner threads where they are not those of the choice."""
    if one.threads is None or one.threads == plan.threads:
        return one.mode
    return f"{one.mode} ({counted(one.threads, 'thread')})"


def _cells(plan: Plan, one: Candidate) -> tuple[str, ...]:
    """A candidate's time, its throughput, and that over the throughput of `sync`."""
    known, mark = one.measured or one.predicted, "" if one.measured else PREDICTED
    if known is None or known.mid <= 0:
        return ()
    over, sync = "-", plan.candidate("sync")
    # What a race measured and what was predicted beside it have no base in common.
    same = sync is not None and bool(sync.measured) == bool(one.measured)
    if sync is not None and sync.loop_s and (same or plan.decided_by != "race"):
        over_mark = "" if sync.measured and one.measured else PREDICTED
        over = f"{over_mark}{ratio(sync.loop_s / known.mid)}"
    time = f"{mark}{seconds(known.mid)}{spread(known)}"
    return time, f"{mark}{rate(plan.num_envs / known.mid)}", over


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


def _parts(plan: Plan) -> Section:
    """The predicted vector step of each candidate taken apart."""
    rows = []
    for one in _ranked(plan):
        if one.parts:
            parts_s = [one.parts.total_s, *(getattr(one.parts, name) for name in PARTS)]
            cells = (seconds(part_s) if part_s > 0 else "-" for part_s in parts_s)
            rows.append(Row(_name(plan, one), tuple(cells), one is plan.chosen))
    heading = "Where the time of a vector step goes, as predicted"
    return Section(heading, tuple(rows), ("mode", "vector step", *PART_NAMES), PARTS_CAPTION)


def sweep_content(sweep: Sweep) -> Content:
    """What a report of a sweep says: a table of throughput, one of memory, and what to take."""
    best, taken = sweep.recommended, sweep.by_number
    loops_s = [one.loop_s for one in sweep.points if one.loop_s]
    widest = spread(max(loops_s, key=lambda one: one.high / one.mid)) if loops_s else ""
    marked = f"{BEST} marks the mode to take for each number. 95 % intervals up to{widest}."
    shared = "" if sweep.memory_kind.startswith("prop") else ", shared pages in each"

    def throughput(one: Timed) -> str:
        mark = BEST if one == taken.get(one.num_envs) else ""
        return f"{mark}{rate(one.per_s)}" if one.loop_s else "-"

    def memory(one: Timed) -> str:
        return "-" if one.memory_bytes is None else size(one.memory_bytes)

    verdict, env = "nothing was measured", f'"{sweep.env}"' if sweep.by_id else sweep.env
    if best is not None:
        sync, verdict = sweep.of("sync", best.num_envs), f"{rate(best.per_s)} env steps/s"
        if best.mode != "sync" and sync is not None and sync.per_s:
            verdict += f", {ratio(best.per_s / sync.per_s)} vs sync"
    return all_printable(
        Content(
            what=f"sweep of {sweep.env}",
            where=f"{cores(sweep.machine)}, {seconds(sweep.seconds)}",
            chosen=f"{best.mode} x {best.num_envs}" if best else "",
            verdict=verdict,
            reason=sweep.recommendation,
            sections=_with_rows(
                *_sweep_tables(sweep, "Throughput in env steps/s", throughput, marked),
                *_sweep_tables(sweep, f"Memory of all processes{shared}", memory),
                facts("Not measured", _not_measured(sweep)),
            ),
            notes=sweep.notes,
            pin=(f'auto_make_vec({env}, {best.num_envs}, mode="{best.mode}")',) if best else (),
        )
    )


def _sweep_tables(
    sweep: Sweep, heading: str, cell: Callable[[Timed], str], caption: str = ""
) -> list[Section]:
    """A row for each number of sub-environments, a column for each mode that was measured."""
    measured = {point.mode for point in sweep.points if point.loop_s}
    modes = [mode for mode in sweep.modes if mode in measured]
    tables = []
    for start in range(0, len(modes), MODES_PER_TABLE):
        columns = modes[start : start + MODES_PER_TABLE]
        rows = []
        for number in sweep.num_envs:
            points = [sweep.of(mode, number) for mode in columns]
            cells = tuple("-" if one is None else cell(one) for one in points)
            rows.append(Row(str(number), cells, chosen=sweep.recommended in points))
        tables.append(Section(heading, tuple(rows), ("num_envs", *columns), caption))
    return tables


def _not_measured(sweep: Sweep) -> Rows:
    """By mode which numbers were not measured, and why the first was not."""
    left_out = [one for one in sweep.points if one.skipped is not None]
    numbers: dict[str, list[str]] = {}
    for one in left_out:
        numbers.setdefault(one.mode, []).append(str(one.num_envs))
    first = {one.mode: str(one.skipped) for one in reversed(left_out)}
    return tuple((f"{mode} x {', '.join(found)}", first[mode]) for mode, found in numbers.items())
