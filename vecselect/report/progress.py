"""A progress bar with the time that is left, for terminals."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from vecselect.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO


@contextlib.contextmanager
def progress_bar(file: TextIO) -> Iterator[Callable[[str, float, float], None]]:
    """Shows how far something has come, in one line that is gone in the end.

    It is drawn anew only when it is told something: a thread that turns a spinner would take time
    from what is measured. Anything but a terminal gets nothing.

    Args:
        file: The stream.

    Yields:
        A function to call with what is being done, the share that is over, from 0 to 1, and the
        seconds that are left.
    """
    if not file.isatty():
        yield lambda text, share, left_s: None
        return
    bar = Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.fields[left]}", style="bold"),
        TextColumn("{task.description}", style="dim", markup=False),
        console=Console(file=file, force_jupyter=False),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task("", total=1.0, left="")

    def show(text: str, share: float, left_s: float) -> None:
        bar.update(task, completed=share, description=printable(text), left=f"{left_s:3.0f} s left")
        bar.refresh()

    with bar:
        yield show
