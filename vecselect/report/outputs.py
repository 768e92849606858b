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

FORMS = tuple(METHODS)


def check_output(path: str | os.PathLike[str]) -> Path:
    """Sees to it, before anything is measured, that a report can be written to a file.

    Args:
        path: The file; its ending says in which form.

    Returns:
        The path.

    Raises:
        RequestError: If the ending is none of a report's, the folder is not there or cannot be
            written to, or the form is SVG and matplotlib is not installed.
    """
    found = Path(path)
    check_place(found, "report", drawn=form_of(found) == ".svg")
    return found


def check_place(path: Path, what: str, *, drawn: bool) -> None:
    """Sees to it that a file can be written.

    Args:
        path: The file.
        what: What is to be written, for the error.
        drawn: Whether that takes matplotlib.

    Raises:
        RequestError: If its folder is not there or cannot be written to, or matplotlib is not.
    """
    folder = path.parent
    if path.is_dir():
        raise RequestError(_cannot(what, path, "it is a folder; name a file in it"))
    if not folder.is_dir():
        why = f"there is no folder {folder}; make it, or name another"
        raise RequestError(_cannot(what, path, why))
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise RequestError(_cannot(what, path, "it may not be written to; name another place"))
    if drawn:
        from vecselect.report.figures import styled

        with styled():  # says what to install where matplotlib is not there
            pass


def write_output(report: Report, path: str | os.PathLike[str]) -> Path:
    """Writes a report to a file, in the form that the file's ending says.

    Args:
        report: The report.
        path: Ends in `.html`, `.svg`, `.md` or `.json`. A file that is there is replaced.

    Returns:
        The path.

    Raises:
        RequestError: As in `check_output`, or if writing fails.
    """
    return write_as(report, form_of(Path(path)), path)


def write_as(report: Report, form: str, path: str | os.PathLike[str]) -> Path:
    """Writes a report to a file in a form.

    Args:
        report: The report.
        form: One of `FORMS`.
        path: The file, whose ending is not that of another form. One that is there is replaced.

    Returns:
        The path.

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
    content = rendered(report, form).encode("utf-8", "replace")
    try:
        found.write_bytes(content)
    except OSError as error:
        why = error.strerror or str(error)
        raise RequestError(_cannot("report", found, f"{why}; name another place")) from error
    return found


def rendered(report: Report, form: str) -> str:
    """A report as the text of a file.

    Args:
        report: The report.
        form: One of `FORMS`.
    """
    if form == ".html":
        from vecselect.report.html import page

        return page(report.plan, report.stats)
    if form == ".svg":
        from vecselect.report.figures import svg
        from vecselect.report.plots import headline, sheet_of

        return svg(sheet_of(report.plan), headline(report.plan))
    if form == ".md":
        from vecselect.report.markdown import markdown

        return markdown(report.plan, report.stats)
    return report.plan.to_json() + "\n"


def form_of(path: Path) -> str:
    """The form that a file's name asks for.

    Raises:
        RequestError: If it asks for none of a report's.
    """
    form = path.suffix.lower()
    if form not in FORMS:
        *most, last = FORMS
        raise RequestError(
            f"A report cannot be written as {str(path)!r}; choose a name that ends in "
            f"{', '.join(most)} or {last}."
        )
    return form


def _cannot(what: str, path: Path, why: str) -> str:
    return f"The {what} cannot be written to {str(path)!r}: {why}."
