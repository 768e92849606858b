"""Exceptions of sub-environments: sent between processes, and with a note of which one raised."""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from dataclasses import dataclass

from vecselect.errors import ProfileError, WorkerError
from vecselect.printable import write_text
from vecselect.process import pickling


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
    """An exception in a form that always arrives: the name of its class, its text and traceback.

    `pickled` is the exception itself; None where it cannot be rebuilt from its pickle.
    """

    class_name: str
    message: str
    traceback: str
    pickled: bytes | None

    def rebuilt(self) -> BaseException:
        """The exception with its remote traceback as the cause, or that traceback alone."""
        trace = RemoteTraceback(self.traceback)
        if self.pickled is not None:
            with contextlib.suppress(Exception):  # its module may not be importable here
                original: BaseException = pickling.loads(self.pickled)
                original.__cause__ = trace
                return original
        return trace


def portable(error: BaseException) -> PortableError:
    """Converts an exception to a form that can be pickled, whatever its class and contents."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    pickled = None
    # It may hold a socket, or have a constructor that its arguments do not fit.
    with contextlib.suppress(Exception):
        data = pickling.dumps(error)
        if isinstance(pickling.loads(data), type(error)):
            pickled = data
    try:
        message = str(error)
    except Exception:
        message = "(its text cannot be shown)"
    return PortableError(type(error).__name__, message, text, pickled)


@dataclass(frozen=True)
class Failed:
    """An exception that a worker reports: of which sub-environment, in which phase, and when."""

    row: int
    phase: str
    error: PortableError
    when: str = ""


def raised_there(failed: Failed) -> BaseException:
    """What a sub-environment in a worker raised, as its own type where that can be rebuilt."""
    error = failed.error.rebuilt()
    if isinstance(error, RemoteTraceback):
        when = f" ({failed.when})" if failed.when else ""
        replacement = WorkerError(
            f"Sub-environment {failed.row} raised {failed.error.class_name} in {failed.phase}"
            f"{when}: {failed.error.message}"
        )
        replacement.__cause__ = error
        return replacement
    annotate(error, failed.row, failed.phase, failed.when)
    return error


def raised_in_building(failed: PortableError) -> BaseException:
    """What building raised in a process that measures, as its own type where that can be rebuilt.

    As any pinned mode raises it: whether something was measured first changes nothing for whoever
    catches it.
    """
    error = failed.rebuilt()
    if isinstance(error, RemoteTraceback):
        replacement = ProfileError(
            f"The environment raised {failed.class_name} in its constructor while it was being "
            f"measured: {failed.message}"
        )
        replacement.__cause__ = error
        return replacement
    add_note(error, "Raised while being built for measuring, in another process.")
    return error


def exit_error(error: SystemExit, who: str, phase: str) -> BaseException:
    """What is raised in place of a `SystemExit` of a sub-environment, which would end the program.

    A `WorkerError` that it is the cause of; the error itself where the handler of a signal raised
    it, as on SIGTERM: that is the program's own wish to end.
    """
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {getattr(handler, "__code__", None) for handler in handlers}
    if any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__)):
        return error
    replacement = WorkerError(
        f"{who} called sys.exit({error.code!r}) in {phase}, which would have ended the program. "
        "Raise another exception there."
    )
    replacement.__cause__ = error
    return replacement


def annotate(error: BaseException, row: int, phase: str, when: str = "") -> None:
    """Adds to an exception which sub-environment raised it, where Python can (3.11 and newer)."""
    place = f", {when}" if when else ""
    add_note(error, f"Raised by sub-environment {row} in {phase}{place}.")


def add_note(error: BaseException, note: str) -> None:
    """Adds a note to an exception, where Python can (3.11 and newer)."""
    if hasattr(error, "add_note"):
        error.add_note(note)


def how_far(steps: int, seed: object) -> str:
    """How far an episode is, for messages: its steps, and the seed that it began with."""
    seeded = "never seeded" if seed is None else f"last seeded with {seed}"
    return f"step {steps} of its episode, {seeded}"


def report_closing(row: int, error: BaseException | None) -> None:
    """Writes to stderr what a sub-environment raised in `close`, where no caller can get it."""
    text = f"vecselect: sub-environment {row} raised {type(error).__name__} in close(): {error}\n"
    write_text(text, sys.stderr)
