"""The recommendation report for terminals, pipes and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vecselect.report.bars import bars
from vecselect.report.facts import against_sync
from vecselect.report.rows import certainty, measured_rows
from vecselect.report.stream import hanging
from vecselect.report.units import rate, seconds, share

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vecselect.plan import Candidate, Note, Plan
    from vecselect.report import Report
    from vecselect.selection.compare import Interval
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
    title = Text.assemble((plan.mode, "bold green"), f"  {_how(plan)}")
    return Group(hanging("=>", title, "bold green"), hanging("", Text(plan.reason)))


def _how(plan: Plan) -> str:
    """What decided, and how sure that is."""
    if plan.decided_by == "race" and plan.race is not None:
        if plan.race.chosen == plan.race.leader:
            return f"by a race, {_chance(plan.race.p_best)} the fastest"
        return f"by a race, within 5 % of the fastest and simpler than {plan.race.leader}"
    if plan.decided_by == "estimate" and plan.estimate is not None:
        close = [mode for mode in plan.estimate.close if mode != plan.mode]
        return "by estimate, clear" if not close else f"by estimate, close to {', '.join(close)}"
    if plan.decided_by == "rule":
        return f"by the ~1 ms rule, {certainty(plan)}"
    return f"pinned by {plan.pinned_by}" if plan.decided_by == "pin" else "the only mode left"


def _chance(p_best: float) -> str:
    """A probability in a word and a number."""
    word = "clearly" if p_best >= 0.99 else "likely" if p_best >= 0.9 else "perhaps"
    return f"{word} ({p_best:.0%})" if p_best < 0.995 else word


def _modes(plan: Plan) -> RenderableType:
    """The candidates of which there are figures; the others are told of below."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("   mode", no_wrap=True)
    headings = ("loop" if plan.learner != "none" else "vector step", "env steps/s", "vs sync")
    raced = any(candidate.measured is not None for candidate in plan.candidates)
    for heading in (*headings, *(["measured"] if raced else []), "predicted"):
        table.add_column(heading, justify="right", no_wrap=True)
    for candidate in plan.candidates:
        if candidate.loop_s is not None:
            chosen = candidate.mode == plan.mode
            cells = map(Text, _row(plan, candidate, chosen, raced))
            table.add_row(*cells, style="bold" if chosen else None)
    return table if table.row_count else Text()


def _row(plan: Plan, candidate: Candidate, chosen: bool, raced: bool) -> tuple[str, ...]:
    assert candidate.loop_s is not None
    spread = predicted = "-"
    if candidate.measured is not None:
        spread = f"±{(candidate.measured.high / candidate.measured.mid - 1) * 100:.1f} %"
    if candidate.predicted is not None:
        predicted = _range(plan, candidate.predicted)
    return (
        f"=> {candidate.mode}" if chosen else f"   {candidate.mode}",
        seconds(candidate.loop_s),
        rate(plan.num_envs / candidate.loop_s),
        against_sync(plan, candidate) or "-",
        *([spread] if raced else []),
        predicted,
    )


def _skipped(plan: Plan) -> list[tuple[str, str]]:
    """Why the other candidates could not be chosen."""
    skipped = [one for one in plan.candidates if one.skipped]
    return [
        ("" if index else "skipped", f"{one.mode}: {one.skipped}")
        for index, one in enumerate(skipped)
    ]


def _range(plan: Plan, predicted: Interval) -> str:
    """A prediction as env steps per second, from the least to the most if it has any width."""
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
        f"{stats.vector_steps} vector steps of {seconds(inside_s)}{promised}, "
        f"{share(stats.inside_s / (stats.inside_s + stats.outside_s))} of the loop; "
        f"{rate(stats.env_steps_per_s)} env steps/s in all"
    )


def _pin(plan: Plan) -> RenderableType:
    return hanging("pin it:", Text(f'mode="{plan.mode}"  or  VECSELECT_MODE={plan.mode}'), "dim")
