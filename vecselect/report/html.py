"""A report as one HTML file that needs nothing else, and its upper part for notebooks.

It holds no script and loads nothing. All that comes from a plan is escaped.
"""

from __future__ import annotations

import base64
import html
import re
from importlib import resources
from typing import TYPE_CHECKING

from vecselect.errors import RequestError
from vecselect.report.content import PARTS, Bars, Facts, Table, content
from vecselect.report.plots import missing_plots, plots_of, svg, sweep_figure, sweep_title

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from vecselect.plan import Plan
    from vecselect.report.content import Bar, Content, Row
    from vecselect.report.evidence import Rows
    from vecselect.run_stats import Stats
    from vecselect.sweeps import Sweep

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page, and run in it: styles and pictures that are in it."""

PART_COLOURS = dict(
    zip(PARTS.values(), ("#4a90d9", "#e8a020", "#d1495b", "#2a9d8f", "#8d99a6"), strict=True)
)


def page(plan: Plan, stats: Stats | None = None) -> str:
    """The whole report of a plan as an HTML document.

    Without matplotlib it has no plots, and says so.
    """
    found = content(plan, stats)
    groups = "".join(
        f'<div class="vs-group"><h3>{_escape(one.heading)}</h3>{_definitions(one.rows)}</div>'
        for one in found.evidence
    )
    body = [
        _upper(found),
        _section("Plots", _plots(plan)),
        _section("Evidence", f'<div class="vs-groups">{groups}</div>'),
        _raw(plan),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_escape(f'{found.what}: {found.chosen}')}</title>\n"
        f"<style>\n{_style()}</style>\n</head>\n"
        f'<body class="vecselect-page">\n<main class="vecselect">\n{_joined(body)}\n</main>\n'
        "</body>\n</html>\n"
    )


def fragment(found: Content, picture: str = "") -> str:
    """The upper part of a report, to be put into a page such as a notebook.

    Args:
        found: What it says.
        picture: HTML to put below it.
    """
    upper = _joined([_upper(found), picture])
    return f'<div class="vecselect">\n<style>\n{_style()}</style>\n{upper}\n</div>'


def picture(draw: Callable[[], Figure], title: str) -> str:
    """A figure as an image that is light or dark as the reader prefers.

    Args:
        draw: Draws the figure.
        title: What it shows, for those who cannot see it.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    dark, light = (
        f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"
        for text in (svg(draw, title, dark=True), svg(draw, title))
    )
    return (
        f'<picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_escape(title)}"></picture>'
    )


def sweep_picture(sweep: Sweep) -> str:
    """The plot of a sweep; nothing where matplotlib is not installed."""
    try:
        return picture(lambda: sweep_figure(sweep), sweep_title(sweep))
    except RequestError:
        return ""


def _escape(text: str) -> str:
    """The text so that it stands for itself in HTML, in attributes too."""
    return html.escape(text, quote=True)


def _joined(parts: list[str]) -> str:
    return "\n".join(part for part in parts if part)


def _style() -> str:
    return resources.files("vecselect.report").joinpath("report.css").read_text(encoding="utf-8")


def _section(heading: str, inner: str) -> str:
    return f"<section>\n<h2>{_escape(heading)}</h2>\n{inner}\n</section>"


def _upper(found: Content) -> str:
    notes = [
        f'<div class="vs-note{" vs-loud" if note.loud else ""}"><code>{_escape(note.code)}</code>'
        f"<span>{_escape(note.text)}</span></div>"
        for note in found.notes
    ]
    sections = [_section(one.heading, _inner(one)) for one in found.sections]
    return _joined([_answer(found), *notes, *sections])


def _answer(found: Content) -> str:
    """The choice, how sure it is, why, and how to pin it."""
    sure = found.sure[:1].upper() + found.sure[1:]
    pin = _escape("\n".join(found.pin))
    paste = f'<pre class="vs-paste"><code>{pin}</code></pre>\n' if pin else ""
    return (
        f'<h1>{_escape(found.what)} <span class="vs-muted vs-small">on {_escape(found.where)}'
        '</span></h1>\n<div class="vs-answer">\n'
        f'<div class="vs-mode">{_escape(found.chosen)}</div>\n<p>{_escape(sure)}.</p>\n'
        f"<p>{_escape(found.reason)}</p>\n{paste}</div>"
    )


def _inner(section: Table | Bars | Facts) -> str:
    """What is under a section's heading."""
    if isinstance(section, Facts):
        return _definitions(section.rows)
    return _bars(section) if isinstance(section, Bars) else _table(section)


def _definitions(rows: Rows) -> str:
    pairs = "".join(f"<dt>{_escape(name)}</dt><dd>{_escape(text)}</dd>\n" for name, text in rows)
    return f"<dl>\n{pairs}</dl>"


def _table(section: Table) -> str:
    """A table; where the window is narrow a list of cards."""
    first, *names = section.columns
    head = "".join(f'<th scope="col" class="vs-number">{_escape(name)}</th>' for name in names)
    body = "\n".join(_row(row, names) for row in section.rows)
    return (
        '<div class="vs-scroll"><table class="vs-stack"><thead><tr>'
        f'<th scope="col">{_escape(first)}</th>{head}<th scope="col"></th></tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(row: Row, names: list[str]) -> str:
    start = '<tr class="vs-chosen">' if row.chosen else "<tr>"
    start += f'<th scope="row">{_escape(row.name)}</th>'
    remark = _escape(row.remark)
    if not row.cells:  # of a mode without figures only the reason is worth a place
        return f'{start}<td class="vs-skipped" colspan="{len(names) + 1}">{remark}</td></tr>'
    cells = ""
    for place, (name, cell) in enumerate(zip(names, row.cells, strict=True)):
        text = f"<strong>{_escape(cell)}</strong>" if place == row.best else _escape(cell)
        cells += f'<td class="vs-number" data-label="{_escape(name)}">{text}</td>'
    return f"{start}{cells}<td>{remark}</td></tr>"


def _bars(section: Bars) -> str:
    """All to one scale, each with its numbers below."""
    present = {part.name for bar in section.bars for part in bar.parts}
    legend = "".join(
        f'<span><i class="vs-swatch" style="background: {colour}"></i>{name}</span>'
        for name, colour in PART_COLOURS.items()
        if name in present
    )
    bars = "\n".join(map(_bar, section.bars))
    return f'<div class="vs-legend">{legend}</div>\n<div class="vs-bars">\n{bars}\n</div>'


def _bar(bar: Bar) -> str:
    pieces = "".join(
        f'<i style="width: {97 * (part.end - part.start):.2f}%; '
        f'background: {PART_COLOURS[part.name]}"></i>'
        for part in bar.parts
    )
    mark = '<span class="vs-cut" title="longer than there is room for">&raquo;</span>'
    numbers = ", ".join(f"{part.name} {part.text}" for part in bar.parts)
    return (
        f"<strong>{_escape(bar.name)}</strong><span>{_escape(bar.total)}</span>"
        f'<div><div class="vs-bar">{pieces}{mark if bar.cut else ""}</div>'
        f'<div class="vs-muted vs-small">{_escape(numbers)}</div></div>'
    )


def _plots(plan: Plan) -> str:
    texts, figures = missing_plots(plan), ""
    try:
        for plot in plots_of(plan):
            figures += (
                f"<figure>\n<h3>{_escape(plot.title)}</h3>\n{picture(plot.figure, plot.title)}"
                f"<figcaption>{_escape(plot.caption)}</figcaption>\n</figure>"
            )
    except RequestError as error:  # matplotlib is not there
        texts = [str(error), *texts]
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
