"""A child process that does one piece of work and tells of it, and is gone afterwards."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.errors import ProfileError
from vecselect.failures import portable, raised_in_building

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess


class ChildEnded(Exception):
    """It said nothing more; the text says how it ended, in words that follow its name."""


class Child:
    """The caller's side of it.

    Attributes:
        pipe: The caller's end of the pipe.
    """

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.pipe = pipe
        self._process = process

    def stirs(self, timeout_s: float) -> bool:
        """Whether within a time it says something, or ends."""
        # The process is watched beside the pipe: a child of the environment may hold that open.
        return bool(connection.wait([self.pipe, self._process.sentinel], timeout_s))

    def said(self) -> tuple[str, Any]:
        """What it said when it stirred: the arguments of `tell`.

        Raises:
            ChildEnded: If it has ended instead.
            ProfileError: If it told of a failure; the exception is chained.
            Exception: What building raised there, if it told of that.
        """
        try:
            if not self.pipe.poll():
                raise EOFError
            data = self.pipe.recv_bytes()
        except (EOFError, ConnectionError):
            self._process.join(processes.END_GRACE_S)
            raise ChildEnded(processes.how_it_ended(self._process.exitcode)) from None
        kind, value = processes.loads(data)
        if kind == "failed":
            message, error = value
            raise ProfileError(message) from error.rebuilt()
        if kind == "not built":
            raise raised_in_building(value)
        return kind, value

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()


@contextlib.contextmanager
def child_at_work(
    context: BaseContext, work: Callable[..., None], *arguments: Any
) -> Iterator[Child]:
    """Starts a child; on leaving it is ended, with all it has started.

    Args:
        context: Of multiprocessing.
        work: A module's function, called in the child with its end of the pipe and the arguments.
        *arguments: Sent as multiprocessing sends them.
    """
    ours, theirs = context.Pipe()
    inherited = ours if context.get_start_method() == "fork" else None
    process = context.Process(  # type: ignore[attr-defined]
        target=_begin, args=(processes.child_seed(), inherited, work, theirs, *arguments)
    )
    try:
        process.start()
        theirs.close()
        yield Child(process, ours)
    finally:
        # One that has told all ends by itself; any other is ended.
        ours.close()
        if process.pid is not None:
            processes.end_all([process])


def _begin(
    seed: int,
    inherited: Connection | None,
    work: Callable[..., None],
    pipe: Connection,
    *arguments: Any,
) -> None:
    """Runs in the child."""
    if inherited is not None:  # A forked copy of the parent's end would hide the hanging up.
        inherited.close()
    processes.settle_in(seed)
    # A full collection would look through all that was loaded before, and so copy the memory that
    # is shared with the fork server: tens of milliseconds, in the midst of what is measured.
    gc.freeze()
    # What the environment prints must not get into the output of a program that asks for JSON.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    work(pipe, *arguments)


def tell(pipe: Connection, kind: str, value: Any = None) -> None:
    """In the child: says something of the work."""
    pipe.send_bytes(processes.dumps((kind, value)))


def tell_failure(pipe: Connection, message: str, error: BaseException) -> None:
    """In the child: says that the work has failed, and with what exception."""
    with contextlib.suppress(OSError):  # the parent was interrupted, and has hung up
        tell(pipe, "failed", (message, portable(error)))


def tell_not_built(pipe: Connection, error: BaseException) -> None:
    """In the child: says what building raised; it is raised on the other side as it is."""
    with contextlib.suppress(OSError):
        tell(pipe, "not built", portable(error))
