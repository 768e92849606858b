"""What rich can print, written to terminals, pipes, strings and notebooks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment
from rich.table import Table

from vecselect.printable import printable, write_text

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

NARROWEST = 60
PIPE_WIDTH = 80

ASCII: dict[int, str | int] = {**str.maketrans("█▓▒░·»─", "#%:+.>-"), ord("±"): "+-"}
"""What stands for the characters of bars and rules where a stream has none."""


class Printable:
    """What rich can print, without the control characters in its text; its style stays."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The same pieces with other text."""
        for piece in console.render(self._renderable, options):
            yield piece if piece.control else Segment(printable(piece.text), piece.style)


def hanging(mark: str, text: Text, style: str = "") -> RenderableType:
    """A text behind a mark, its further lines indented as the first."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style=style, min_width=2)
    grid.add_column()
    grid.add_row(mark, text)
    return grid


def plain(renderable: RenderableType, width: int) -> str:
    """It as text of a width, without colour or trailing spaces."""
    file = io.StringIO()
    console = _console(file, width=width, color_system=None, force_terminal=False)
    console.print(Printable(renderable))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def html(renderable: RenderableType, width: int) -> str:
    """It as a fragment of HTML that takes its colours along."""
    console = _console(io.StringIO(), width=width, record=True, force_terminal=True)
    console.print(Printable(renderable))
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
    console.print(Printable(renderable))


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
