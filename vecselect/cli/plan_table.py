"""The table of `vecselect plans list`: a line for a plan, also where a line has 80 columns."""

from __future__ import annotations

import datetime
import io
import re
from typing import TYPE_CHECKING, Any

from vecselect.cli.plans import SHORT
from vecselect.printable import printable, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

GAP = 2
LEAST = {"learner": 8, "environment": 16}
"""Columns that are cut where a line is too long, in this order, and what stays of them at least."""

ELLIPSIS = "..."

_LEARNER = re.compile(r"(?:[\w.<>]*\.)?([\w<>]+) ([0-9a-f]{16})")
_POWER = re.compile(r"2\^(-?\d+) s")


def write_table(rows: Sequence[dict[str, Any]], learners: Sequence[str], file: TextIO) -> None:
    """Writes stored plans as a table: in the width of a terminal, and as wide as it is in a pipe.

    Args:
        rows: The plans, as `plans list --json` has them.
        learners: By plan, the learner that it is for, as its key has it.
        file: The stream.
    """
    from rich.console import Console
    from rich.text import Text

    found = table(rows, learners, datetime.datetime.now(datetime.timezone.utc))
    lines = [[" ".join(printable(cell).split()) for cell in line] for line in found]
    if file.isatty():
        console = Console(file=file, force_jupyter=False)
        lines = cut(lines, console.width)
    else:
        console = Console(file=io.StringIO(), color_system=None, force_jupyter=False)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = lines[0].index("envs")
    for number, line in enumerate(lines):
        cells = [
            cell.rjust(width) if place == right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        style = "bold" if number == 0 else "" if rows[number - 1]["here"] else "dim"
        console.print(Text((" " * GAP).join(cells).rstrip(), style=style), soft_wrap=True)
    if isinstance(console.file, io.StringIO):
        write_text(console.file.getvalue(), file)


def table(
    rows: Sequence[dict[str, Any]], learners: Sequence[str], now: datetime.datetime
) -> list[list[str]]:
    """The cells, headings first. What is the same of all plans has no column.

    Args:
        rows: The plans.
        learners: By plan, the learner that it is for.
        now: When the table is read.
    """
    keys = [row["key"] for row in rows]
    length = next(
        (n for n in range(SHORT, 64) if len({key[:n] for key in keys}) == len(keys)), None
    )
    columns = {
        "key": [key[:length] for key in keys],
        "environment": [row["env"] for row in rows],
        "envs": [str(row["num_envs"]) for row in rows],
        "mode": [row["mode"] for row in rows],
        "by": [row["decided_by"] for row in rows],
        "made": [age(row["created"], now) for row in rows],
    }
    varying = {
        "effort": [row["effort"] or "-" for row in rows],
        "learner": [learner_text(learner) for learner in learners],
        "machine": ["here" if row["here"] else "another" for row in rows],
    }
    columns |= {name: cells for name, cells in varying.items() if len(set(cells)) > 1}
    if not any(row["here"] for row in rows):
        columns["machine"] = varying["machine"]
    return [list(columns), *(list(cells) for cells in zip(*columns.values(), strict=True))]


def cut(lines: list[list[str]], width: int) -> list[list[str]]:
    """The cells so that lines fit into a width, as far as some of them can be cut."""
    columns = {cells[0]: list(cells) for cells in zip(*lines, strict=True)}
    for name, least in LEAST.items():
        whole = sum(max(map(len, cells)) + GAP for cells in columns.values()) - GAP
        if name in columns and whole > width:
            room = max(max(map(len, columns[name])) - (whole - width), least)
            columns[name] = [_shortened(cell, room) for cell in columns[name]]
    return [list(cells) for cells in zip(*columns.values(), strict=True)]


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - len(ELLIPSIS)] + ELLIPSIS


def learner_text(learner: str) -> str:
    """A learner, as a plan's key has it, in a few words: `policy 3f2a, torch 2`."""
    from vecselect.report.units import seconds

    name, _, torch = learner.partition(", torch with ")
    if found := _LEARNER.fullmatch(name):
        name = f"{found[1]} {found[2][:4]}"
    elif power := _POWER.fullmatch(name):
        name = f"~{seconds(2.0 ** int(power[1]))}"
    return f"{name}, torch {torch.removesuffix(' threads')}" if torch else name


def age(created: str, now: datetime.datetime) -> str:
    """When a plan was made: `3 h ago`, and the date where that is longer ago than two days.

    Args:
        created: As the plan has it.
        now: When it is read.
    """
    try:
        past_s = (now - datetime.datetime.fromisoformat(created)).total_seconds()
    except (TypeError, ValueError):
        return created[:10]
    if not 0 <= past_s < 48 * 3600:
        return created[:10]
    if past_s < 60:
        return "just now"
    return f"{past_s / 60:.0f} min ago" if past_s < 3570 else f"{past_s / 3600:.0f} h ago"
