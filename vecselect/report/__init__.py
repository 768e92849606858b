"""Reports: plans and sweeps shown to people, and written to files.

    plan, stats --> Report --.                        .--> text      terminals, pipes
                              >--> content.Content --+---> html      pages, notebooks
    sweep -------------------'                        '--> markdown  issues

`Plan.report` is a convenience that makes a `Report`; nothing here needs more of a plan than its
values. rich and matplotlib are known only here and on the command line, and are loaded when
something is shown.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console, ConsoleOptions, RenderResult

    from vecselect.plan import Plan
    from vecselect.report.text import Shown
    from vecselect.run_stats import Stats

METHODS = {".html": "to_html", ".svg": "to_svg", ".md": "to_markdown", ".json": "to_json"}
"""By the ending of a file: the method of `Report` that writes such a one."""


@dataclass(frozen=True)
class Report:
    """A plan, rendered for people: `print(report)`, rich's consoles, notebooks, files.

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
        """Writes it to a stream: coloured on a terminal, plain in a pipe.

        Args:
            file: The stream. On a terminal `NO_COLOR`, `FORCE_COLOR` and `COLUMNS` are heeded;
                anything else gets 80 columns.
        """
        self._short().print(file)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich prints for it."""
        yield self._short()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows for it."""
        return self._short()._repr_mimebundle_(include, exclude)

    @property
    def details(self) -> Shown:
        """The same with all of the evidence: `print(report.details)`."""
        from vecselect.report.content import content
        from vecselect.report.text import Shown

        return Shown(content(self.plan, self.stats))

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Writes the report as one HTML file that needs nothing else, with plots.

        Without matplotlib it has no plots, and says so.

        Args:
            path: The file. One that is there is replaced.

        Returns:
            The path.

        Raises:
            RequestError: If it cannot be written, or its name ends as another form's does.
        """
        return self._write(".html", path)

    def to_svg(self, path: str | os.PathLike[str]) -> Path:
        """Writes the report's plots as one SVG file; needs matplotlib. Otherwise as `to_html`."""
        return self._write(".svg", path)

    def to_markdown(self, path: str | os.PathLike[str]) -> Path:
        """Writes the report as Markdown, to be pasted into an issue. Otherwise as `to_html`."""
        return self._write(".md", path)

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Writes the plan as JSON, as `Plan.from_json` reads it. Otherwise as `to_html`."""
        return self._write(".json", path)

    def _short(self) -> Shown:
        from vecselect.report.text import MOST_LINES, Shown

        return Shown(self.details.content, MOST_LINES)

    def _write(self, form: str, path: str | os.PathLike[str]) -> Path:
        found = Path(path)
        ending = found.suffix.lower()
        if ending in METHODS and ending != form:
            raise RequestError(
                f"{METHODS[form]} writes {form}, and {str(path)!r} ends in {ending}: call "
                f"{METHODS[ending]}, or choose a name that ends in {form}."
            )
        text = self._text(form).encode("utf-8", "replace")
        try:
            found.write_bytes(text)
        except OSError as error:
            why = f"{error.strerror or error}; name another place"
            raise _cannot("report", found, why) from error
        return found

    def _text(self, form: str) -> str:
        if form == ".html":
            from vecselect.report.html import page

            return page(self.plan, self.stats)
        if form == ".svg":
            from vecselect.report.plots import headline, sheet_of, svg

            return svg(lambda: sheet_of(self.plan), headline(self.plan))
        if form == ".md":
            from vecselect.report.markdown import markdown

            return markdown(self.plan, self.stats)
        return self.plan.to_json() + "\n"


def check_output(path: str | os.PathLike[str]) -> Path:
    """Checks, before anything is measured, that a report can be written to a file.

    Raises:
        RequestError: If the ending is none of a report's, the folder is not there or cannot be
            written to, or the form is SVG and matplotlib is not installed.
    """
    check_place(path, "report", drawn=_form_of(path) == ".svg")
    return Path(path)


def write_output(report: Report, path: str | os.PathLike[str]) -> Path:
    """Writes a report to a file, in the form that the file's ending says.

    Raises:
        RequestError: As in `check_output`, or if writing fails.
    """
    return report._write(_form_of(path), path)


def check_place(path: str | os.PathLike[str], what: str, *, drawn: bool) -> None:
    """Checks that a file can be written.

    Args:
        path: The file.
        what: What is to be written, for the error.
        drawn: Whether that takes matplotlib.

    Raises:
        RequestError: If it cannot.
    """
    found = Path(path)
    folder = found.parent
    if found.is_dir():
        raise _cannot(what, found, "it is a folder; name a file in it")
    if not folder.is_dir():
        raise _cannot(what, found, f"there is no folder {folder}; make it, or name another")
    if not os.access(found if found.exists() else folder, os.W_OK):
        raise _cannot(what, found, "it may not be written to; name another place")
    if drawn:
        from vecselect.report.plots import styled

        with styled():  # says what to install where matplotlib is not there
            pass


def _form_of(path: str | os.PathLike[str]) -> str:
    """The form that a file's name asks for."""
    form = Path(path).suffix.lower()
    if form not in METHODS:
        *most, last = METHODS
        raise RequestError(
            f"A report cannot be written as {str(path)!r}; choose a name that ends in "
            f"{', '.join(most)} or {last}."
        )
    return form


def _cannot(what: str, path: Path, why: str) -> RequestError:
    return RequestError(f"The {what} cannot be written to {str(path)!r}: {why}.")
