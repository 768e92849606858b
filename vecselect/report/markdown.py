"""The report as Markdown, to be pasted into an issue: tables and no plots."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vecselect.printable import printable
from vecselect.report.facts import (
    break_even,
    candidates,
    faster,
    how_sure,
    pins,
    smaller_race,
    so_far,
    what_would_change,
)
from vecselect.report.measurements import measurements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecselect.plan import Plan
    from vecselect.report import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!@])")


def markdown(report: Report) -> str:
    """The report as a document of GitHub's Markdown."""
    plan = report.plan
    blocks = [
        f"## {_text(plan.env)} x {plan.num_envs}: {_code(plan.mode)}",
        _answer(plan),
        "\n".join(
            f"- {_code(note.code)} {'**' if note.loud else ''}{_text(note.text)}"
            f"{'**' if note.loud else ''}"
            for note in plan.notes
        ),
        *_candidates(plan),
        *_smaller(plan),
        *_under("This run so far", ("", ""), so_far(plan, report.stats)),
        *_under(
            "What would change the answer",
            ("if there were", "the model chooses", "throughput", ""),
            what_would_change(plan),
        ),
        *_under("Break-even against the ~1 ms rule", ("", ""), break_even(plan)),
        "<details><summary>Measurements</summary>",
    ]
    for heading, rows in measurements(plan):
        blocks.append(_table((heading, ""), rows))
    blocks.append("</details>")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _answer(plan: Plan) -> str:
    found = faster(plan)
    gain = f"**{_text(found[0])} sync** ({_text(found[1])}). " if found else ""
    call, variable = pins(plan)
    return (
        f"{gain}{_text(how_sure(plan))} {_text(plan.reason)}\n\n"
        f"Pin it: {_code(call)} or {_code(variable)}"
    )


def _candidates(plan: Plan) -> list[str]:
    rows = [
        (
            row.mode,
            row.predicted,
            row.predicted_against_sync,
            row.measured,
            row.rate,
            row.against_sync,
            row.remark,
        )
        for row in candidates(plan)
    ]
    headings = ("mode", "predicted", "vs sync", "measured", "env steps/s", "vs sync", "")
    # Where nothing was measured there is one ratio only, and no column for the other.
    used = [place for place in range(len(headings)) if place < 1 or any(row[place] for row in rows)]
    return _under(
        "Candidates",
        [headings[place] for place in used],
        [[row[place] for place in used] for row in rows],
    )


def _smaller(plan: Plan) -> list[str]:
    """What a race of fewer sub-environments measured, if there was one."""
    found = smaller_race(plan)
    return _under(found[0], ("mode", "loop", "env steps/s", "vs sync"), found[1]) if found else []


def _under(heading: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"### {heading}", _table(headings, rows)] if rows else []


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings)]
    lines += [[_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """The text on one line, so that nothing in it is taken for Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", _line(text))


def _line(text: str) -> str:
    return " ".join(printable(text).split())


def _code(text: str) -> str:
    """The text as code, whatever backticks are in it."""
    text = _line(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"
