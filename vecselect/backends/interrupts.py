"""Ctrl-C, while something is under way that must not be broken off."""

from __future__ import annotations

import threading
from signal import SIGINT
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

try:  # the same as in `signal`, without the conversions to enums that cost 8 us a time
    from _signal import getsignal, signal  # type: ignore[import-not-found]
except ImportError:
    from signal import getsignal, signal


class Unbroken:
    """Puts Ctrl-C off: half a message in a pipe would be taken for the beginning of the next."""

    def __init__(self, broken_off: Callable[[], None] | None = None) -> None:
        """Does nothing yet.

        Args:
            broken_off: Called where something else than the operating system's refusal breaks it
                off after all: what the handler of another signal raises, such as that of a timer.
        """
        self._broken_off = broken_off

    def __enter__(self) -> None:
        """Notes Ctrl-C from now on instead of raising it."""
        self._came: tuple[Any, ...] | None = None
        self._before: Any = None
        # Blocking the signal would not do: the kernel gives it to another thread then, and Python
        # raises in this one all the same.
        if threading.current_thread() is threading.main_thread():
            before = getsignal(SIGINT)
            if callable(before):
                self._before = before
                signal(SIGINT, self._note)

    def _note(self, *what: Any) -> None:
        self._came = what

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Raises what came in the meantime."""
        refused = kind is None or issubclass(kind, (OSError, EOFError))
        if self._broken_off is not None and not refused:
            self._broken_off()
        if self._before is not None:
            signal(SIGINT, self._before)
            if self._came is not None:
                self._before(*self._came)
