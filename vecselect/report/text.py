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

    from vecselect.plan import Candidate, Plan

NARROWEST = 60
PIPE_WIDTH = 80


def plain(plan: Plan, width: int) -> str:
    """The report as text of a width, without colour or trailing spaces."""
    console = _console(io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(render(plan))
    return "\n".join(line.rstrip() for line in _written(console).splitlines())


def html(plan: Plan, width: int) -> str:
    """The report as a fragment of HTML that takes its colours along."""
    console = _console(io.StringIO(), width=width, record=True, force_terminal=True)
    console.print(render(plan))
    style = "font-family:Menlo,'DejaVu Sans Mono',Consolas,monospace;line-height:1.25"
    return console.export_html(
        inline_styles=True, code_format=f'<pre style="{style}"><code>{{code}}</code></pre>'
    )


def write(plan: Plan, file: TextIO) -> None:
    """Writes the report to a stream."""
    console = _console(file)
    if not console.is_terminal:
        file.write(plain(plan, PIPE_WIDTH) + "\n")
        return
    console.width = max(console.width, NARROWEST)
    console.print(render(plan))


def _console(file: TextIO, **settings: Any) -> Console:
    """A console that writes to the file, also inside a notebook."""
    return Console(file=file, force_jupyter=False, **settings)


def _written(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def render(plan: Plan) -> RenderableType:
    """The report as something rich can print."""
    parts: list[RenderableType] = [_head(plan), Text(), _choice(plan)]
    if plan.profile is not None:
        parts += [Text(), _measured(plan)]
    parts.append(_modes(plan))
    parts += [_hanging("!", Text(note), "yellow") for note in plan.notes]
    parts.append(_pin(plan))
    return Group(*parts)


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
    how = {
        "rule": "by the ~1 ms rule",
        "pin": f"pinned by {plan.pinned_by}",
        "elimination": "the only mode left",
    }[plan.decided_by]
    title = Text.assemble((plan.mode, "bold green"), f"  {how}")
    if plan.rule is not None:
        title.append(f", {_certainty(plan)}")
    return Group(_hanging("=>", title, "bold green"), _hanging("", Text(plan.reason)))


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
    profile, ipc, rule = plan.profile, plan.ipc, plan.rule
    assert profile is not None
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row(
        "step time",
        f"{seconds(profile.step_time_s)} mean, {seconds(profile.step_time_median_s)} median, "
        f"p95 {seconds(profile.step_time_p95_s)}, p99 {seconds(profile.step_time_p99_s)}",
    )
    grid.add_row(
        "", f"{share(profile.wait_share)} waiting; {profile.steps} steps, first {_first(plan)}"
    )
    episode = (
        "no episode ended"
        if profile.episode_steps is None
        else f"episodes of {profile.episode_steps:.0f} steps"
    )
    grid.add_row(
        "reset time",
        f"{seconds(profile.reset_time_s)} mean, {share(profile.reset_share)} of the time; "
        f"{episode}",
    )
    if ipc is not None:
        grid.add_row(
            "IPC cost",
            f"{seconds(ipc.observation_s)} per round trip of an observation "
            f"({size(profile.observation_bytes)})",
        )
        grid.add_row(
            "",
            f"10-90 %: {seconds(ipc.observation_p10_s)}-{seconds(ipc.observation_p90_s)}; "
            f"{seconds(ipc.per_message_s)} + {seconds(ipc.per_byte_s * 1024)} per KiB",
        )
    if rule is not None:
        broken = "never" if rule.break_even_s is None else f"{seconds(rule.break_even_s)} per step"
        grid.add_row(
            "break-even",
            f"async pays from {broken} here; the rule says {seconds(rule.threshold_s)}",
        )
    memory = "" if profile.memory_bytes is None else f"; {size(profile.memory_bytes)} of memory"
    grid.add_row("one env", f"{rate(profile.plain_steps_per_s)} steps/s by benchmark_step{memory}")
    return Padding(grid, (0, 0, 0, 3))


def _first(plan: Plan) -> str:
    assert plan.profile is not None
    return seconds(plan.profile.first_step_s)


def _modes(plan: Plan) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, expand=True)
    table.add_column("mode")
    table.add_column("vector step", justify="right")
    table.add_column("env steps/s", justify="right")
    table.add_column("", ratio=1)
    for candidate in plan.candidates:
        chosen = candidate.mode == plan.mode.partition(":")[0]
        table.add_row(*map(Text, _row(plan, candidate, chosen)), style="bold" if chosen else None)
    return Padding(table, (0, 0, 0, 1))


def _row(plan: Plan, candidate: Candidate, chosen: bool) -> tuple[str, str, str, str]:
    step_s = candidate.vector_step_s
    predicted = ("-", "-") if step_s is None else (seconds(step_s), rate(plan.num_envs / step_s))
    note = "chosen" if chosen else ""
    if candidate.skipped:
        note = f"skipped: {candidate.skipped}"
    elif step_s is not None:
        note = f"{note}, predicted" if note else "predicted"
    return (plan.mode if chosen else candidate.mode, *predicted, note)


def _pin(plan: Plan) -> RenderableType:
    return _hanging("pin it:", Text(f'mode="{plan.mode}"  or  VECSELECT_MODE={plan.mode}'), "dim")


def _hanging(mark: str, text: Text, style: str = "") -> RenderableType:
    """A text behind a mark, its further lines indented as the first."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style=style, min_width=2)
    grid.add_column()
    grid.add_row(mark, text)
    return grid
