"""A report as one HTML file that needs nothing else, and the same without plots for notebooks.

It holds no script and loads nothing. All that comes from a plan is escaped.
"""

from __future__ import annotations

import base64
import html
from importlib import resources
from typing import TYPE_CHECKING

from vecselect.errors import RequestError
from vecselect.report.plots import plan_plot, svg

if TYPE_CHECKING:
    from vecselect.plan import Plan
    from vecselect.report.content import Content, Row, Section
    from vecselect.report.plots import Plot

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page, and run in it: styles and pictures that are in it."""


def page(found: Content, plan: Plan) -> str:
    """What a report of a plan says, and its plot, as an HTML document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_escape(f'{found.what}: {found.chosen}')}</title>\n</head>\n"
        f'<body class="vecselect-page">\n{fragment(found, plan_plot(plan))}\n</body>\n</html>\n'
    )


def fragment(found: Content, plot: Plot | None = None) -> str:
    """A report to be put into a page such as a notebook, with a plot before its details.

    Without matplotlib it says in place of the plot what to install.
    """
    notes = [
        f'<div class="vs-note{" vs-loud" if note.loud else ""}"><code>{_escape(note.code)}</code>'
        f"<span>{_escape(note.text)}</span></div>"
        for note in found.notes
    ]
    details = "".join(f'<div class="vs-group">{_section(one)}</div>' for one in found.evidence)
    if details:
        details = (
            f'<details>\n<summary>Details</summary>\n<div class="vs-groups">{details}</div>\n'
            "</details>"
        )
    parts = [_answer(found), *notes, *map(_section, found.sections), _figure(plot), details]
    style = resources.files("vecselect.report").joinpath("report.css").read_text(encoding="utf-8")
    inner = "\n".join(part for part in parts if part)
    return f'<div class="vecselect">\n<style>\n{style}</style>\n{inner}\n</div>'


def _figure(plot: Plot | None) -> str:
    if plot is None:
        return ""
    try:
        picture = base64.b64encode(svg(plot).encode()).decode()
    except RequestError as error:  # matplotlib is not there
        return f'<p class="vs-muted">{_escape(str(error))}</p>'
    return (
        f"<figure>\n<h2>{_escape(plot.title)}</h2>\n"
        f'<img src="data:image/svg+xml;base64,{picture}" alt="{_escape(plot.title)}">\n'
        f"<figcaption>{_escape(plot.caption)}</figcaption>\n</figure>"
    )


def _escape(text: str) -> str:
    """The text so that it stands for itself in HTML, in attributes too."""
    return html.escape(text, quote=True)


def _answer(found: Content) -> str:
    """The choice, how sure it is, why, and how to pin it."""
    verdict = found.verdict[:1].upper() + found.verdict[1:]
    pin = _escape("\n".join(found.pin))
    paste = f'<pre class="vs-paste"><code>{pin}</code></pre>\n' if pin else ""
    return (
        f'<h1>{_escape(found.what)} <span class="vs-muted">on {_escape(found.where)}'
        '</span></h1>\n<div class="vs-answer">\n'
        f'<div class="vs-mode">{_escape(found.chosen)}</div>\n<p>{_escape(verdict)}.</p>\n'
        f"<p>{_escape(found.reason)}</p>\n{paste}</div>"
    )


def _section(section: Section) -> str:
    caption = f'<p class="vs-muted">{_escape(section.caption)}</p>' if section.caption else ""
    pairs = (
        f"<dt>{_escape(row.name)}</dt><dd>{_escape(row.cells[0])}</dd>\n" for row in section.rows
    )
    inner = _table(section) if section.columns else f"<dl>\n{''.join(pairs)}</dl>"
    return f"<section>\n<h2>{_escape(section.heading)}</h2>\n{inner}\n{caption}</section>"


def _table(section: Section) -> str:
    """A table; where the window is narrow a list of cards."""
    first, *names = section.columns
    head = "".join(f'<th scope="col">{_escape(name)}</th>' for name in names)
    body = "\n".join(_row(row, names) for row in section.rows)
    return (
        f'<table><thead><tr><th scope="col">{_escape(first)}</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table>"
    )


def _row(row: Row, names: list[str]) -> str:
    """A row; why it could not be chosen takes the place of its figures, or a row below them."""
    start = (
        f'<tr{" class=vs-chosen" if row.chosen else ""}><th scope="row">{_escape(row.name)}</th>'
    )
    cells = "".join(
        f'<td data-label="{_escape(name)}">{_escape(cell)}</td>'
        for name, cell in zip(names, row.cells, strict=False)
    )
    why = f'<td class="vs-why" colspan="{len(names)}">not chosen: {_escape(row.remark)}</td>'
    if not row.cells:
        return f"{start}{why}</tr>"
    below = f"</tr>\n<tr><th></th>{why}" if row.remark else ""
    return f"{start}{cells}{below}</tr>"
