"""The report as Markdown, to be pasted into an issue: tables and no plots."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vecselect.report.content import content

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecselect.plan import Plan
    from vecselect.report.content import Verdict
    from vecselect.run_stats import Stats

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!@])")


def markdown(plan: Plan, stats: Stats | None = None) -> str:
    """The report as a document of GitHub's Markdown."""
    found = content(plan, stats)
    verdict, pin = found.verdict, found.pin
    around = f", stepped in {_code(pin.collecting)}" if pin.collecting else ""
    blocks = [
        f"## {_text(verdict.what)}: {_code(verdict.mode)}",
        _answer(verdict),
        f"Pin it: {_code(pin.call)}{around} or {_code(pin.variable)}",
        "\n".join(
            f"- {_code(note.code)} {'**' if note.loud else ''}{_text(note.text)}"
            f"{'**' if note.loud else ''}"
            for note in found.notes
        ),
        *_under(
            "Candidates",
            (*found.headings, ""),
            [(row.name, *row.cells, row.remark) for row in found.candidates],
        ),
        *_under("This run so far", ("", ""), found.so_far),
        *_under(
            "One vector step taken apart, as predicted",
            ("mode", "vector step", "of that"),
            [
                (bar.mode, bar.total, ", ".join(f"{part.name} {part.text}" for part in bar.parts))
                for bar in found.bars
            ],
        ),
        "<details><summary>Evidence</summary>",
        *(_table((_text(group.heading), ""), group.rows) for group in found.groups),
        "</details>",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _answer(verdict: Verdict) -> str:
    gain = f"**{_text(verdict.gain)}** ({_text(verdict.about_gain)}). " if verdict.gain else ""
    threads = f"{_text(verdict.threads.capitalize())}. " if verdict.threads else ""
    sure = verdict.sure[:1].upper() + verdict.sure[1:]
    return f"{gain}{threads}{_text(sure)}. {_text(verdict.reason)}"


def _under(heading: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"### {heading}", _table(headings, rows)] if rows else []


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings)]
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
