"""Parts of the HTML report: each is a piece of HTML, with all that comes from the plan escaped."""

from __future__ import annotations

import dataclasses
import html
from typing import TYPE_CHECKING

from vecselect.printable import printable
from vecselect.report.bars import LONGEST, VISIBLE, shown_forecasts
from vecselect.report.facts import candidates, faster, how_sure, pins, smaller_race
from vecselect.report.figures import colour_of
from vecselect.report.units import seconds, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecselect.plan import Plan
    from vecselect.report.facts import CandidateRow
    from vecselect.selection.estimate import Forecast

PARTS = {
    "stepping_s": ("stepping", "#4a90d9"),
    "stragglers_s": ("stragglers", "#e8a020"),
    "hand_off_s": ("hand-off", "#d1495b"),
    "infos_s": ("infos", "#9b6bcc"),
    "copying_s": ("copying", "#2a9d8f"),
    "loop_s": ("loop", "#8d99a6"),
}
"""By the name in `Parts`: a word and a colour."""

RATE = 3
"""Where the throughput stands among a candidate's figures."""

LEAST_S = 5e-10
"""A part that is shorter comes from rounding."""


def escape(text: str) -> str:
    """The text so that it stands for itself in HTML, in attributes too."""
    return html.escape(printable(text), quote=True)


def section(heading: str, content: str) -> str:
    """Content under a heading, or nothing where there is no content."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>" if content else ""


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A small table of words; the first of each row is its name."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(map(_cell, headings[1:], others))
        + "</tr>"
        for first, *others in rows
    )
    return _table(head, body)


def _cell(heading: str, text: str) -> str:
    label = f' data-label="{escape(heading)}"' if heading else ""
    return f"<td{label}>{escape(text)}</td>"


def _table(head: str, body: str) -> str:
    """A table that is a list of cards where the window is narrow."""
    return (
        f'<div class="vs-scroll"><table class="vs-stack"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def definitions(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what they are, or nothing where there are none."""
    if not rows:
        return ""
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>\n" for name, text in rows)
    return f"<dl>\n{pairs}</dl>"


def answer(plan: Plan) -> str:
    """The choice, how much faster it is, how sure that is, and how to pin it."""
    cores = f"{plan.machine.cores:g} usable cores"
    found = faster(plan)
    gain = ""
    if found is not None:
        number, about = found
        gain = (
            f'<span><span class="vs-faster">{escape(number)} sync</span> '
            f'<span class="vs-muted">({escape(about)})</span></span>'
        )
    call, variable = pins(plan)
    return (
        f"<h1>{escape(plan.env)} &times; {plan.num_envs} "
        f'<span class="vs-muted vs-small">on {escape(cores)}</span></h1>\n'
        f'<div class="vs-answer">\n<div class="vs-big">'
        f'<span class="vs-mode">{escape(plan.mode)}</span>{gain}</div>\n'
        f"<p>{escape(how_sure(plan))}</p>\n"
        f"<p>{escape(plan.reason)}</p>\n"
        f'<pre class="vs-paste"><code>{escape(call)}</code></pre>\n'
        f'<p class="vs-muted vs-small">or, for any program: <code>{escape(variable)}</code></p>\n'
        "</div>"
    )


def notes(plan: Plan) -> str:
    """What else the reader should know, with codes."""
    return "\n".join(
        f'<div class="vs-note{" vs-loud" if note.loud else ""}"><code>{escape(note.code)}</code>'
        f"<span>{escape(note.text)}</span></div>"
        for note in plan.notes
    )


def candidate_table(plan: Plan) -> str:
    """Every candidate with its figures, or why it was skipped."""
    rows = candidates(plan)
    if not rows:
        return ""
    step = "loop" if plan.learner_s > 0 else "vector step"
    headings = (
        f"{step}, predicted",
        "vs sync",
        f"{step}, measured",
        "env steps/s",
        "vs sync",
    )
    cells = list(map(_cells, rows))
    shown = [
        (heading, place)
        for place, heading in enumerate(headings)
        if any(row[place] for row in cells)
    ]
    most = max(row.env_steps_per_s for row in rows)
    head = "".join(
        f'<th scope="col" class="vs-number">{escape(heading)}</th>' for heading, _ in shown
    )
    body = "\n".join(_candidate(row, shown, most) for row in rows)
    return _table(f'<th scope="col">mode</th>{head}<th scope="col"></th>', body)


