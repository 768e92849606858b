"""A report as Markdown, to be pasted into an issue: tables and no plots."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.report.content import Content, Section

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!@])")


def markdown(content: Content) -> str:
    """A report as a document of GitHub's Markdown."""
    notes = [f"- {_code(note.code)} {_text(note.text, note.loud)}" for note in content.notes]
    blocks = [
        f"## {_text(content.what)}: {_code(content.chosen)}",
        f"On {_text(content.where)}: {_text(content.verdict)}. {_text(content.reason)}",
        "\n".join(("Pin it:\n```", *content.pin, "```")),
        "\n".join(notes),
        *map(_section, content.sections),
        "<details><summary>Details</summary>",
        *map(_section, content.evidence),
        "</details>",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _section(section: Section) -> str:
    """A heading, a table, and how to read it."""
    columns = section.columns or ("", "")
    remarks = any(row.remark for row in section.rows)
    lines: list[Sequence[str]] = [
        [*map(_text, columns), *["why not"] * remarks],
        ["---"] * (len(columns) + remarks),
    ]
    for row in section.rows:
        cells = row.cells or ("",) * (len(columns) - 1)
        words = (row.name, *cells, *[row.remark] * remarks)
        lines.append([_text(word, row.chosen) for word in words])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(filter(None, (f"### {section.heading}", table, _text(section.caption))))


def _text(text: str, bold: bool = False) -> str:
    """The text on one line, so that nothing in it is taken for Markdown or HTML."""
    text = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return f"**{text}**" if bold and text else text


def _code(text: str) -> str:
    """The text as code, whatever backticks are in it."""
    text = " ".join(text.split())
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"
