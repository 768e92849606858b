"""The report as text for terminals, pipes and notebooks: a short one, and one with all details."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.console import Group as Stack
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vecselect.report.bars import PARTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from vecselect.report.bars import Bar
    from vecselect.report.content import Content, Row
    from vecselect.report.details import Rows

_CONSOLE = Console(file=io.StringIO(), force_jupyter=False)
"""Wraps texts; what is wrapped depends on nothing of it."""

MOST_LINES = 16
"""Lines of the short report where it has 80 columns or more."""

REASON_LINES = 3
NAME_COLUMNS = 18
BAR_COLUMNS = 52
CUT = "»"

PART_LOOKS = {
    "stepping": ("█", "green"),
    "stragglers": ("▓", "yellow"),
    "hand-off": ("▒", "red"),
    "copying": ("=", "cyan"),
    "loop": ("·", "blue"),
}
"""By the name of a part: a character and a colour."""


def short(content: Content) -> RenderableType:
    """The verdict, the candidates, the notes and the pin, in at most 16 lines."""
    return _Report(content, MOST_LINES)


def detailed(content: Content) -> RenderableType:
    """The same uncut, with all of the evidence."""
    return _Report(content, math.inf)


@dataclass(frozen=True)
class _Report:
    """A report that knows its lines only when it knows its width.

    Attributes:
        content: What it says.
        most_lines: Lines that it may have; notes are left out where there is no room for them.
    """

    content: Content
    most_lines: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Its lines, as rich prints them."""
        content, width = self.content, options.max_width
        whole = self.most_lines == math.inf
        above = [*_head(content, width), *_verdict(content, width, whole=whole)]
        rows = [row for row in content.candidates if row.cells[0] and (whole or row.brief)]
        so_far = [] if whole else _hung("so far", "; ".join(t for _, t in content.so_far), width)
        pin = _pin(content, width)
        used = len(above) + len(so_far) + len(pin) + 1
        rows = _fitting(rows, self.most_lines - used - bool(content.notes))
        used += len(rows) - (not rows)
        notes = _notes(content, width, self.most_lines - used)
        blanks = used + len(notes) + 2 <= self.most_lines
        yield from above
        if rows:
            yield from [Text()] * blanks
            yield _table(content, rows)
            yield from [Text()] * blanks
        if whole:
            yield from _evidence(content)
        yield from so_far
        yield from notes
        yield from pin


def _hung(mark: str, text: str | Text, width: int, style: str = "", most: float = 99) -> list[Text]:
    """A text behind a mark in lines, the further ones indented; no lines for an empty text."""
    text = Text(text) if isinstance(text, str) else text
    if not text.plain:
        return []
    mark = f"{mark} " if mark else ""
    room = width - len(mark)
    lines = [*text.wrap(_CONSOLE, room)]
    if len(lines) > most:
        lines = lines[: max(int(most), 1)]
        lines[-1].truncate(room - 4)
        lines[-1].rstrip()
        lines[-1].append(" ...")
    for number, line in enumerate(lines):
        line.rstrip()
        lines[number] = Text.assemble((mark if number == 0 else " " * len(mark), style), line)
    return lines


def _head(content: Content, width: int) -> list[Text]:
    """The environment, and at the right the cores; a line more where they do not fit into one."""
    cores = Text(content.verdict.cores, style="dim")
    what = Text.assemble(("vecselect: ", "bold"), (content.verdict.what, "bold"))
    lines = _hung("", what, width, most=3)
    gap = width - len(lines[-1]) - len(cores)
    if gap < 2:
        return [*lines, cores]
    return [*lines[:-1], Text.assemble(lines[-1], " " * gap, cores)]


def _verdict(content: Content, width: int, *, whole: bool) -> list[Text]:
    verdict = content.verdict
    threads = f" {verdict.threads}" if verdict.threads else ""
    title = Text.assemble((verdict.mode, "bold green"), (threads, "bold"), f"  {verdict.sure}")
    most = 99 if whole else REASON_LINES
    return [
        *_hung("=>", title, width, "bold green"),
        *_hung("  ", verdict.reason, width, most=most),
    ]


