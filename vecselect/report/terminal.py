"""What rich can print, written to terminals, pipes, strings and notebooks; a progress bar."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vecselect.printable import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from rich.console import RenderableType

NARROWEST = 60
PIPE_WIDTH = 80

ASCII: dict[int, str | int] = {**str.maketrans("█▓▒░·»─", "#%:+.>-"), ord("±"): "+-"}
"""What stands for the characters of bars and rules where a stream has none."""


def plain(renderable: RenderableType, width: int) -> str:
    """It as text of a width, without colour or trailing spaces."""
    file = io.StringIO()
    _console(file, width=width, color_system=None, force_terminal=False).print(renderable)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def html(renderable: RenderableType, width: int) -> str:
    """It as a fragment of HTML that takes its colours along."""
    console = _console(io.StringIO(), width=width, record=True, force_terminal=True)
    console.print(renderable)
    style = "font-family:Menlo,'DejaVu Sans Mono',Consolas,monospace;line-height:1.25"
    return console.export_html(
        inline_styles=True, code_format=f'<pre style="{style}"><code>{{code}}</code></pre>'
    )


def write(renderable: RenderableType, file: TextIO) -> None:
    """Writes it to a stream: coloured on a terminal, 80 columns of plain text in a pipe.

    In ASCII, where the stream's encoding has no more.
    """
    console = _console(file)
    ascii_only = not _takes_blocks(file)
    if ascii_only or not console.is_terminal:
        text = plain(renderable, PIPE_WIDTH)
        write_text((text.translate(ASCII) if ascii_only else text) + "\n", file)
        return
    console.width = max(console.width, NARROWEST)
    console.print(renderable)


def _takes_blocks(file: TextIO) -> bool:
    """Whether the stream's encoding has the characters of bars and rules."""
    try:
        "".join(map(chr, ASCII)).encode(getattr(file, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _console(file: TextIO, **settings: Any) -> Console:
    """A console that writes to the file, also inside a notebook."""
    return Console(file=file, force_jupyter=False, **settings)


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
    from rich.progress import BarColumn, Progress, TextColumn  # which takes a while to import

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
        bar.update(task, completed=share, description=text, left=f"{left_s:3.0f} s left")
        bar.refresh()

    with bar:
        yield show
