"""Reports: plans and sweeps shown to people, and written to files.

    plan, stats --> Report --.                        .--> text      terminals, pipes
                              >--> content.Content --+---> html      pages, notebooks
    sweep --> SweepReport ---'                        '--> markdown  issues

rich and matplotlib are known only here and on the command line, and are loaded when
something is shown.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from vecselect.plan import Plan
    from vecselect.report.text import Shown
    from vecselect.run_stats import Stats
    from vecselect.sweeps import Sweep

REPORT_FILES = (".html", ".md", ".json")
"""Endings of the files that a report can be saved to."""

PLOT_FILES = (".svg", ".png")
"""Endings of plots."""

SWEEP_FILES = (".json", *PLOT_FILES)
"""Endings of the files that a report on a sweep can be saved to."""


@dataclass(frozen=True)
class Report:
    """A plan, rendered for people: `print(report)`, notebooks, files.

    As text it has at most 16 lines: the verdict, the candidates, the notes and the pin.

    Attributes:
        plan: The plan.
        stats: How a run after it has gone so far, if there is one.
    """

    plan: Plan
    stats: Stats | None = None

    def __str__(self) -> str:
        """Plain text, 80 columns wide, without colour."""
        return str(self._short())

    def print(self, file: TextIO) -> None:
        """Writes it to a stream: coloured on a terminal, plain and 80 columns wide in a pipe.

        On a terminal `NO_COLOR`, `FORCE_COLOR` and `COLUMNS` are heeded.
        """
        self._short().print(file)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows for it."""
        return self._short()._repr_mimebundle_(include, exclude)

    @property
    def details(self) -> Shown:
        """The same with all of the evidence: `print(report.details)`."""
        from vecselect.report.content import content
        from vecselect.report.text import Shown

        return Shown(content(self.plan, self.stats))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the report to a file, in the form that the file's ending says.

        Args:
            path: The file: `.html` for a page that needs nothing else, with plots where matplotlib
                is installed; `.md` for an issue; `.json` for `Plan.from_json`. One that is there is
                replaced.

        Returns:
            The path.

        Raises:
            RequestError: If it ends otherwise, or cannot be written.
        """
        from vecselect.report.html import page
        from vecselect.report.markdown import markdown

        forms: dict[str, Callable[[], str]] = {
            ".html": lambda: page(self.plan, self.stats),
            ".md": lambda: markdown(self.details.content),
            ".json": lambda: self.plan.to_json() + "\n",
        }
        text = forms[check_file(path, "report", REPORT_FILES)]()
        return write_file(path, "report", text.encode("utf-8", "replace"))

    def _short(self) -> Shown:
        from vecselect.report.text import MOST_LINES, Shown

        return Shown(self.details.content, MOST_LINES)


@dataclass(frozen=True)
class SweepReport:
    """A sweep, rendered for people: `print(SweepReport(sweep))`, notebooks, files.

    Attributes:
        sweep: The sweep.
    """

    sweep: Sweep

    def __str__(self) -> str:
        """The tables as plain text, at most 80 columns wide, without colour."""
        return str(self._shown())

    def print(self, file: TextIO) -> None:
        """Writes the tables to a stream, as `Report.print` does."""
        self._shown().print(file)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows for it: the tables, and a plot where matplotlib is installed."""
        from vecselect.report.html import sweep_fragment

        shown = self._shown()
        return {"text/plain": str(shown), "text/html": sweep_fragment(shown.content, self.sweep)}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the sweep to a file: as JSON, or as a plot.

        Args:
            path: Ends in `.json` (for `Sweep.from_json`), or for the plot in `.svg` or `.png`. A
                file that is there is replaced.

        Returns:
            The path.

        Raises:
            RequestError: If it ends otherwise, a plot is wanted and matplotlib is not installed, or
                it cannot be written.
        """
        from vecselect.report.plots import png, svg, sweep_figure, sweep_title

        draw = partial(sweep_figure, self.sweep)
        forms: dict[str, Callable[[], bytes]] = {
            ".json": lambda: (self.sweep.to_json() + "\n").encode(),
            ".svg": lambda: svg(draw, sweep_title(self.sweep)).encode(),
            ".png": lambda: png(draw),
        }
        return write_file(path, "sweep", forms[check_file(path, "sweep", SWEEP_FILES)]())

    def _shown(self) -> Shown:
        from vecselect.report.content import sweep_content
        from vecselect.report.text import Shown

        return Shown(sweep_content(self.sweep))


def check_file(path: str | os.PathLike[str], what: str, endings: Sequence[str]) -> str:
    """The ending of a file, in lower case, after checking that it can be written.

    Raises `RequestError` if the ending is none of these, the folder is not there or cannot be
    written to, or a plot is wanted and matplotlib is not installed.
    """
    found = Path(path)
    ending, folder = found.suffix.lower(), found.parent
    if ending not in endings:
        raise RequestError(
            f"A {what} cannot be written as {str(path)!r}: choose a name that ends in "
            f"{', '.join(endings[:-1])} or {endings[-1]}."
        )
    if found.is_dir():
        raise _cannot(what, found, "it is a folder; name a file in it")
    if not folder.is_dir():
        raise _cannot(what, found, f"there is no folder {folder}; make it, or name another")
    if not os.access(found if found.exists() else folder, os.W_OK):
        raise _cannot(what, found, "it is not writable; name another place")
    if ending in PLOT_FILES:
        from vecselect.report.plots import styled

        with styled():  # says what to install where matplotlib is not there
            pass
    return ending


def write_file(path: str | os.PathLike[str], what: str, content: bytes) -> Path:
    """Writes a file that `check_file` has let pass; raises `RequestError` where it cannot be."""
    found = Path(path)
    try:
        found.write_bytes(content)
    except OSError as error:
        raise _cannot(what, found, f"{error.strerror or error}; name another place") from error
    return found


def _cannot(what: str, path: Path, why: str) -> RequestError:
    return RequestError(f"The {what} cannot be written to {str(path)!r}: {why}.")
