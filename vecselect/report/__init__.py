"""Renderings of a plan. Only here and on the command line is rich known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console, ConsoleOptions, RenderResult

    from vecselect.plan import Plan
    from vecselect.watching import Stats

WIDTH = 80
"""Columns of the plain text, and of the report in notebooks."""


@dataclass(frozen=True)
class Report:
    """A plan, rendered for people: `print(report)`, rich's consoles, notebooks.

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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich prints for it."""
        from vecselect.report.text import render

        yield render(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows for it."""
        from vecselect.report import stream, text

        return {"text/plain": str(self), "text/html": stream.html(text.render(self), WIDTH)}
