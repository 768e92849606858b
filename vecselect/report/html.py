"""The report as one HTML file that needs nothing else, and its upper part for notebooks.

It holds no script and loads nothing. All that comes from a plan is escaped.
"""

from __future__ import annotations

import html
import re
from importlib import resources
from typing import TYPE_CHECKING

from vecselect.errors import RequestError
from vecselect.report.bars import PARTS
from vecselect.report.content import content
from vecselect.report.figures import DARK, LIGHT, image, look_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from vecselect.plan import Plan
    from vecselect.report.bars import Bar
    from vecselect.report.content import Content, Row
    from vecselect.report.details import Rows
    from vecselect.report.figures import Palette
    from vecselect.run_stats import Stats

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page, and run in it: styles and pictures that are in it."""

PART_COLOURS = {
    "stepping": "#4a90d9",
    "stragglers": "#e8a020",
    "hand-off": "#d1495b",
    "copying": "#2a9d8f",
    "loop": "#8d99a6",
}


def page(plan: Plan, stats: Stats | None = None) -> str:
    """The whole report as an HTML document."""
    found = content(plan, stats)
    title = _escape(f"{found.verdict.what}: {found.verdict.mode}")
    groups = "".join(
        f'<div class="vs-group"><h3>{_escape(group.heading)}</h3>{_definitions(group.rows)}</div>'
        for group in found.groups
    )
    nothing = "" if plan.evidence.profile else '<p class="vs-muted">Nothing was measured.</p>'
    body = [
        _upper(found),
        _section("Plots", _plots(plan)),
        _section("Evidence", f'{nothing}<div class="vs-groups">{groups}</div>'),
        _raw(plan),
        f"<footer>Made by vecselect on {_escape(found.created)}.</footer>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>\n{_style()}</style>\n</head>\n"
        f'<body class="vecselect-page">\n<main class="vecselect">\n{_joined(body)}\n</main>\n'
        "</body>\n</html>\n"
    )


def fragment(plan: Plan, stats: Stats | None = None) -> str:
    """The upper part of the report, to be put into a page such as a notebook."""
    upper = _upper(content(plan, stats))
    return f'<div class="vecselect">\n<style>\n{_style()}</style>\n{upper}\n</div>'


def picture(draw: Callable[[Palette], Figure], title: str) -> str:
    """A figure as an image that is light or dark as the reader prefers.

    Args:
        draw: Draws the figure in a palette.
        title: What it shows, for those who cannot see it.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    dark, light = (image(draw(palette), palette, title) for palette in (DARK, LIGHT))
    return (
        f'<picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_escape(title)}"></picture>'
    )


def _escape(text: str) -> str:
    """The text so that it stands for itself in HTML, in attributes too."""
    return html.escape(text, quote=True)


def _joined(parts: list[str]) -> str:
    return "\n".join(part for part in parts if part)


def _style() -> str:
    return resources.files("vecselect.report").joinpath("report.css").read_text(encoding="utf-8")


def _section(heading: str, inner: str) -> str:
    return f"<section>\n<h2>{_escape(heading)}</h2>\n{inner}\n</section>" if inner else ""


def _definitions(rows: Rows) -> str:
    pairs = "".join(f"<dt>{_escape(name)}</dt><dd>{_escape(text)}</dd>\n" for name, text in rows)
    return f"<dl>\n{pairs}</dl>" if rows else ""


def _upper(found: Content) -> str:
    notes = [
        f'<div class="vs-note{" vs-loud" if note.loud else ""}"><code>{_escape(note.code)}</code>'
        f"<span>{_escape(note.text)}</span></div>"
        for note in found.notes
    ]
    return _joined(
        [
            _answer(found),
            *notes,
            _section("Candidates", _table(found)),
            _section("This run so far", _definitions(found.so_far)),
            _section("One vector step taken apart", _bars(found.bars)),
        ]
    )


def _answer(found: Content) -> str:
    """The choice, how much faster it is, how sure that is, and how to pin it."""
    verdict, pin = found.verdict, found.pin
    gain = threads = ""
    if verdict.gain:
        gain = (
            f'<span><span class="vs-faster">{_escape(verdict.gain)}</span> '
            f'<span class="vs-muted">({_escape(verdict.about_gain)})</span></span>'
        )
    if verdict.threads:
        threads = f' <span class="vs-faster">{_escape(verdict.threads)}</span>'
    lines = [pin.call, f"{pin.collecting}  # around the steps of a rollout"]
    code = "\n".join(lines if pin.collecting else lines[:1])
    sure = verdict.sure[:1].upper() + verdict.sure[1:]
    return (
        f'<h1>{_escape(verdict.what)} <span class="vs-muted vs-small">on {_escape(verdict.cores)}'
        '</span></h1>\n<div class="vs-answer">\n<div class="vs-big"><span>'
        f'<span class="vs-mode">{_escape(verdict.mode)}</span>{threads}</span>{gain}</div>\n'
        f"<p>{_escape(sure)}.</p>\n<p>{_escape(verdict.reason)}</p>\n"
        f'<pre class="vs-paste"><code>{_escape(code)}</code></pre>\n<p class="vs-muted vs-small">'
        f"or, for any program: <code>{_escape(pin.variable)}</code></p>\n</div>"
    )


