"""The recommendation report for terminals, pipes and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vecselect.report.bars import bars
from vecselect.report.facts import (
    PREDICTED,
    against_sync,
    is_raced,
    loop_of,
    measured_against_sync,
    predicted_against_sync,
    smaller_race,
)
from vecselect.report.rows import measured_rows
from vecselect.report.stream import hanging
from vecselect.report.units import counted, rate, seconds, share
from vecselect.report.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from vecselect.plan import Candidate, Note, Plan
    from vecselect.report import Report
    from vecselect.watching import Stats


def render(report: Report) -> RenderableType:
    """The report as something rich can print: the answer, its evidence, and how to pin it."""
    plan = report.plan
    parts: list[RenderableType] = [_head(plan), Text(), _choice(plan), _modes(plan)]
    anatomy = bars(plan)
    if anatomy is not None:
        parts += [Padding(anatomy, (0, 0, 1, 1))]
    rows = [*_skipped(plan), *measured_rows(plan)]
    if report.stats is not None and report.stats.outside_s > 0:
        rows.append(("so far", _so_far(plan, report.stats)))
    if rows:
        parts.append(_grid(rows))
    parts += [_note(note) for note in plan.notes]
    parts.append(_pin(plan))
    return Group(*parts)


def _grid(rows: list[tuple[str, str]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    for name, text in rows:
        grid.add_row(name, Text(text))
    return Padding(grid, (0, 0, 0, 1))


def _note(note: Note) -> RenderableType:
    """A note behind its mark and its code."""
    text = Text.assemble((f"[{note.code}] ", "dim"), note.text)
    return hanging("!!!", text, "bold red") if note.loud else hanging("!", text, "yellow")


def _head(plan: Plan) -> RenderableType:
    machine = plan.machine
    grid = Table.grid(expand=True)
    grid.add_column(overflow="fold")
    grid.add_column(justify="right")
    quota = "" if machine.cores_quota is None else f" (quota {machine.cores_quota:g})"
    grid.add_row(
        Text(f"vecselect: {plan.env} x {plan.num_envs}", style="bold"),
        Text(f"{machine.cores:g} usable cores{quota}", style="dim"),
    )
    return grid


def _choice(plan: Plan) -> RenderableType:
    title = Text.assemble((plan.mode, "bold green"), f"  {verdict(plan)}")
    return Group(hanging("=>", title, "bold green"), hanging("", Text(plan.reason)))


def _modes(plan: Plan) -> RenderableType:
    """The candidates of which there are figures; the others are told of below."""
    raced = is_raced(plan)
    step = "loop" if plan.learner != "none" else "vector step"
    headings = [step, "env steps/s", "vs sync", "predicted", *(["vs sync"] if raced else [])]
    table = _table(headings)
    for candidate in plan.candidates:
        if candidate.loop_s is not None:
            row = (_raced_row if raced else _predicted_row)(plan, candidate)
            _add(table, plan, candidate.mode, row)
    if not table.row_count:
        return Text()
    smaller = smaller_race(plan)
    if smaller is None:
        return table
    caption, rows = smaller
    measured = _table([step, "env steps/s", "vs sync"])
    for mode, *cells in rows:
        _add(measured, plan, mode, cells)
    return Group(table, Text(f" {caption}:", style="dim"), measured)


def _table(headings: Sequence[str]) -> Table:
    """An empty table of modes; two blanks between its columns leave room for seven of them."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("   mode", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _add(table: Table, plan: Plan, mode: str, cells: Sequence[str]) -> None:
    chosen = mode == plan.mode
    name = f"=> {mode}" if chosen else f"   {mode}"
    table.add_row(*map(Text, (name, *cells)), style="bold" if chosen else None)


def _predicted_row(plan: Plan, candidate: Candidate) -> tuple[str, ...]:
    """A candidate where none was measured."""
    assert candidate.loop_s is not None
    return (
        PREDICTED + seconds(candidate.loop_s),
        PREDICTED + rate(plan.num_envs / candidate.loop_s),
        against_sync(plan, candidate) or "-",
        _range(plan, candidate),
    )


def _raced_row(plan: Plan, candidate: Candidate) -> tuple[str, ...]:
    """A candidate beside measured ones: what was measured, and what was predicted."""
    measured = candidate.measured
    if measured is None:
        known = ("-", "-", "-")
    else:
        known = (
            loop_of(plan, candidate.mode, measured),
            rate(plan.num_envs / measured.mid),
            measured_against_sync(plan, candidate) or "-",
        )
    return (*known, _range(plan, candidate), predicted_against_sync(plan, candidate) or "-")


def _skipped(plan: Plan) -> list[tuple[str, str]]:
    """Why the other candidates could not be chosen; a pin left none to choose."""
    if plan.decided_by == "pin":
        return []
    skipped = [one for one in plan.candidates if one.skipped]
    return [
        ("" if index else "skipped", f"{one.mode}: {one.skipped}")
        for index, one in enumerate(skipped)
    ]


def _range(plan: Plan, candidate: Candidate) -> str:
    """A prediction as env steps per second, from the least to the most if it has any width."""
    predicted = candidate.predicted
    if predicted is None:
        return "-"
    low, high = (rate(plan.num_envs / end) for end in (predicted.high, predicted.low))
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    return f"{number}-{high}" if high.endswith(unit) else f"{low}-{high}"


def _so_far(plan: Plan, stats: Stats) -> str:
    """How a run has gone so far."""
    inside_s = stats.inside_s / stats.vector_steps
    planned = plan.chosen.loop_s if plan.chosen else None
    promised = f" (planned: {seconds(planned - plan.learner_s)})" if planned else ""
    return (
        f"{counted(stats.vector_steps, 'vector step')} of {seconds(inside_s)}{promised}, "
        f"{share(stats.inside_s / (stats.inside_s + stats.outside_s))} of the loop; "
        f"{rate(stats.env_steps_per_s)} env steps/s in all"
    )


def _pin(plan: Plan) -> RenderableType:
    return hanging("pin it:", Text(f'mode="{plan.mode}"  or  VECSELECT_MODE={plan.mode}'), "dim")
