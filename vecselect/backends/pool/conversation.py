"""One command at a time, given to the caller's own lane and to every worker."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any

from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError

from vecselect.backends.pool.handle import PENDING, raised_here, raised_there
from vecselect.backends.pool.lane import LaneFailure
from vecselect.backends.pool.worker import Failed
from vecselect.errors import WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecselect.backends.pool.handle import Handle


class Conversation:
    """The commands of a pool: begun, pending, finished or dropped.

    A command that is interrupted (Ctrl-C) or fails in one lane is still answered by the others;
    what they owe is taken in before the next command, and belongs to nobody.
    """

    def __init__(self, handles: list[Handle]) -> None:
        self.handles = handles
        self.pending: str | None = None
        self._joint_thread: int | None = None
        self._own_work: Callable[[], Any] | None = None
        self._replies: list[Any] = []
        self._failure: BaseException | None = None
        self._dead: WorkerDied | None = None

    def begin(self, kind: str, joint: bool) -> None:
        """Makes sure that a command can be given, and notes that one is.

        Args:
            kind: What is begun.
            joint: Whether the same call collects it. If such a one is found pending by the thread
                that began it, then it was interrupted, and is dropped.

        Raises:
            AlreadyPendingCallError: If another one waits to be collected.
            WorkerDied: If a worker has died before.
        """
        if self._dead is not None:
            raise self._dead
        if self.pending is not None and self._joint_thread != threading.get_ident():
            raise AlreadyPendingCallError(
                f"Calling `{kind}` while waiting for a pending call to `{self.pending}` to "
                "complete.",
                self.pending,
            )
        for handle in self.handles:
            if handle.outstanding:
                self._collected(handle.drop)
        self._replies, self._failure, self._own_work = [], None, None
        self._joint_thread = threading.get_ident() if joint else None
        self.pending = kind

    def drop(self) -> None:
        """Lets go of the pending command."""
        self.pending = None

    def own(self, work: Callable[[], Any]) -> None:
        """Sets what the caller's lane does, when the command is collected."""
        self._own_work = work

    def ask_all(
        self, name: str, arguments: Callable[[range], tuple[Any, ...]], buffer: int = 0
    ) -> None:
        """Gives every worker a method of its lane to call, all of them or none.

        Args:
            name: Of the method.
            arguments: Gives its arguments for a lane's rows.
            buffer: Where observations go.
        """
        packed = [handle.packed(name, arguments(handle.rows)) for handle in self.handles]
        for handle, data in zip(self.handles, packed, strict=True):
            handle.request(data, buffer)

    def need_pending(self, kind: str) -> None:
        """Raises NoAsyncCallError unless such a command waits to be collected."""
        if self.pending != kind:
            raise NoAsyncCallError(
                f"Calling `{kind}_wait` without any prior call to `{kind}_async`.", kind
            )

    def finish(self, timeout: float | None = None) -> list[Any]:
        """Does the caller's own part, collects the workers', and raises what any of them raised.

        Every reply is in before anything is raised, so that a failure leaves nothing behind.

        Args:
            timeout: Seconds to wait for the workers, once the caller's own part is done.

        Returns:
            What each lane's method returned, the caller's first.

        Raises:
            multiprocessing.TimeoutError: If the time ran out; the command stays pending.
            WorkerDied: If a worker's process has ended.
        """
        work, self._own_work = self._own_work, None
        if work is not None:
            try:
                self._replies.append(work())
            except LaneFailure as failure:
                self._failure = raised_here(failure)
                self._replies.append(None)
            except BaseException:  # interrupted half-way: nothing of this command can be used
                self.pending = None
                raise
        left_s = None if timeout is None else _countdown(timeout)
        for handle in self.handles[len(self._replies) - 1 :]:
            reply = self._collected(handle.collect, left_s)
            if reply is PENDING:
                raise multiprocessing.TimeoutError(
                    f"`{self.pending}_wait` timed out after {timeout} s. The {self.pending} is "
                    f"still pending: another `{self.pending}_wait` collects it."
                )
            if isinstance(reply, Failed):
                self._failure = self._failure or raised_there(reply)
            self._replies.append(reply)
        self.pending = None
        if self._failure is not None:
            raise self._failure
        return self._replies

    def _collected(self, collect: Callable[..., Any], *args: Any) -> Any:
        """What a worker gives; if it has died, no command will be taken any more."""
        try:
            return collect(*args)
        except WorkerDied as death:
            self._dead = death
            self.pending = None
            raise


def _countdown(timeout: float) -> Callable[[], float]:
    """Gives the seconds that are left of a time limit."""
    until_s = time.monotonic() + timeout
    return lambda: until_s - time.monotonic()
