"""Ctrl-C, while something is under way that must not be broken off."""

from __future__ import annotations

import contextlib
import signal as signals
import threading
from signal import SIGINT
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:  # the same as in `signal`, without the conversions to enums that cost 8 us a time
    from _signal import getsignal, signal  # type: ignore[import-not-found]
except ImportError:
    from signal import getsignal, signal


class Unbroken:
    """A context that raises Ctrl-C only when it is left.

    Half a message in a pipe would be taken for the beginning of the next one.
    """

    def __init__(self, broken_off: Callable[[], None] | None = None) -> None:
        """Changes nothing yet.

        Args:
            broken_off: Called if the body raises something other than an error of the operating
                system all the same, as the handler of another signal may do (a timer's, say).
        """
        self._broken_off = broken_off

    def __enter__(self) -> None:
        """Replaces the handler of SIGINT by one that only notes it."""
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
        """Restores the handler, and calls it if SIGINT came in the meantime."""
        refused = kind is None or issubclass(kind, (OSError, EOFError))
        if self._broken_off is not None and not refused:
            self._broken_off()
        if self._before is not None:
            signal(SIGINT, self._before)
            if self._came is not None:
                self._before(*self._came)


@contextlib.contextmanager
def unbroken_start() -> Iterator[None]:
    """As `Unbroken`; a process that is started meanwhile begins with SIGINT blocked (POSIX)."""
    with Unbroken():
        before = signals.pthread_sigmask(signals.SIG_BLOCK, {SIGINT})
        try:
            yield
        finally:
            signals.pthread_sigmask(signals.SIG_SETMASK, before)
