"""The recommendation report for terminals, pipes and notebooks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vecselect.report.units import rate, ratio, seconds, share, size

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import RenderableType

    from vecselect.plan import Candidate, Note, Plan
    from vecselect.report import Report
    from vecselect.selection.compare import Interval
    from vecselect.watching import Stats

NARROWEST = 60
PIPE_WIDTH = 80


def plain(report: Report, width: int) -> str:
    """The report as text of a width, without colour or trailing spaces."""
    console = _console(io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(render(report))
    return "\n".join(line.rstrip() for line in _written(console).splitlines())


def html(report: Report, width: int) -> str:
    """The report as a fragment of HTML that takes its colours along."""
    console = _console(io.StringIO(), width=width, record=True, force_terminal=True)
    console.print(render(report))
    style = "font-family:Menlo,'DejaVu Sans Mono',Consolas,monospace;line-height:1.25"
    return console.export_html(
        inline_styles=True, code_format=f'<pre style="{style}"><code>{{code}}</code></pre>'
    )


def write(report: Report, file: TextIO) -> None:
    """Writes the report to a stream."""
    console = _console(file)
    if not console.is_terminal:
        file.write(plain(report, PIPE_WIDTH) + "\n")
        return
    console.width = max(console.width, NARROWEST)
    console.print(render(report))


def _console(file: TextIO, **settings: Any) -> Console:
    """A console that writes to the file, also inside a notebook."""
    return Console(file=file, force_jupyter=False, **settings)


def _written(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def render(report: Report) -> RenderableType:
    """The report as something rich can print."""
    plan = report.plan
    parts: list[RenderableType] = [_head(plan), Text(), _choice(plan)]
    if plan.profile is not None:
        parts += [Text(), _measured(plan)]
    parts.append(_modes(plan))
    if report.stats is not None and report.stats.outside_s > 0:
        parts.append(_hanging("so far:", Text(_so_far(plan, report.stats)), "dim"))
    parts += [_note(note) for note in plan.notes]
    parts.append(_pin(plan))
    return Group(*parts)


def _note(note: Note) -> RenderableType:
    """A note behind its mark and its code."""
    text = Text.assemble((f"[{note.code}] ", "dim"), note.text)
    return _hanging("!!!", text, "bold red") if note.loud else _hanging("!", text, "yellow")


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
    return Group(_hanging("=>", title, "bold green"), _hanging("", Text(plan.reason)))


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
        return f"by the ~1 ms rule, {_certainty(plan)}"
    return f"pinned by {plan.pinned_by}" if plan.decided_by == "pin" else "the only mode left"


def _chance(p_best: float) -> str:
    """A probability in a word and a number."""
    word = "clearly" if p_best >= 0.99 else "likely" if p_best >= 0.9 else "perhaps"
    return f"{word} ({p_best:.0%})" if p_best < 0.995 else word


def _certainty(plan: Plan) -> str:
    """How far from the rule's line the step time lies, in words."""
    rule = plan.rule
    assert rule is not None
    if rule.near_line:
        return "close to the line"
    factor = max(rule.step_time_s / rule.threshold_s, rule.threshold_s / rule.step_time_s)
    side = "above" if rule.step_time_s > rule.threshold_s else "below"
    return f"clear: {ratio(factor)} {side} the line of {seconds(rule.threshold_s)}"


def _measured(plan: Plan) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    for name, text in [*_step_rows(plan), *_cost_rows(plan), *_evidence_rows(plan)]:
        grid.add_row(name, text)
    return Padding(grid, (0, 0, 0, 3))


def _step_rows(plan: Plan) -> list[tuple[str, str]]:
    profile = plan.profile
    assert profile is not None
    episode = (
        "no episode ended"
        if profile.episode_steps is None
        else f"episodes of {profile.episode_steps:.0f} steps"
    )
    memory = "" if profile.memory_bytes is None else f"; {size(profile.memory_bytes)} of memory"
    threads = f"{profile.cores_used:.1f} cores; " if profile.cores_used > 1.25 else ""
    return [
        (
            "step time",
            f"{seconds(profile.step_time_s)} mean, {seconds(profile.step_time_median_s)} median, "
            f"p95 {seconds(profile.step_time_p95_s)}, p99 {seconds(profile.step_time_p99_s)}",
        ),
        (
            "",
            f"{threads}{share(profile.wait_share)} waiting; {profile.steps} steps, first "
            f"{seconds(profile.first_step_s)}",
        ),
        (
            "reset time",
            f"{seconds(profile.reset_time_s)} mean, {share(profile.reset_share)} of the time; "
            f"{episode}",
        ),
        ("one env", f"{rate(profile.plain_steps_per_s)} steps/s by benchmark_step{memory}"),
    ]


