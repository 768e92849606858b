"""Renderings of a plan. Only here and on the command line is rich known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path
    from typing import TextIO

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from vecselect.plan import Plan
    from vecselect.run_stats import Stats

WIDTH = 80
"""Columns of the plain text."""


@dataclass(frozen=True)
class _Shown(ABC):
    """A plan that can be printed.

    Attributes:
        plan: The plan.
        stats: How a run after it has gone so far, if there is one.
    """

    plan: Plan
    stats: Stats | None = None

    def __str__(self) -> str:
        """Plain text, 80 columns wide, without colour."""
        from vecselect.report.terminal import plain

        return plain(self._rendered(), WIDTH)

    def print(self, file: TextIO) -> None:
        """Writes it to a stream: coloured on a terminal, plain in a pipe.

        Args:
            file: The stream. On a terminal `NO_COLOR`, `FORCE_COLOR` and `COLUMNS` are heeded;
                anything else gets 80 columns.
        """
        from vecselect.report.terminal import write

        write(self._rendered(), file)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich prints for it."""
        yield self._rendered()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows for it."""
        from vecselect.report.html import fragment

        return {"text/plain": str(self), "text/html": fragment(self.plan, self.stats)}

    @abstractmethod
    def _rendered(self) -> RenderableType:
        """It as something rich can print."""


class Details(_Shown):
    """All of a plan's evidence: `print(report.details)`."""

    def _rendered(self) -> RenderableType:
        from vecselect.report.content import content
        from vecselect.report.text import detailed

        return detailed(content(self.plan, self.stats))


class Report(_Shown):
    """A plan, rendered for people: `print(report)`, rich's consoles, notebooks, files.

    As text it has at most 16 lines: the verdict, the candidates, the notes and the pin.

    Attributes:
        plan: The plan.
        stats: How a run after it has gone so far, if there is one.
    """

    @property
    def details(self) -> Details:
        """The same with all of the evidence, to be printed."""
        return Details(self.plan, self.stats)

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

    def _rendered(self) -> RenderableType:
        from vecselect.report.content import content
        from vecselect.report.text import short

        return short(content(self.plan, self.stats))
