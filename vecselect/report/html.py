"""The report as one HTML file that needs nothing else, and its upper part for notebooks."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from vecselect.errors import RequestError
from vecselect.report.facts import break_even, so_far, what_would_change
from vecselect.report.html_parts import (
    answer,
    bars,
    candidate_table,
    definitions,
    escape,
    notes,
    section,
    smaller_table,
    table,
)
from vecselect.report.measurements import measurements

if TYPE_CHECKING:
    from vecselect.plan import Plan
    from vecselect.report import Report

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for the page, and run in it: styles that are in it, and nothing else."""


def page(report: Report) -> str:
    """The whole report as an HTML document.

    It holds no script and loads nothing. All that comes from the plan is escaped.
    """
    plan = report.plan
    title = escape(f"{plan.env} x {plan.num_envs}: {plan.mode}")
    parts = [
        _upper(report),
        section("One vector step taken apart", bars(plan)),
        _plots(plan),
        _changes(plan),
        _break_even(plan),
        _measurements(plan),
        _raw(plan),
        f"<footer>Made by vecselect on {escape(plan.created)}.</footer>",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>\n{_style()}</style>\n</head>\n"
        f'<body class="vecselect-page">\n<main class="vecselect">\n{body}\n</main>\n</body>\n'
        "</html>\n"
    )


def fragment(report: Report) -> str:
    """The upper part of the report, to be put into a page such as a notebook."""
    anatomy = section("One vector step taken apart", bars(report.plan))
    return (
        f'<div class="vecselect">\n<style>\n{_style()}</style>\n{_upper(report)}\n{anatomy}\n</div>'
    )


def _upper(report: Report) -> str:
    plan = report.plan
    parts = [
        answer(plan),
        notes(plan),
        section("Candidates", candidate_table(plan)),
        smaller_table(plan),
        section("This run so far", definitions(so_far(plan, report.stats))),
    ]
    return "\n".join(part for part in parts if part)


def _style() -> str:
    return resources.files("vecselect.report").joinpath("report.css").read_text(encoding="utf-8")


def _plots(plan: Plan) -> str:
    from vecselect.report.plots import missing_plots, plots_of

    texts, figures = missing_plots(plan), []
    plots = plots_of(plan)
    try:
        from vecselect.report.figures import svg
        from vecselect.report.plots import figure_of

        for plot in plots:
            image = svg(figure_of(plot), plot.title)
            figures.append(
                f"<figure>\n<h3>{escape(plot.title)}</h3>\n{image}"
                f"<figcaption>{escape(plot.caption)}</figcaption>\n</figure>"
            )
    except RequestError:  # matplotlib is not there
        names = ", ".join(plot.title for plot in plots)
        texts = [
            f"{names}: not drawn, since matplotlib is not installed; install it with "
            "pip install 'vecselect[plot]' and write the report again.",
            *texts,
        ]
    grid = f'<div class="vs-plots">\n{"".join(figures)}\n</div>' if figures else ""
    missing = "".join(f'<p class="vs-muted vs-small">{escape(text)}</p>' for text in texts)
    return section("Plots", grid + missing)


def _changes(plan: Plan) -> str:
    rows = what_would_change(plan)
    headings = ("if there were", "the model chooses", "throughput", "")
    return section("What would change the answer", table(headings, rows) if rows else "")


def _break_even(plan: Plan) -> str:
    return section("Break-even against the ~1 ms rule", definitions(break_even(plan)))


def _measurements(plan: Plan) -> str:
    groups = [
        f'<div class="vs-group"><h3>{escape(heading)}</h3>{definitions(rows)}</div>'
        for heading, rows in measurements(plan)
    ]
    nothing = "" if plan.profile else '<p class="vs-muted">The environment was not measured.</p>'
    return section("Measurements", nothing + f'<div class="vs-groups">{"".join(groups)}</div>')


def _raw(plan: Plan) -> str:
    # A list of numbers takes a line, not a line for each of them.
    text = re.sub(
        r"\[\n\s+([-+.\deE,\s]+?)\n\s+\]",
        lambda found: f"[{' '.join(found[1].split())}]",
        plan.to_json(),
    )
    return (
        "<details>\n<summary>The plan as JSON, with all its numbers</summary>\n"
        f'<pre class="vs-raw">{escape(text)}</pre>\n</details>'
    )
