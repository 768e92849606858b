"""Text on its way out: whatever it was made of, it writes text and nothing else.

Names of environments, errors and plans that somebody else wrote may hold escape sequences, which a
terminal obeys, or halves of characters, which no file takes. All text that vecselect shows goes
through here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for the tabulator and the line's end, and those that turn the direction of
what follows, so that it reads otherwise than it is."""

_SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which stand in a text where bytes were no UTF-8."""


def printable(text: str) -> str:
    """The text without control characters, and with a question mark for each lone surrogate."""
    return _SURROGATES.sub("?", _CONTROLS.sub("", text))


def write_text(text: str, file: TextIO) -> None:
    """Writes the text, as printable, to a stream; what the stream's encoding lacks becomes `?`."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(printable(text).encode(encoding, "replace").decode(encoding))
