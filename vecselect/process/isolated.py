"""A child process that does one piece of work and tells of it, and is gone afterwards.

`run_isolated` runs a function there and gives its result; `child_at_work` is for work that the
caller talks to.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from functools import partial
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, TypeVar

from vecselect.errors import ProfileError
from vecselect.process import children, contexts, generators, pickling
from vecselect.process.remote_errors import portable, raised_in_building

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

T = TypeVar("T")

STALL_LIMIT_S = 30.0
"""Seconds beyond its time after which isolated work counts as never ending."""


class ChildEnded(Exception):
    """The process exited without a message; the text says how, as `children.how_it_ended` does."""


class Child:
    """A child process as its caller sees it, with the caller's end of its pipe."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.pipe = pipe
        self._process = process

    def wait(self, timeout_s: float) -> bool:
        """Waits up to `timeout_s` for a message or the end of the process; False if none came."""
        # The process is watched beside the pipe: a child of the environment may hold that open.
        return bool(connection.wait([self.pipe, self._process.sentinel], timeout_s))

    def receive(self) -> tuple[str, Any]:
        """The next message, topic and value; call it after `wait`. Or else `ChildEnded`."""
        try:
            if not self.pipe.poll():
                raise EOFError
            data = self.pipe.recv_bytes()
        except (EOFError, ConnectionError):
            self._process.join(children.END_GRACE_S)
            raise ChildEnded(children.how_it_ended(self._process.exitcode)) from None
        message: tuple[str, Any] = pickling.loads(data)
        return message

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()


@contextlib.contextmanager
def child_at_work(
    context: BaseContext, work: Callable[..., None], *arguments: Any
) -> Iterator[Child]:
    """Starts a child; on leaving it is ended, with all it has started.

    It calls `work`, a module's function, with its end of the pipe and the arguments.
    """
    ours, theirs = context.Pipe()
    process = context.Process(  # type: ignore[attr-defined]
        target=_begin, args=(generators.child_seed(), ours, work, theirs, *arguments)
    )
    try:
        process.start()
        theirs.close()
        yield Child(process, ours)
    finally:
        # One that has told all ends by itself; any other is ended.
        ours.close()
        if process.pid is not None:
            children.end_all([process])


def _begin(
    seed: int,
    callers_end: Connection,
    work: Callable[..., None],
    pipe: Connection,
    *arguments: Any,
) -> None:
    """Runs in the child."""
    callers_end.close()  # An open copy would hide that the caller hangs up.
    children.prepare_child(seed)
    # What the environment prints must not get into the output of a program that asks for JSON.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    work(pipe, *arguments)


def tell(pipe: Connection, topic: str, value: Any = None) -> None:
    """In the child: sends the caller a message of a topic."""
    pipe.send_bytes(pickling.dumps((topic, value)))


class IsolatedLost(Exception):
    """A function in a process of its own gave no result; the text says why."""


def run_isolated(
    work: Callable[..., T],
    limit_s: float,
    start_method: str | None = None,
    *,
    progress: Callable[[Any], None] = lambda message: None,
) -> T:
    """Runs a function in a process of its own, which ends with all it has started.

    The function travels by value, and so does what it returns. It is called with a callable, of
    whose argument `progress` is told here.

    Raises:
        IsolatedLost: If the process ends before it has returned, or is ended as it takes
            `STALL_LIMIT_S` longer than `limit_s`.
        Exception: What it raised, a `ProfileError` with its cause.
    """
    sent = pickling.dumps(work)
    with child_at_work(contexts.get_context(start_method), _run, sent) as child:
        until_s = time.perf_counter() + max(limit_s, 0.0) + STALL_LIMIT_S
        while True:
            if not child.wait(max(until_s - time.perf_counter(), 0.0)):
                child.kill()
                raise IsolatedLost(
                    f"it was still running {STALL_LIMIT_S:g} s after its time was up, and was ended"
                )
            try:
                topic, value = child.receive()
            except ChildEnded as ended:
                raise IsolatedLost(f"its process {ended}") from None
            if topic == "returned":
                result: T = value
                return result
            if topic == "raised":
                raise raised_in_building(value)
            if topic == "failed":
                message, cause = value
                raise ProfileError(message) from cause.rebuilt()
            progress(value)


def _run(pipe: Connection, sent: bytes) -> None:
    """Runs in the child."""
    try:
        work = pickling.loads(sent)
        answer: tuple[str, Any] = "returned", work(progress=partial(tell, pipe, "progress"))
    except ProfileError as error:
        answer = "failed", (str(error), portable(error.__cause__ or error))
    except Exception as error:
        answer = "raised", portable(error)
    except BaseException as error:  # SystemExit, which would end the caller's program
        answer = "failed", (str(error), portable(error))
    with contextlib.suppress(OSError):  # the parent was interrupted, and has hung up
        tell(pipe, *answer)
