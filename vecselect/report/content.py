"""What a report says: a plan or a sweep becomes sections of rows, which renderers lay out.

    plan, stats --> content() ---------.
                                        >--> Content --> text, html, markdown
    sweep --------> sweep_content() ---'

No renderer looks at a plan's numbers itself, but for the plots. Nothing is predicted here: all
figures are the plan's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecselect.report.evidence import cores, evidence_of, verdict
from vecselect.report.units import all_printable, counted, rate, ratio, seconds, share, size, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vecselect.plan import Candidate, Note, Plan
    from vecselect.report.evidence import Rows
    from vecselect.run_stats import Stats
    from vecselect.selection.race import Timed
    from vecselect.sweeps import Sweep

PREDICTED = "~"
"""Stands before a figure that was predicted."""

LEAST_SPREAD = 0.01
"""A prediction said to be more exact than this is shown without an interval."""

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
        muted: Whether it is a prediction among measured ones, which it cannot be held against.
        remark: Why it could not be chosen.
    """

    name: str
    cells: tuple[str, ...] = ()
    chosen: bool = False
    muted: bool = False
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
    threads = plan.learner_threads
    sections = (_candidates(plan), facts("So far", _so_far(plan, stats)))
    evidence = (_parts(plan), *(facts(*group) for group in evidence_of(plan)))
    found = Content(
        what=f"{plan.env} x {plan.num_envs}",
        where=cores(plan.evidence.machine),
        chosen=plan.mode
        if threads is None
        else f"{plan.mode} with {counted(threads, 'learner thread')}",
        verdict=verdict(plan) + (f"; plan of {plan.created[:10]}" if plan.recalled else ""),
        reason=plan.reason,
        sections=tuple(one for one in sections if one.rows),
        notes=plan.notes,
        pin=_pin(plan),
        evidence=tuple(one for one in evidence if one.rows),
    )
    return all_printable(found)


def facts(heading: str, rows: Rows) -> Section:
    """A section of names and texts."""
    return Section(heading, tuple(Row(name, (text,)) for name, text in rows))


def _pin(plan: Plan) -> tuple[str, ...]:
    mode, variable = f'mode="{plan.mode}"', f"VECSELECT_MODE={plan.mode}"
    if plan.learner_threads is None:
        return (f"{mode}  or  {variable}",)
    return (
        f"{mode}, learner_threads={plan.learner_threads}  or  {variable}",
        "with envs.collecting():  # around the steps, not around the update",
    )


def _candidates(plan: Plan) -> Section:
    """The measured ones first, the faster first, those without figures last; none for a pin."""
    column, included = "vector step", ""
    if plan.learner_s > 0:
        column = "step + learner"
        included = f", of which the learner takes {seconds(plan.learner_s)}"
    shown = () if plan.decided_by == "pin" else _worth_a_row(plan)
    any_measured = any(one.measured for one in shown)
    rows = []
    for one in shown:
        threads = _other_threads(plan, one)
        whys = [o.skipped for o in plan.candidates if o.mode == one.mode and o.skipped]
        rows.append(
            Row(
                name=f"{one.mode} ({threads})" if threads else one.mode,
                cells=_cells(plan, one),
                chosen=one is plan.chosen,
                muted=any_measured and one.measured is None,
                remark=whys[0] if whys and one is not plan.chosen else "",
            )
        )
    marked = f"Predictions are marked with {PREDICTED}."
    caption = f"Time from one vector step to the next{included}. {marked}"
    return Section("Candidates", tuple(rows), ("mode", column, "env steps/s", "vs sync"), caption)


def _worth_a_row(plan: Plan) -> list[Candidate]:
    """The candidates worth a row: those with the learner's threads that the choice is for.

    Of the others only the best, and that only where the plan is about threads or it is faster than
    the choice.
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


def _other_threads(plan: Plan, one: Candidate) -> str:
    """A candidate's learner threads, in words, where they are not those of the choice."""
    return "" if one.threads in (None, plan.threads) else counted(one.threads, "thread")


