"""Warnings of environments: said once, not again by every process that builds the same ones.

A process that is sent a factory of environments is told with it what was shown already where that
comes from. A warning that is new is shown at once, wherever it comes up.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    Key = tuple[str, str, int]
    """Text, name of the category, and line of a warning."""

HOLDS_S = 0.001
"""Seconds for which a list of what was shown serves: many factories are sent at once."""


@dataclass(frozen=True)
class Shown:
    """What a process has shown.

    Attributes:
        pid: Of the process.
        keys: Of the warnings.
    """

    pid: int = 0
    keys: frozenset[Key] = frozenset()


_told: set[Key] = set()
_last: tuple[float, Shown] = (-HOLDS_S, Shown())
_show: Any = None


def shown() -> Shown:
    """What this process has shown, as far as Python remembers it, and what it was told of."""
    global _last
    now_s = time.monotonic()
    if now_s - _last[0] < HOLDS_S and _last[1].pid == os.getpid():
        return _last[1]
    found = set(_told)
    for module in list(sys.modules.values()):
        registry = getattr(module, "__dict__", {}).get("__warningregistry__")
        # Beside the warnings a registry holds its version.
        keys = [key for key in list(registry or ()) if isinstance(key, tuple) and len(key) == 3]
        found.update((str(text), category.__name__, line) for text, category, line in keys)
    _last = now_s, Shown(os.getpid(), frozenset(found))
    return _last[1]


def learn(of: Shown) -> None:
    """Notes what another process has shown, for those that are started from here on."""
    _told.update(of.keys)


def hush(of: Shown) -> None:
    """Keeps this process from showing what another one has shown; in that one it does nothing."""
    global _show
    if of.pid in (0, os.getpid()):
        return
    learn(of)
    if warnings.showwarning is not _show_new:
        _show, warnings.showwarning = warnings.showwarning, _show_new


def _show_new(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows a warning unless it is known; stands in for `warnings.showwarning`."""
    key = (str(message), category.__name__, lineno)
    if key not in _told:
        _told.add(key)
        _show(message, category, filename, lineno, file, line)
