"""A sweep as tables for terminals, pipes and notebooks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vecselect.errors import RequestError
from vecselect.report import terminal
from vecselect.report.text import hanging
from vecselect.report.units import all_printable, rate, ratio, seconds, size
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
    from typing import TextIO

    from rich.console import RenderableType

    from vecselect.selection.sweep import Point
    from vecselect.sweeping.record import Sweep

WIDTH = 80
MODES_PER_TABLE = 5
"""So many columns of modes fit into 80 characters; more of them make a further table."""

BEST = "*"


def plain(sweep: Sweep, width: int = WIDTH) -> str:
    """The sweep as text of a width, without colour or trailing spaces."""
    return terminal.plain(render(sweep), width)


def write(sweep: Sweep, file: TextIO) -> None:
    """Writes the sweep to a stream: coloured on a terminal, plain in a pipe."""
    terminal.write(render(sweep), file)


def html(sweep: Sweep, width: int = WIDTH) -> str:
    """The sweep as a fragment of HTML; with its plot, where matplotlib is installed."""
    from vecselect.report.html import picture
    from vecselect.report.sweep_plot import draw, title

    table = terminal.html(render(sweep), width)
    try:
        return table + picture(lambda palette: draw(sweep, palette), title(sweep))
    except RequestError:  # a notebook without matplotlib shows the table alone
        return table


def render(sweep: Sweep) -> RenderableType:
    """The sweep as something rich can print."""
    sweep = all_printable(sweep)
    parts: list[RenderableType] = [_head(sweep)]
    measured = {point.mode for point in sweep.points if point.env_steps_per_s is not None}
    shown = [mode for mode in sweep.modes if mode in measured]
    if shown:
        kind = "memory" if sweep.memory_kind.startswith("prop") else "memory, shared pages in each"
        parts += _tables(sweep, shown, "env steps/s, 95 % interval", _throughput)
        parts += _tables(sweep, shown, f"{kind}, all processes", _memory)
    parts += [Text(), _conclusion(sweep)]
    parts += [hanging("-", Text(text), "dim") for text in left_out(sweep)]
    parts += [
        hanging("!", Text(note.text), "bold red" if note.loud else "yellow") for note in sweep.notes
    ]
    return Group(*parts)


def _head(sweep: Sweep) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(overflow="fold")
    grid.add_column(justify="right")
    cores = f"{sweep.machine.cores:g} usable cores, {seconds(sweep.seconds)}"
    grid.add_row(Text(f"vecselect: sweep of {sweep.env}", style="bold"), Text(cores, style="dim"))
    return grid


def _tables(
    sweep: Sweep,
    modes: Sequence[str],
    caption: str,
    cell: Callable[[Sweep, Point | None, bool], Text],
) -> list[RenderableType]:
    """One row per number of sub-environments, one column per mode."""
    fastest = fastest_by_number(sweep.points, sweep.named_modes)
    parts: list[RenderableType] = []
    for start in range(0, len(modes), MODES_PER_TABLE):
        table = Table(box=None, padding=(0, 0, 0, 2), pad_edge=False)
        table.add_column("envs", justify="right", no_wrap=True)
        columns = modes[start : start + MODES_PER_TABLE]
        for mode in columns:
            table.add_column(mode, justify="right", no_wrap=True)
        for number in sweep.num_envs:
            winner = fastest.get(number)
            cells = [
                cell(sweep, sweep.of(mode, number), winner is not None and winner.mode == mode)
                for mode in columns
            ]
            table.add_row(str(number), *cells)
        parts += [Text(f"\n{caption}", style="dim"), table]
    return parts


def _throughput(sweep: Sweep, point: Point | None, winner: bool) -> Text:
    """A throughput with its uncertainty, the best one marked."""
    if point is None or point.env_steps_per_s is None:
        return Text("-", style="dim")
    found = point.env_steps_per_s
    percent = round((found.high / found.mid - 1) * 100)
    is_best = point == sweep.best
    style = "bold green" if is_best else "bold" if winner else ""
    mark = BEST if is_best else ""
    return Text.assemble((f"{mark}{rate(found.mid)}", style), (f" ±{percent}%", "dim"))


def _memory(sweep: Sweep, point: Point | None, winner: bool) -> Text:
    if point is None or point.memory_bytes is None:
        return Text("-", style="dim")
    style = "bold green" if point == sweep.best else "bold" if winner else ""
    return Text(size(point.memory_bytes), style=style)


def _conclusion(sweep: Sweep) -> RenderableType:
    """The best, where returns diminish, and the line to paste."""
    best = sweep.best
    if best is None or best.env_steps_per_s is None:
        what = "Nothing was measured." if sweep.whole else "Interrupted; nothing was measured yet."
        return hanging("=>", Text(what), "bold red")
    title = Text.assemble(
        (f"{best.mode} x {best.num_envs}", "bold green"),
        f"  {rate(best.env_steps_per_s.mid)} env steps/s{_against_sync(sweep, best)} ({BEST})",
    )
    lines = [hanging("=>", title, "bold green")]
    texts = (
        returns_text(sweep.points, best.mode),
        winners_text(sweep.points, sweep.named_modes),
        another_text(sweep.points, sweep.named_modes),
        None if sweep.whole else "It was interrupted: this is not the whole sweep.",
    )
    lines += [hanging("", Text(text)) for text in texts if text]
    lines.append(hanging("use it:", Text(line_to_paste(sweep, best)), "dim"))
    return Group(*lines)


def line_to_paste(sweep: Sweep, point: Point) -> str:
    """The call that makes what a point was measured with."""
    env = f'"{sweep.env}"' if sweep.by_id else sweep.env
    return f'auto_make_vec({env}, {point.num_envs}, mode="{point.mode}")'


def _against_sync(sweep: Sweep, best: Point) -> str:
    sync = sweep.of("sync", best.num_envs)
    if best.mode == "sync" or sync is None or sync.env_steps_per_s is None:
        return ""
    assert best.env_steps_per_s is not None
    return f", {ratio(best.env_steps_per_s.mid / sync.env_steps_per_s.mid)} of sync"


def left_out(sweep: Sweep) -> list[str]:
    """Why points were not measured, those with one reason together."""
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
    texts = []
    for (mode, _), points in groups.items():
        numbers = ", ".join(str(point.num_envs) for point in points)
        which = mode if len(points) == len(sweep.num_envs) else f"{mode} x {numbers}"
        texts.append(f"{which}: {points[0].skipped}.")
    return texts
