"""Reports: plans and sweeps shown to people, and written to files.

    plan, stats --> Report --.                        .--> text      terminals, pipes
                              >--> content.Content --+---> html      pages, notebooks
    sweep --> SweepReport ---'                        '--> markdown  issues

rich and matplotlib are known only here, and are loaded when something is shown.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from vecselect.plan import Plan, Sweep
    from vecselect.report.plots import Plot
    from vecselect.report.text import Shown
    from vecselect.run_stats import Stats

FILES = {"report": (".html", ".md", ".json"), "sweep": (".json", ".svg", ".png")}
"""Endings of the files that each can be saved to."""


class _Printed:
    """What reports have in common: how they are shown."""

    def _shown(self) -> tuple[Shown, Plot | None]:
        """What it says, and the plot beside it in a notebook."""
        raise NotImplementedError

    def __str__(self) -> str:
        """Plain text, 80 columns wide, without colour."""
        from vecselect.report.text import plain

        return plain(self._shown()[0])

    def print(self, file: TextIO) -> None:
        """Writes it to a stream: coloured on a terminal, plain and 80 columns wide in a pipe.

        On a terminal `NO_COLOR`, `FORCE_COLOR` and `COLUMNS` are heeded.
        """
        from vecselect.report.text import write

        write(self._shown()[0], file)

    def __rich__(self) -> Shown:
        """What rich prints for it."""
        return self._shown()[0]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows for it."""
        from vecselect.report.html import fragment

        shown, plot = self._shown()
        return {"text/plain": str(self), "text/html": fragment(shown.content, plot)}


@dataclass(frozen=True)
class Report(_Printed):
    """A plan, rendered for people: `print(report)`, notebooks, files.

    As text it has at most 16 lines: the verdict, the candidates, the notes and the pin.

    Attributes:
        plan: The plan.
        stats: How a run after it has gone so far, if there is one.
        in_detail: Whether its text has all of the evidence.
    """

    plan: Plan
    stats: Stats | None = None
    in_detail: bool = False

    @property
    def details(self) -> Report:
        """The same with all of the evidence: `print(report.details)`."""
        return dataclasses.replace(self, in_detail=True)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the report to a file, in the form that the file's ending says.

        Args:
            path: The file: `.html` for a page that needs nothing else, with a plot where matplotlib
                is installed; `.md` for an issue; `.json` for `Plan.from_json`. One that is there is
                replaced.

        Returns:
            The path.

        Raises:
            RequestError: If it ends otherwise, or cannot be written.
        """
        from vecselect.report.content import content
        from vecselect.report.html import page
        from vecselect.report.markdown import markdown

        found = content(self.plan, self.stats)
        forms = {
            ".html": lambda: page(found, self.plan).encode("utf-8", "replace"),
            ".md": lambda: markdown(found).encode("utf-8", "replace"),
            ".json": lambda: f"{self.plan.to_json()}\n".encode(),
        }
        return _save(path, "report", forms)

    def _shown(self) -> tuple[Shown, None]:
        from vecselect.report.content import content
        from vecselect.report.text import Shown

        return Shown(content(self.plan, self.stats), short=not self.in_detail), None


@dataclass(frozen=True)
class SweepReport(_Printed):
    """A sweep, rendered for people: `print(SweepReport(sweep))`, notebooks, files.

    Attributes:
        sweep: The sweep.
    """

    sweep: Sweep

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
        from vecselect.report.plots import png, svg, sweep_plot

        forms = {
            ".json": lambda: f"{self.sweep.to_json()}\n".encode(),
            ".svg": lambda: svg(sweep_plot(self.sweep)).encode(),
            ".png": lambda: png(sweep_plot(self.sweep)),
        }
        return _save(path, "sweep", forms)

    def _shown(self) -> tuple[Shown, Plot]:
        from vecselect.report.content import sweep_content
        from vecselect.report.plots import sweep_plot
        from vecselect.report.text import Shown

        return Shown(sweep_content(self.sweep)), sweep_plot(self.sweep)


def check_file(path: str | os.PathLike[str], what: str) -> str:
    """The ending of a file for a report or sweep, in lower case, after checking that it can be.

    Raises `RequestError` if it ends otherwise, it is a folder, its folder is not there,
    or a plot is wanted and matplotlib is not installed.
    """
    found, endings = Path(path), FILES[what]
    ending = found.suffix.lower()
    if ending not in endings:
        raise RequestError(
            f"A {what} cannot be written as {str(path)!r}: choose a name that ends in "
            f"{', '.join(endings[:-1])} or {endings[-1]}."
        )
    if found.is_dir():
        raise _cannot(what, found, "it is a folder; name a file in it")
    if not found.parent.is_dir():
        raise _cannot(what, found, f"there is no folder {found.parent}; make it, or name another")
    if ending in (".svg", ".png"):
        from vecselect.report.plots import need_matplotlib

        need_matplotlib()
    return ending


def _save(
    path: str | os.PathLike[str], what: str, forms: Mapping[str, Callable[[], bytes]]
) -> Path:
    found = Path(path)
    content = forms[check_file(path, what)]()
    try:
        found.write_bytes(content)
    except OSError as error:
        raise _cannot(what, found, f"{error.strerror or error}; name another place") from error
    return found


def _cannot(what: str, path: Path, why: str) -> RequestError:
    return RequestError(f"The {what} cannot be written to {str(path)!r}: {why}.")
