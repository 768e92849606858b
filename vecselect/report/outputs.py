"""Reports as files, each in the form that its name's ending says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vecselect.errors import RequestError

if TYPE_CHECKING:
    from vecselect.report import Report

METHODS = {".html": "to_html", ".svg": "to_svg", ".md": "to_markdown", ".json": "to_json"}
"""By the ending of a file: the report's method that writes such a one."""


def check_output(path: str | os.PathLike[str]) -> Path:
    """Sees to it, before anything is measured, that a report can be written to a file.

    Raises:
        RequestError: If the ending is none of a report's, the folder is not there or cannot be
            written to, or the form is SVG and matplotlib is not installed.
    """
    found = Path(path)
    check_place(found, "report", drawn=_form_of(found) == ".svg")
    return found


def check_place(path: Path, what: str, *, drawn: bool) -> None:
    """Sees to it that a file can be written.

    Args:
        path: The file.
        what: What is to be written, for the error.
        drawn: Whether that takes matplotlib.

    Raises:
        RequestError: If it cannot.
    """
    folder = path.parent
    if path.is_dir():
        raise _cannot(what, path, "it is a folder; name a file in it")
    if not folder.is_dir():
        raise _cannot(what, path, f"there is no folder {folder}; make it, or name another")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise _cannot(what, path, "it may not be written to; name another place")
    if drawn:
        from vecselect.report.figures import styled

        with styled():  # says what to install where matplotlib is not there
            pass


def write_output(report: Report, path: str | os.PathLike[str]) -> Path:
    """Writes a report to a file, in the form that the file's ending says.

    Raises:
        RequestError: As in `check_output`, or if writing fails.
    """
    return write_as(report, _form_of(Path(path)), path)


def write_as(report: Report, form: str, path: str | os.PathLike[str]) -> Path:
    """Writes a report to a file in a form; a file that is there is replaced.

    Args:
        report: The report.
        form: One of `METHODS`.
        path: The file.

    Raises:
        RequestError: If its ending is that of another form, it cannot be written, or the form is
            SVG and matplotlib is not installed.
    """
    found = Path(path)
    ending = found.suffix.lower()
    if ending in METHODS and ending != form:
        raise RequestError(
            f"{METHODS[form]} writes {form}, and {str(path)!r} ends in {ending}: call "
            f"{METHODS[ending]}, or choose a name that ends in {form}."
        )
    text = _rendered(report, form).encode("utf-8", "replace")
    try:
        found.write_bytes(text)
    except OSError as error:
        why = f"{error.strerror or error}; name another place"
        raise _cannot("report", found, why) from error
    return found


def _rendered(report: Report, form: str) -> str:
    plan, stats = report.plan, report.stats
    if form == ".html":
        from vecselect.report.html import page

        return page(plan, stats)
    if form == ".svg":
        from vecselect.report.figures import svg
        from vecselect.report.plots import headline, sheet_of

        return svg(sheet_of(plan), headline(plan))
    if form == ".md":
        from vecselect.report.markdown import markdown

        return markdown(plan, stats)
    return plan.to_json() + "\n"


def _form_of(path: Path) -> str:
    """The form that a file's name asks for."""
    form = path.suffix.lower()
    if form not in METHODS:
        *most, last = METHODS
        raise RequestError(
            f"A report cannot be written as {str(path)!r}; choose a name that ends in "
            f"{', '.join(most)} or {last}."
        )
    return form


def _cannot(what: str, path: Path, why: str) -> RequestError:
    return RequestError(f"The {what} cannot be written to {str(path)!r}: {why}.")
