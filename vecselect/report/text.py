"""A report as text for terminals and pipes: cut to a number of lines, or with all it says."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vecselect.printable import printable, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from vecselect.report.content import Content, Row, Section

WIDTH = 80
"""Columns of plain text."""

NARROWEST = 60
"""Columns that a terminal is taken to have at least."""

MOST_LINES = 16
"""Lines of the short report where it has 80 columns or more."""

MOST_ROWS, LEAST_ROWS = 6, 2
"""Candidates in the short report."""

NOTE_LINES = 4
"""Lines of the short report that rows leave to the notes."""

REASON_LINES = 4
NAME_COLUMNS = 18

REST_OF_NOTES = "the rest of the notes: print(envs.report.details), or --details in a shell"

_WRAPPING = Console(file=io.StringIO(), force_jupyter=False)
"""Wraps texts; what is wrapped depends on nothing of it."""


@dataclass(frozen=True)
class Shown:
    """What a report says for rich, laid out when its width is known.

    If it is `short`, rows, notes and the reason are cut to fit into 16 lines; else captions and the
    evidence are shown too.
    """

    content: Content
    short: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lays it out."""
        content, width, short = self.content, options.max_width, self.short
        pin = _pin(content, width)
        above = [*_head(content, width), *_verdict(content, width, short)]
        yield from above
        if not short:
            for section in (*content.sections, *content.evidence):
                yield ""
                yield Text(section.heading, style="bold")
                yield from _section(section)
                yield from _hanging("  ", Text(section.caption, style="dim"), width)
            yield ""
            yield from (*_notes(content, width, math.inf), *pin)
            return
        so_far = [line for section in content.sections for line in _on_one_line(section, width)]
        room = MOST_LINES - len(above) - len(so_far) - len(pin)
        for table in content.sections:
            for_notes = NOTE_LINES if content.notes else 0
            rows = _rows_that_tell(table, max(room - 1 - for_notes, LEAST_ROWS))
            if rows:
                room -= len(rows) + 1
                blanks = [""] * (room - len(_notes(content, width, room)) >= 2)
                yield from (*blanks, _table(table, rows), *blanks)
        yield from (*so_far, *_notes(content, width, room), *pin)


def plain(shown: RenderableType, width: int = WIDTH) -> str:
    """The text of a report at a width in columns, without colour or trailing spaces."""
    file = io.StringIO()
    _console(file, width=width, color_system=None, force_terminal=False).print(shown)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def write(shown: RenderableType, file: TextIO, pipe_width: int = WIDTH) -> None:
    """Writes what rich can print to a stream: coloured and as wide as a terminal, plain in a pipe.

    On a terminal `NO_COLOR`, `FORCE_COLOR` and `COLUMNS` are heeded.
    """
    console = _console(file)
    if console.is_terminal:
        console.width = max(console.width, NARROWEST)
        console.print(shown)
    else:
        write_text(plain(shown, pipe_width) + "\n", file)


def grid(rows: Iterable[tuple[str, str]]) -> Table:
    """Rows of a name and a text."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=NAME_COLUMNS, max_width=NAME_COLUMNS + 4)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def columns(cells: Mapping[str, Sequence[object]]) -> Table:
    """A table by columns, of which only the second may be broken to fit."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, name in enumerate(cells):
        table.add_column(name, no_wrap=place != 1, overflow="fold")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    return table


def _console(file: TextIO, **settings: Any) -> Console:
    """A console that writes to the file, also inside a notebook."""
    return Console(file=file, force_jupyter=False, **settings)


def _hanging(
    mark: str, text: str | Text, width: int, style: str = "", most: float = math.inf
) -> list[Text]:
    """A text in lines behind a mark, the further ones indented; no lines for an empty text."""
    text = Text(text) if isinstance(text, str) else text
    if not text.plain:
        return []
    mark = f"{mark} " if mark else ""
    room = width - len(mark)
    lines = [*text.wrap(_WRAPPING, room)]
    if len(lines) > most:
        lines = lines[: max(int(most), 1)]
        lines[-1].rstrip()
        if len(lines[-1]) > room - 4:  # whole words alone
            lines[-1].truncate(max(lines[-1].plain.rfind(" ", 0, room - 3), 0))
        lines[-1].append(" ...")
    for number, line in enumerate(lines):
        line.rstrip()
        lines[number] = Text.assemble((mark if number == 0 else " " * len(mark), style), line)
    return lines


def _head(content: Content, width: int) -> list[Text]:
    """What it is about, and the cores."""
    what = Text.assemble((f"vecselect: {content.what}", "bold"), (f"  on {content.where}", "dim"))
    return _hanging("", what, width, most=3)


def _verdict(content: Content, width: int, short: bool) -> list[Text]:
    chosen = f"{content.chosen}  " if content.chosen else ""
    title = Text.assemble((chosen, "bold green"), content.verdict)
    most = REASON_LINES if short else math.inf
    return [
        *_hanging("=>", title, width, "bold green"),
        *_hanging("  ", content.reason, width, most=most),
    ]


def _on_one_line(section: Section, width: int) -> list[Text]:
    """Facts as one text without their names; nothing of a table."""
    if section.columns:
        return []
    text = "; ".join(cell for row in section.rows for cell in row.cells)
    return _hanging(f"{section.heading.lower()}:", text, width)


def _rows_that_tell(table: Section, most: int) -> list[Row]:
    """So many rows with figures, the choice and those of `sync` among them, in their order."""
    known = [row for row in table.rows if row.cells and table.columns]
    ranked = sorted(known, key=lambda row: not (row.chosen or row.name.startswith("sync")))
    kept = ranked[: min(most, MOST_ROWS)]
    return [row for row in known if row in kept]


def _notes(content: Content, width: int, room: float) -> list[Text]:
    """The lines of the notes for which there is room; where the rest is takes one."""
    lines: list[Text] = []
    for note in content.notes:
        text = Text.assemble((f"[{note.code}] ", "dim"), note.text)
        mark, style = ("!!!", "bold red") if note.loud else ("!", "yellow")
        lines += _hanging(mark, text, width, style)
    if len(lines) <= room:
        return lines
    if room < 1:
        return []
    return [*lines[: int(room) - 1], *_hanging("!", REST_OF_NOTES, width, "yellow", 1)]


def _pin(content: Content, width: int) -> list[Text]:
    lines: list[Text] = []
    for text in content.pin:
        lines += _hanging("       " if lines else "pin it:", text, width, "dim")
    return lines


def _section(section: Section) -> Iterable[RenderableType]:
    """What is under a heading, why candidates could not be chosen in rows of their own."""
    if not section.columns:
        yield Padding(grid((row.name, row.cells[0]) for row in section.rows), (0, 0, 0, 3))
        return
    rows = [row for row in section.rows if row.cells]
    if rows:
        yield _table(section, rows)
    why = [(f"why not {row.name}", row.remark) for row in section.rows if row.remark]
    if why:
        yield Padding(grid(why), (0, 0, 0, 3))


def _table(section: Section, rows: Sequence[Row]) -> RenderableType:
    table = Table(box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="dim")
    first, *others = section.columns
    table.add_column(f"   {first}", no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = map(Text, (f"{'=>' if row.chosen else '  '} {row.name}", *row.cells))
        table.add_row(*cells, style="bold" if row.chosen else "")
    return table