def _table(found: Content) -> str:
    """The candidates; where the window is narrow a list of cards."""
    rows = found.candidates
    mode, *headings = found.headings if any(any(row.cells) for row in rows) else ("mode",)
    head = "".join(f'<th scope="col" class="vs-number">{_escape(one)}</th>' for one in headings)
    body = "\n".join(_row(row, headings) for row in rows)
    return (
        '<div class="vs-scroll"><table class="vs-stack"><thead><tr>'
        f'<th scope="col">{_escape(mode)}</th>{head}<th scope="col"></th></tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
        if rows
        else ""
    )


def _row(row: Row, headings: list[str]) -> str:
    start = '<tr class="vs-chosen">' if row.chosen else "<tr>"
    start += f'<th scope="row">{_escape(row.name)}</th>'
    remark = row.remark
    if not any(row.cells):  # of a mode without figures only the reason is worth a place
        span = len(headings) + 1
        return f'{start}<td class="vs-skipped" colspan="{span}">{_escape(remark)}</td></tr>'
    meter = (
        f'<span class="vs-meter"><i style="width: {100 * row.share:.1f}%; '
        f'background: {look_of(row.mode)[0]}"></i></span>'
    )
    cells = "".join(
        f'<td class="vs-number" data-label="{_escape(heading)}">{_escape(cell)}'
        f"{meter if place == 1 and row.share else ''}</td>"
        for place, (heading, cell) in enumerate(zip(headings, row.cells, strict=True))
    )
    return f"{start}{cells}<td>{_escape(remark)}</td></tr>"


def _bars(bars: tuple[Bar, ...]) -> str:
    """All to one scale, each with its numbers below."""
    if not bars:
        return ""
    present = {part.name for bar in bars for part in bar.parts}
    legend = "".join(
        f'<span><i class="vs-swatch" style="background: {PART_COLOURS[name]}"></i>{name}</span>'
        for name in PARTS.values()
        if name in present
    )
    return (
        '<p class="vs-muted vs-small">As the cost model predicts them, learner not included.</p>\n'
        f'<div class="vs-legend">{legend}</div>\n<div class="vs-bars">\n'
        + "\n".join(map(_bar, bars))
        + "\n</div>"
    )


def _bar(bar: Bar) -> str:
    pieces = "".join(
        f'<i style="width: {97 * (part.end - part.start):.2f}%; '
        f'background: {PART_COLOURS[part.name]}"></i>'
        for part in bar.parts
    )
    mark = '<span class="vs-cut" title="longer than there is room for">&raquo;</span>'
    numbers = ", ".join(f"{part.name} {part.text}" for part in bar.parts)
    return (
        f"<strong>{_escape(bar.mode)}</strong><span>{_escape(bar.total)}</span>"
        f'<div><div class="vs-bar">{pieces}{mark if bar.cut else ""}</div>'
        f'<div class="vs-muted vs-small">{_escape(numbers)}</div></div>'
    )


def _plots(plan: Plan) -> str:
    from vecselect.report.plots import figure_of, missing_plots, plots_of

    texts, figures, plots = missing_plots(plan), "", plots_of(plan)
    try:
        for plot in plots:
            shown = picture(lambda palette, plot=plot: figure_of(plot, palette), plot.title)  # type: ignore[misc]
            figures += (
                f"<figure>\n<h3>{_escape(plot.title)}</h3>\n{shown}"
                f"<figcaption>{_escape(plot.caption)}</figcaption>\n</figure>"
            )
    except RequestError:  # matplotlib is not there
        names = ", ".join(plot.title for plot in plots)
        texts = [
            f"{names}: not drawn, since matplotlib is not installed; install it with "
            "pip install 'vecselect[plot]' and write the report again.",
            *texts,
        ]
    missing = "".join(f'<p class="vs-muted vs-small">{_escape(text)}</p>' for text in texts)
    return (f'<div class="vs-plots">\n{figures}\n</div>' if figures else "") + missing


def _raw(plan: Plan) -> str:
    # A list of numbers takes a line, not a line for each of them.
    text = re.sub(
        r"\[\n\s+([-+.\deE,\s]+?)\n\s+\]",
        lambda found: f"[{' '.join(found[1].split())}]",
        plan.to_json(),
    )
    return (
        "<details>\n<summary>The plan as JSON, with all its numbers</summary>\n"
        f'<pre class="vs-raw">{_escape(text)}</pre>\n</details>'
    )
