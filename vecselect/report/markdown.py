"""A report as Markdown, to be pasted into an issue: tables and no plots."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vecselect.report.content import Bars, Facts, content

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecselect.plan import Plan
    from vecselect.report.content import Table
    from vecselect.run_stats import Stats

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!@])")


def markdown(plan: Plan, stats: Stats | None = None) -> str:
    """The report as a document of GitHub's Markdown."""
    found = content(plan, stats)
    blocks = [
        f"## {_text(found.what)}: {_code(found.chosen)}",
        f"{_text(found.sure[:1].upper() + found.sure[1:])}. {_text(found.reason)}",
        "\n".join(("Pin it:\n```", *found.pin, "```")),
        "\n".join(
            f"- {_code(note.code)} {'**' if note.loud else ''}{_text(note.text)}"
            f"{'**' if note.loud else ''}"
            for note in found.notes
        ),
        *(f"### {_text(one.heading)}\n\n{_section(one)}" for one in found.sections),
        "<details><summary>Evidence</summary>",
        *(_table((one.heading, ""), one.rows) for one in found.evidence),
        "</details>",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _section(section: Table | Bars | Facts) -> str:
    """What is under a section's heading, as a table."""
    if isinstance(section, Facts):
        return _table(("", ""), section.rows)
    if isinstance(section, Bars):
        parts = [
            ", ".join(f"{part.name} {part.text}" for part in bar.parts) for bar in section.bars
        ]
        rows = [(bar.name, bar.total, text) for bar, text in zip(section.bars, parts, strict=True)]
        return _table(("mode", "vector step", "of that"), rows)
    blank = ("",) * (len(section.columns) - 1)
    return _table(
        (*section.columns, ""),
        [(row.name, *(row.cells or blank), row.remark) for row in section.rows],
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [[_text(name) for name in columns], ["---"] * len(columns)]
    lines += [[_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """The text on one line, so that nothing in it is taken for Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """The text as code, whatever backticks are in it."""
    text = " ".join(text.split())
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"