def _cells(plan: Plan, one: Candidate) -> tuple[str, ...]:
    """A candidate's time, its throughput, and that over the throughput of `sync`."""
    known, mark = one.measured or one.predicted, "" if one.measured else PREDICTED
    if known is None:
        return ()
    race, sync = plan.evidence.race, plan.candidate("sync")
    entrant = race.of(one.mode) if race and one.measured else None
    # One block has no spread, and no prediction is as exact as it looks beside a long learner.
    once = entrant is not None and len(entrant.blocks_s) < 2
    once = once or (not one.measured and known.high < (1 + LEAST_SPREAD) * known.mid)
    time = seconds(known.mid) if once else f"{seconds(known.mid)}{spread(known)}"
    over = "-"
    # What a race measured and what was predicted beside it have no base in common.
    same = sync is not None and bool(sync.measured) == bool(one.measured)
    if sync is not None and sync.loop_s and (same or plan.decided_by != "race"):
        over_mark = "" if sync.measured and one.measured else PREDICTED
        over = f"{over_mark}{ratio(sync.loop_s / known.mid)}"
    return f"{mark}{time}", f"{mark}{rate(plan.num_envs / known.mid)}", over


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
    for one in _worth_a_row(plan):
        if one.parts and not _other_threads(plan, one):
            parts_s = [getattr(one.parts, name) for name in PARTS]
            cells = (seconds(part_s) if part_s > 0 else "-" for part_s in parts_s)
            rows.append(Row(one.mode, (seconds(one.parts.total_s), *cells), one is plan.chosen))
    heading = "Where the time of a vector step goes, as predicted"
    return Section(heading, tuple(rows), ("mode", "vector step", *PART_NAMES), PARTS_CAPTION)


def sweep_content(sweep: Sweep) -> Content:
    """What a report of a sweep says: a table of throughput, one of memory, and what to take."""
    best = sweep.recommended
    measured = {point.mode for point in sweep.points if point.loop_s}
    modes = [mode for mode in sweep.modes if mode in measured]
    shared = "" if sweep.memory_kind.startswith("prop") else ", shared pages in each"
    marked = f"{BEST} marks the mode to take for each number. {_spreads(sweep)}"
    taken = sweep.by_number

    def throughput(one: Timed) -> str:
        mark = BEST if one == taken.get(one.num_envs) else ""
        return f"{mark}{rate(one.per_s)}" if one.loop_s else "-"

    def memory(one: Timed) -> str:
        return "-" if one.memory_bytes is None else size(one.memory_bytes)

    sections = (
        *_sweep_tables(sweep, modes, "Throughput in env steps/s", throughput, marked),
        *_sweep_tables(sweep, modes, f"Memory of all processes{shared}", memory),
        facts("Not measured", _not_measured(sweep)),
    )
    env = f'"{sweep.env}"' if sweep.by_id else sweep.env
    found = Content(
        what=f"sweep of {sweep.env}",
        where=f"{cores(sweep.machine)}, {seconds(sweep.seconds)}",
        chosen=f"{best.mode} x {best.num_envs}" if best else "",
        verdict=_throughput(sweep),
        reason=sweep.recommendation,
        sections=tuple(one for one in sections if one.rows),
        notes=sweep.notes,
        pin=(f'auto_make_vec({env}, {best.num_envs}, mode="{best.mode}")',) if best else (),
    )
    return all_printable(found)


def _throughput(sweep: Sweep) -> str:
    """The throughput of what a sweep recommends, also over that of `sync`."""
    best = sweep.recommended
    if best is None:
        return "nothing was measured"
    sync = sweep.of("sync", best.num_envs)
    over = ""
    if best.mode != "sync" and sync is not None and sync.per_s:
        over = f", {ratio(best.per_s / sync.per_s)} vs sync"
    return f"{rate(best.per_s)} env steps/s{over}"


def _sweep_tables(
    sweep: Sweep,
    modes: Sequence[str],
    heading: str,
    cell: Callable[[Timed], str],
    caption: str = "",
) -> list[Section]:
    """A row for each number of sub-environments, a column for each mode."""
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


def _spreads(sweep: Sweep) -> str:
    """How exact the throughputs are, all together: for each there is no room in the table."""
    found = [one.env_steps_per_s for one in sweep.points if one.env_steps_per_s is not None]
    found.sort(key=lambda one: one.high / one.mid)
    if not found or not spread(found[-1]):
        return ""
    middle, most = spread(found[len(found) // 2]) or " ±0 %", spread(found[-1])
    return f"95 % intervals: median{middle}, widest{most}; sweep.to_json() has each."


def _not_measured(sweep: Sweep) -> Rows:
    """Which points were not measured, and why; those with one reason together."""
    groups: dict[tuple[str, str], list[Timed]] = {}
    for point in sweep.points:
        if point.skipped is not None:
            # Reasons that differ in their numbers alone are one: the first stands for all.
            reason = re.sub(r"\d+(\.\d+)?", "#", point.skipped)
            groups.setdefault((point.mode, reason), []).append(point)
    return tuple(
        (f"{mode} x {', '.join(str(one.num_envs) for one in points)}", str(points[0].skipped))
        for (mode, _), points in groups.items()
    )