def _cost_rows(plan: Plan) -> list[tuple[str, str]]:
    rows, ipc, profile, rule = [], plan.ipc, plan.profile, plan.rule
    if ipc is not None and profile is not None:
        rows.append(
            (
                "IPC cost",
                f"{seconds(ipc.observation_s)} per round trip of an observation "
                f"({size(profile.observation_bytes)}),",
            )
        )
        rows.append(
            (
                "",
                f"10-90 %: {seconds(ipc.observation_p10_s)}-{seconds(ipc.observation_p90_s)}; "
                f"{seconds(ipc.per_message_s)} + {seconds(ipc.per_byte_s * 1024)} per KiB",
            )
        )
    if plan.calibration is not None and plan.calibration.hand_off_s:
        rows.append(("", f"pool: {seconds(plan.calibration.hand_off_s)} per hand-off"))
    if rule is None:
        return rows
    pays = {"async": rule.break_even_s}
    if plan.estimate is not None:
        pays = plan.estimate.break_even_s
    texts = [f"{mode} {_pays(from_s)}" for mode, from_s in pays.items()]
    ends = f"here; the rule says {seconds(rule.threshold_s)}"
    rows.append(("break-even", f"{', '.join(texts)} {ends}" if texts else "nothing can run beside"))
    return rows


def _pays(from_s: float | None) -> str:
    if from_s is None:
        return "never pays"
    return f"pays from {seconds(from_s)} per step" if from_s > 0 else "pays at any step time"


def _evidence_rows(plan: Plan) -> list[tuple[str, str]]:
    rows, race = [], plan.race
    if plan.decided_by != "rule" and plan.rule is not None:
        rows.append(("the rule", f"{plan.rule.mode}, {_certainty(plan)}"))
    if plan.learner_s > 0 and plan.collection_share is not None:
        rows.append(
            (
                "learner",
                f"{seconds(plan.learner_s)} between two steps ({plan.learner}); "
                f"{share(plan.collection_share)} of the loop is collection",
            )
        )
    if race is not None:
        same = "" if race.difference else f"; {race.compared_steps} steps the same to the bit"
        rows.append(
            (
                "race",
                f"{race.rounds} rounds of {race.vector_steps} vector steps in "
                f"{seconds(race.seconds)}{same}",
            )
        )
    if plan.recalled:
        rows.append(("planned", f"{plan.created}, recalled as {plan.key}"))
    elif plan.decided_by != "pin":
        where = f"; remembered as {plan.key}" if plan.key else ""
        rows.append(("planned", f"in {seconds(plan.planning_s)}{where}"))
    if plan.not_stored:
        rows.append(("", f"not remembered: {plan.not_stored}"))
    return rows


def _modes(plan: Plan) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, expand=True)
    table.add_column("mode")
    table.add_column("loop" if plan.learner != "none" else "vector step", justify="right")
    table.add_column("env steps/s", justify="right")
    table.add_column("vs sync", justify="right")
    table.add_column("", ratio=1)
    names = {candidate.mode for candidate in plan.candidates}
    for candidate in plan.candidates:
        chosen = candidate.mode == plan.mode or (
            plan.mode not in names and candidate.mode == plan.mode.partition(":")[0]
        )
        table.add_row(*map(Text, _row(plan, candidate, chosen)), style="bold" if chosen else None)
    return Padding(table, (0, 0, 0, 1))


def _row(plan: Plan, candidate: Candidate, chosen: bool) -> tuple[str, str, str, str, str]:
    notes = ["chosen"] if chosen else []
    mode = plan.mode if chosen else candidate.mode
    if candidate.measured is not None:
        spread = (candidate.measured.high / candidate.measured.mid - 1) * 100
        notes.append(f"measured +-{spread:.1f} %")
    if candidate.predicted is not None:
        notes.append(f"predicted{_range(plan, candidate.predicted)}")
    if candidate.skipped:
        said = "skipped" if candidate.measured is None else "not chosen"
        notes.append(f"{said}: {candidate.skipped}")
    if candidate.loop_s is None:
        return mode, "-", "-", "-", ", ".join(notes)
    figures = seconds(candidate.loop_s), rate(plan.num_envs / candidate.loop_s)
    return mode, *figures, _against_sync(plan, candidate), ", ".join(notes)


def _range(plan: Plan, predicted: Interval) -> str:
    """A prediction as env steps per second from the least to the most, if it has any width."""
    if predicted.low == predicted.high:
        return ""
    low, high = (rate(plan.num_envs / end) for end in (predicted.high, predicted.low))
    number, _, unit = low.partition(" ")
    return f" {number}-{high}" if high.endswith(unit) else f" {low}-{high}"


def _against_sync(plan: Plan, candidate: Candidate) -> str:
    """How many times the throughput of `sync`, both measured or both predicted."""
    sync = next((one for one in plan.candidates if one.mode == "sync"), None)
    if sync is None:
        return "-"
    for theirs, ours in (
        (sync.measured, candidate.measured),
        (sync.predicted, candidate.predicted),
    ):
        if theirs is not None and ours is not None:
            return ratio(theirs.mid / ours.mid)
    return "-"


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
    return _hanging("pin it:", Text(f'mode="{plan.mode}"  or  VECSELECT_MODE={plan.mode}'), "dim")


def _hanging(mark: str, text: Text, style: str = "") -> RenderableType:
    """A text behind a mark, its further lines indented as the first."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style=style, min_width=2)
    grid.add_column()
    grid.add_row(mark, text)
    return grid
