"""Exceptions that cross from one process to another."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass

from vecselect import processes


class RemoteTraceback(Exception):
    """The traceback of an exception that was raised in another process, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        """The traceback, set off from the local one."""
        return f'\n"""\n{self.text}"""'


@dataclass(frozen=True)
class PortableError:
    """An exception in a form that always arrives.

    Attributes:
        kind: The name of its class.
        message: Its text.
        traceback: Its traceback, as text.
        pickled: The exception itself; None where it cannot be rebuilt from its pickle.
    """

    kind: str
    message: str
    traceback: str
    pickled: bytes | None

    def rebuilt(self) -> BaseException:
        """The exception with its remote traceback as the cause, or that traceback alone."""
        trace = RemoteTraceback(self.traceback)
        if self.pickled is not None:
            with contextlib.suppress(Exception):  # its module may not be importable here
                original: BaseException = processes.loads(self.pickled)
                original.__cause__ = trace
                return original
        return trace


def portable(error: BaseException) -> PortableError:
    """Makes an exception fit to be sent, whatever its class and what it holds."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    pickled = None
    # It may hold a socket, or have a constructor that its arguments do not fit.
    with contextlib.suppress(Exception):
        data = processes.dumps(error)
        if isinstance(processes.loads(data), type(error)):
            pickled = data
    try:
        message = str(error)
    except Exception:
        message = "(its text cannot be shown)"
    return PortableError(type(error).__name__, message, text, pickled)
