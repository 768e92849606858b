"""Renderings of a plan. Only here and on the command line is rich known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path
    from typing import TextIO

    from rich.console import Console, ConsoleOptions, RenderResult

    from vecselect.plan import Plan
    from vecselect.watching import Stats

WIDTH = 80
"""Columns of the plain text."""


@dataclass(frozen=True)
class Report:
    """A plan, rendered for people: `print(report)`, rich's consoles, notebooks, files.

    Attributes:
        plan: The plan.
        stats: How a run after it has gone so far, if there is one.
    """

    plan: Plan
    stats: Stats | None = None

    def __str__(self) -> str:
        """The report as plain text, 80 columns wide, without colour."""
        from vecselect.report import stream, text

        return stream.plain(text.render(self), WIDTH)

    def print(self, file: TextIO) -> None:
        """Writes the report to a stream: coloured on a terminal, plain in a pipe.

        Args:
            file: The stream. On a terminal `NO_COLOR`, `FORCE_COLOR` and `COLUMNS` are heeded;
                anything else gets 80 columns.
        """
        from vecselect.report import stream, text

        stream.write(text.render(self), file)

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the report as one HTML file that needs nothing else, with plots.

        Without matplotlib it has no plots, and says so.

        Args:
            path: The file. One that is there is replaced.

        Returns:
            The path.

        Raises:
            RequestError: If it cannot be written, or its name ends as another form's does.
        """
        return self._written(".html", path)

    def to_svg(self, path: str | PathLike[str]) -> Path:
        """Writes the report's plots as one SVG file; needs matplotlib. Otherwise as `to_html`."""
        return self._written(".svg", path)

    def to_markdown(self, path: str | PathLike[str]) -> Path:
        """Writes the report as Markdown, to be pasted into an issue. Otherwise as `to_html`."""
        return self._written(".md", path)

    def to_json(self, path: str | PathLike[str]) -> Path:
        """Writes the plan as JSON, as `Plan.from_json` reads it. Otherwise as `to_html`."""
        return self._written(".json", path)

    def _written(self, form: str, path: str | PathLike[str]) -> Path:
        from vecselect.report.outputs import write_as

        return write_as(self, form, path)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich prints for it."""
        from vecselect.report import stream, text

        yield stream.Printable(text.render(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows for it: the upper part of the HTML report."""
        from vecselect.report.html import fragment

        return {"text/plain": str(self), "text/html": fragment(self)}
