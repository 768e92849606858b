"""Ctrl-C, while something is under way that must not be broken off."""

from __future__ import annotations

import contextlib
import signal as signals
import threading
from signal import SIGINT
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

try:  # the same as in `signal`, without the conversions to enums that cost 8 us a time
    from _signal import getsignal, signal  # type: ignore[import-not-found]
except ImportError:
    from signal import getsignal, signal


class DeferredInterrupts:
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
        """Notes Ctrl-C from now on instead of raising it."""
        self._noting = _noting()
        next(self._noting, None)

    def __exit__(self, error_type: type[BaseException] | None, *error: object) -> None:
        """Restores the handler, and calls it if SIGINT came in the meantime."""
        refused = error_type is None or issubclass(error_type, (OSError, EOFError))
        if self._broken_off is not None and not refused:
            self._broken_off()
        next(self._noting, None)


def _noting() -> Generator[None, None, None]:
    """Notes Ctrl-C until it is resumed, and then raises it.

    The handler of another signal may raise between any two instructions, even before `__exit__` has
    done anything. This generator is deleted then, which puts the handler of before back too.
    """
    before = getsignal(SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        return
    came: list[tuple[Any, ...]] = []
    try:
        # Blocking the signal would not do: the kernel gives it to another thread then, and Python
        # raises in this one all the same.
        signal(SIGINT, lambda *what: came.append(what))
        yield
    finally:
        signal(SIGINT, before)
    if came:
        before(*came[-1])


@contextlib.contextmanager
def start_with_deferred_interrupts() -> Iterator[None]:
    """As `DeferredInterrupts`; a process started meanwhile begins with SIGINT blocked (POSIX)."""
    with DeferredInterrupts():
        before = signals.pthread_sigmask(signals.SIG_BLOCK, {SIGINT})
        try:
            yield
        finally:
            signals.pthread_sigmask(signals.SIG_SETMASK, before)