def _fitting(rows: list[Row], most: float) -> list[Row]:
    """As many rows as there is room for; the choice and `sync` stay."""
    needless = [row for row in rows if not row.chosen and row.mode != "sync"]
    dropped = needless[len(needless) - int(max(len(rows) - most, 0)) :]
    return [row for row in rows if row not in dropped]


def _table(content: Content, rows: Sequence[Row]) -> RenderableType:
    table = Table(box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="dim")
    mode, *headings = content.headings
    table.add_column(f"   {mode}", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    beside_measured = any(row.measured for row in content.candidates)
    for row in rows:
        name = f"{'=>' if row.chosen else '  '} {row.name}"
        predicted = beside_measured and not row.measured
        style = "bold" if row.chosen else "dim" if predicted else None
        table.add_row(*map(Text, (name, *row.cells)), style=style)
    return table


def _notes(content: Content, width: int, room: float) -> list[Text]:
    """The notes for which there is room; how many more there are takes a line."""
    lines: list[Text] = []
    for number, note in enumerate(content.notes):
        left = len(content.notes) - number
        text = Text.assemble((f"[{note.code}] ", "dim"), note.text)
        mark, style = ("!!!", "bold red") if note.loud else ("!", "yellow")
        free = room - len(lines) - (left > 1)
        if free < 1:
            more = f"{left} more {'note' if left == 1 else 'notes'}: report.details"
            return [*lines, *_hung("!", more, width, "yellow")] if room > len(lines) else lines
        lines += _hung(mark, text, width, style, free)
    return lines


def _pin(content: Content, width: int) -> list[Text]:
    pin = content.pin
    collecting = f"{pin.collecting}  # around the steps of a rollout" if pin.collecting else ""
    return [
        *_hung("pin it:", f"{pin.arguments}  or  {pin.variable}", width, "dim"),
        *_hung("       ", collecting, width),
    ]


def _evidence(content: Content) -> Iterable[RenderableType]:
    """What the short report leaves out."""
    skipped = tuple((row.mode, row.skipped) for row in content.candidates if row.skipped)
    yield from group("Not chosen", skipped)
    if content.bars:
        yield Padding(Stack(_legend(content.bars), _bars(content.bars)), (0, 0, 1, 0))
    yield from group("This run so far", content.so_far)
    for one in content.groups:
        yield from group(one.heading, one.rows)


def group(heading: str, rows: Rows) -> Iterable[RenderableType]:
    """Rows under a heading; nothing where there are none."""
    if rows:
        yield Text(heading, style="bold")
        yield Padding(grid(rows), (0, 0, 1, 1))


def hanging(mark: str, text: Text, style: str = "") -> RenderableType:
    """A text behind a mark, its further lines indented as the first."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style=style, min_width=2)
    table.add_column()
    table.add_row(mark, text)
    return table


def grid(rows: Rows) -> RenderableType:
    """Rows of a name and a text."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=NAME_COLUMNS, max_width=NAME_COLUMNS + 4)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def _legend(bars: tuple[Bar, ...]) -> Text:
    present = {part.name for bar in bars for part in bar.parts}
    words = [
        Text.assemble((PART_LOOKS[name][0], PART_LOOKS[name][1]), (f" {name}", "dim"))
        for name in PARTS.values()
        if name in present
    ]
    return Text.assemble(("predicted step: ", "dim"), Text("  ").join(words))


def _bars(bars: tuple[Bar, ...]) -> RenderableType:
    """Where each part ends is rounded, so that a whole bar has the right length."""
    table = Table.grid(padding=(0, 1))
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for bar in bars:
        line, drawn = Text(), 0
        for part in bar.parts:
            end = round(part.end * BAR_COLUMNS)
            character, colour = PART_LOOKS[part.name]
            line.append(character * (end - drawn), colour)
            drawn = end
        if bar.cut:
            line.append(CUT, "dim")
        table.add_row(Text(bar.mode), Text(bar.total), line)
    return table
