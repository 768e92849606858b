"""What a pool and its workers are talking about."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any, NoReturn

from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError

from vecselect.backends.pool.handle import PENDING, Raised, closed_meanwhile
from vecselect.backends.pool.lane import LaneFailure, raised_here
from vecselect.backends.pool.restarts import announce
from vecselect.errors import StepTimeout, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vecselect.backends.pool.handle import Handle

    Replace = Callable[[Handle, Exception], Handle]
    Arguments = Callable[[range], tuple[Any, ...] | None]


class Conversation:
    """The commands of a pool: begun, pending, finished or dropped.

    A command that is interrupted (Ctrl-C) or fails in one lane is still answered by the others;
    what they owe is taken in before the next command, and belongs to nobody.

    Attributes:
        handles: The workers.
        pending: The command that was begun and is not over. Whoever gives one sets this first of
            all, and to None when it is over, however that comes: so what a signal's handler tries
            in the midst of it is refused.
        closed: Set when the workers are about to be ended, perhaps in the midst of a command.
    """

    def __init__(
        self,
        handles: list[Handle],
        limit_s: float | None = None,
        replace: Replace | None = None,
        let_go: Callable[[Sequence[Handle]], None] = lambda handles: None,
    ) -> None:
        """Begins a conversation.

        Args:
            handles: The workers; one that died is replaced in this list.
            limit_s: Seconds that workers may take to answer; as long as it takes by default.
            replace: Gives a new worker for one that died; by default that is the end.
            let_go: Has workers begin what they were given, where they do not begin by themselves.
        """
        self.handles = handles
        self.pending: str | None = None
        self.closed = False
        self._limit_s = limit_s
        self._replace = replace
        self._let_go = let_go
        self._own_work: Callable[[], Any] | None = None
        self._asked: tuple[str, Arguments] | None = None
        self._buffer = 0
        self._replies: list[Any] = []
        self._failure: BaseException | None = None
        self._dead: WorkerDied | None = None
        self._deaths: dict[int, Exception] = {}  # by place; of those that are not replaced yet

    def refuse(self, kind: str) -> NoReturn:
        """Raises AlreadyPendingCallError: another command is not over."""
        raise AlreadyPendingCallError(
            f"Calling `{kind}` while waiting for a pending call to `{self.pending}` to complete.",
            str(self.pending),
        )

    def begin(self) -> None:
        """Makes sure that a command can be given.

        Raises:
            WorkerDied: If a worker has died before.
            StepTimeout: If a worker still owes the answer to an earlier command.
        """
        if self._dead is not None:
            raise self._dead
        for place, death in [*self._deaths.items()]:  # it was interrupted when they were replaced
            self._died(place, death)
        left_s = _countdown(self._limit_s)
        for place, handle in enumerate(self.handles):
            if handle.outstanding:
                try:
                    if handle.drop(left_s) is PENDING:
                        self._died(place, self._too_late(place))
                except WorkerDied as death:
                    self._died(place, death)
        self._replies, self._failure, self._own_work, self._asked = [], None, None, None

    def own(self, work: Callable[[], Any]) -> None:
        """Sets what the caller's lane does, when the command is collected."""
        self._own_work = work

    def step_all(self, buffer: int) -> None:
        """Has every worker step with the actions in the arena.

        Args:
            buffer: Where observations go.
        """
        self._buffer = buffer
        for place in range(len(self.handles)):
            self._give(place)
        self._let_go(self.handles)

    def ask_all(self, name: str, arguments: Arguments, buffer: int = 0) -> None:
        """Gives every worker a method of its lane to call, all of them or none.

        Args:
            name: Of the method.
            arguments: Gives its arguments for a lane's rows; None for a lane that has no part in
                it, and whose reply then is None.
            buffer: Where observations go.
        """
        self._asked, self._buffer = (name, arguments), buffer
        asked = [(handle, arguments(handle.rows)) for handle in self.handles]
        packed = [None if args is None else handle.packed(name, args) for handle, args in asked]
        for place, data in enumerate(packed):
            try:
                if data is not None:
                    self.handles[place].request(data, buffer)
            except WorkerDied as death:
                self._died(place, death)
                self._give(place)
        self._let_go(self.handles)

    def need_pending(self, kind: str) -> None:
        """Raises NoAsyncCallError unless such a command waits to be collected."""
        if self.pending != kind:
            raise NoAsyncCallError(
                f"Calling `{kind}_wait` without any prior call to `{kind}_async`.", kind
            )

    def finish(self, timeout: float | None = None) -> list[Any]:
        """Does the caller's own part, collects the workers', and raises what any of them raised.

        Every reply is in before anything is raised, so that a failure leaves nothing behind; but
        one that was raised while another worker takes long is not kept waiting for that. The
        command stays pending until the caller has made use of the replies.

        Args:
            timeout: Seconds to wait for the workers, once the caller's own part is done.

        Returns:
            What each lane's method returned, the caller's first.

        Raises:
            multiprocessing.TimeoutError: If the time ran out; the command stays pending.
            StepTimeout: If a worker takes longer than any may.
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
        users = timeout is not None and (self._limit_s is None or timeout < self._limit_s)
        left_s = _countdown(timeout if users else self._limit_s)
        for place in range(len(self._replies) - 1, len(self.handles)):
            reply = self._reply(place, left_s)
            if reply is PENDING and users:
                raise multiprocessing.TimeoutError(
                    f"`{self.pending}_wait` timed out after {timeout} s. The {self.pending} is "
                    f"still pending: another `{self.pending}_wait` collects it."
                )
            while reply is PENDING:  # the one in its place has as long
                late = self._too_late(place)
                self._died(place, late)
                self._refuse_to_repeat_calls(late)
                self._give(place)
                reply = self._reply(place, _countdown(self._limit_s))
            if isinstance(reply, Raised):
                self._failure = self._failure or reply.error
            self._replies.append(reply)
        if self._failure is not None:
            self.pending = None
            raise self._failure
        return self._replies

    def _reply(self, place: int, left_s: Callable[[], float] | None) -> Any:
        """What a worker answers; if it has died, what the one in its place does."""
        if not self.handles[place].outstanding:  # it was not asked
            return None
        try:
            return self.handles[place].collect(left_s, self._look_around)
        except _Elsewhere as elsewhere:
            self.pending = None
            raise self._failure_of(elsewhere.handle) from None
        except WorkerDied as death:
            died = self._place_of_the_dead(place)
            self._died(died, death)
            self._refuse_to_repeat_calls(death)
            if died >= place:  # else its answer is in already
                self._give(died)
            return self._reply(place, left_s)

    def _place_of_the_dead(self, place: int) -> int:
        """Where the worker stands whose death was noticed while waiting for another one."""
        dead = [i for i, one in enumerate(self.handles) if one.has_died()]
        return place if place in dead or not dead else dead[0]

    def _look_around(self) -> None:
        """While one worker is waited for: has any of them died, or failed?"""
        for handle in self.handles:
            if handle.has_failed():
                raise _Elsewhere(handle)
            handle.check()

    def _failure_of(self, handle: Handle) -> BaseException:
        """What a worker raised that has answered."""
        failed = handle.collect()
        assert isinstance(failed, Raised)
        return self._failure or failed.error

    def _died(self, place: int, death: Exception) -> None:
        """Replaces a worker that has died; where none are replaced, raises, now and ever after."""
        if self.closed:
            raise closed_meanwhile()
        if self._replace is None:
            if isinstance(death, WorkerDied):
                self._dead = WorkerDied(
                    f"{death} Close the vector environment and make a new one, or have workers "
                    'replaced: vector_kwargs={"on_worker_death": "restart"}.'
                )
                death = self._dead
            self.pending = None
            raise death
        self._deaths[place] = death
        try:
            try:
                new = self._replace(self.handles[place], death)
            except Exception as error:
                self._dead = error if isinstance(error, WorkerDied) else WorkerDied(str(error))
                raise
            self.handles[place] = new
            del self._deaths[place]
            if self.closed:  # while it was being made: nobody else knows of it
                new.kill()
                raise closed_meanwhile()
            announce(death, new.rows)  # the last thing: where warnings are errors, it raises
        except BaseException:
            self.pending = None
            raise

    def _give(self, place: int) -> None:
        """Gives a worker the command that is begun; one that has died is replaced first."""
        while True:
            handle = self.handles[place]
            try:
                if self._asked is None:
                    handle.step(self._buffer)
                else:
                    name, arguments = self._asked
                    args = arguments(handle.rows)
                    if args is not None:
                        handle.request(handle.packed(name, args), self._buffer)
                return
            except WorkerDied as death:
                self._died(place, death)

    def _refuse_to_repeat_calls(self, death: Exception) -> None:
        """Raises where a call was under way: what it did before the death is not known."""
        if self._asked is not None and self._asked[0] not in ("step", "reset"):
            self.pending = None
            raise WorkerDied(
                f"{death} It was replaced, but what was called is not known to have happened."
            ) from death

    def _too_late(self, place: int) -> StepTimeout:
        """Ends a worker that takes too long; where none are replaced, raises."""
        handle = self.handles[place]
        late = StepTimeout(
            f"{handle.name()} has not answered within step_timeout_s={self._limit_s:g}."
        )
        if self._replace is None:
            self.pending = None
            raise late
        handle.kill()
        return late


class _Elsewhere(Exception):
    """Another worker than the one waited for has failed."""

    def __init__(self, handle: Handle) -> None:
        super().__init__()
        self.handle = handle


def _countdown(timeout_s: float | None) -> Callable[[], float] | None:
    """Gives the seconds that are left of a time limit; None without one."""
    if timeout_s is None:
        return None
    until_s = time.monotonic() + timeout_s
    return lambda: until_s - time.monotonic()