def smaller_table(plan: Plan) -> str:
    """What a race of fewer sub-environments measured, if there was one."""
    found = smaller_race(plan)
    if found is None:
        return ""
    caption, rows = found
    step = "loop" if plan.learner_s > 0 else "vector step"
    return section(caption, table(("mode", step, "env steps/s", "vs sync"), rows))


def _cells(row: CandidateRow) -> tuple[str, ...]:
    """What of a row stands in columns of figures."""
    return (row.predicted, row.predicted_against_sync, row.measured, row.rate, row.against_sync)


def _candidate(row: CandidateRow, shown: list[tuple[str, int]], most: float) -> str:
    name = f'<th scope="row">{escape(row.mode)}</th>'
    start = '<tr class="vs-chosen">' if row.chosen else "<tr>"
    if not row.env_steps_per_s:
        # Of a mode without figures only the reason is worth a place.
        remark = f'<td class="vs-skipped" colspan="{len(shown) + 1}">{escape(row.remark)}</td>'
        return f"{start}{name}{remark}</tr>"
    cells = _cells(row)
    width = 100 * row.env_steps_per_s / most
    meter = (
        '<span class="vs-meter"><i style="width: '
        f'{width:.1f}%; background: {colour_of(row.mode)}"></i></span>'
    )
    return (
        start
        + name
        + "".join(
            f'<td class="vs-number" data-label="{escape(heading)}">{escape(cells[place])}'
            f"{meter if place == RATE else ''}</td>"
            for heading, place in shown
        )
        + f"<td>{escape(row.remark)}</td></tr>"
    )


def bars(plan: Plan) -> str:
    """A vector step of the candidates that matter taken apart; nothing without a model.

    All bars are to one scale; one that is too long for it is cut off, with a mark.
    """
    forecasts = shown_forecasts(plan)
    if not forecasts:
        return ""
    longest_s = max(forecast.vector_step_s.mid for forecast in forecasts)
    scale_s = min(longest_s, forecasts[0].vector_step_s.mid * LONGEST) or 1.0
    legend = "".join(
        f'<span><i class="vs-swatch" style="background: {colour}"></i>{escape(word)}</span>'
        for name, (word, colour) in PARTS.items()
        if any(_share(forecast, name) >= VISIBLE for forecast in forecasts)
    )
    rows = "\n".join(
        f"<strong>{escape(forecast.mode)}</strong><span>{seconds(forecast.vector_step_s.mid)}"
        f"</span>{_bar(forecast, scale_s)}"
        for forecast in forecasts
    )
    present = [
        name
        for name in PARTS
        if any(getattr(forecast.parts, name) >= LEAST_S for forecast in forecasts)
    ]
    numbers = table(
        ("", *(PARTS[name][0] for name in present)),
        [(forecast.mode, *(_number(forecast, name) for name in present)) for forecast in forecasts],
    )
    return (
        '<p class="vs-muted vs-small">As the cost model predicts them, learner not included.</p>'
        "\n"
        f'<div class="vs-legend">{legend}</div>\n<div class="vs-bars">\n{rows}\n</div>\n'
        f'<div class="vs-small">{numbers}</div>'
    )


def _share(forecast: Forecast, name: str) -> float:
    whole_s = forecast.vector_step_s.mid
    return getattr(forecast.parts, name) / whole_s if whole_s > 0 else 0.0


def _number(forecast: Forecast, name: str) -> str:
    value_s = getattr(forecast.parts, name)
    return f"{seconds(value_s)} ({share(_share(forecast, name))})" if value_s >= LEAST_S else "-"


def _bar(forecast: Forecast, scale_s: float) -> str:
    assert forecast.parts is not None, "others are not shown"
    pieces, end, room = [], 0.0, 97.0
    for name, value_s in dataclasses.asdict(forecast.parts).items():
        word, colour = PARTS[name]
        width = min(room * value_s / scale_s, room - end)
        if width > 0:
            end += width
            pieces.append(
                f'<i style="width: {width:.2f}%; background: {colour}" '
                f'title="{escape(word)}: {seconds(value_s)}"></i>'
            )
    cut = forecast.vector_step_s.mid > scale_s * 1.001
    mark = '<span class="vs-cut" title="longer than there is room for">&raquo;</span>'
    return f'<div class="vs-bar">{"".join(pieces)}{mark if cut else ""}</div>'
