"""Calls of the sub-environments' own methods and attributes, of all of them or of some."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import VectorEnv

from vecselect.arguments import one_each
from vecselect.backends.pool.handle import closed_meanwhile
from vecselect.errors import VecselectError, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vecselect.backends.pool.conversation import Arguments, Conversation
    from vecselect.backends.pool.lane import Lane


class LaneCalls(VectorEnv):
    """A vector environment in lanes, as far as no step or reset is concerned."""

    _lane: Lane
    _conversation: Conversation
    _owner: int
    _called: Sequence[int]

    @property
    def np_random(self) -> Any:
        """The generators of the sub-environments, a tuple; those from workers are copies."""
        return self.get_attr("np_random")

    @np_random.setter
    def np_random(self, value: Any) -> None:
        raise AttributeError("The sub-environments have generators of their own; seed by reset.")

    @property
    def np_random_seed(self) -> Any:
        """The seeds of the sub-environments' generators, a tuple."""
        return self.get_attr("np_random_seed")

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of every sub-environment, or reads an attribute that is not callable."""
        return self.call_some(range(self.num_envs), name, args, kwargs)

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Begins a call in the workers; the caller's lane is called in `call_wait`.

        Raises:
            ValueError: For `reset`, `step` and `close`, which would go behind the lanes' backs.
        """
        self.call_some_async(range(self.num_envs), name, args, kwargs)

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Collects what `call_async` began; arguments and errors as in `step_wait`."""
        return self._wait("call", self._call_result, timeout)  # type: ignore[no-any-return]

    def _call_result(self, timeout: float | None) -> tuple[Any, ...]:
        found: dict[int, Any] = {}
        for reply in self._conversation.finish(timeout):
            found.update(reply or {})
        return tuple(found[row] for row in self._called)

    def call_some(
        self,
        indices: Sequence[int],
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ...]:
        """Calls a method of some sub-environments; the results are in the order of `indices`."""
        conversation = self._idle("call")
        try:
            self._ask("call", _call(indices, name, args, kwargs or {}))
            self._called = indices
            return self._call_result(None)
        except Exception as error:
            self._blame_closing(error)
            raise
        finally:
            conversation.pending = None

    def call_some_async(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Begins `call_some`; `call_wait` collects it."""

        def begin() -> None:
            self._ask("call", _call(indices, name, args, kwargs))
            self._called = indices

        self._begin_async("call", begin)

    def render(self) -> tuple[Any, ...]:
        """A frame of every sub-environment, as its render mode gives it."""
        return self.call("render")

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every sub-environment; values from worker processes are copies."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every sub-environment, or of none if one of them refuses.

        Args:
            name: The attribute's name.
            values: A list or tuple of `num_envs` values, or one value for all.
        """
        self.set_attr_some(range(self.num_envs), name, one_each(values, self.num_envs))

    def set_attr_some(self, indices: Sequence[int], name: str, values: Sequence[Any]) -> None:
        """Sets an attribute of some sub-environments, or of none if one of them refuses.

        Args:
            indices: Which of them.
            name: The attribute's name.
            values: As many values.
        """
        value_of = dict(zip(indices, values, strict=True))

        def arguments(rows: range) -> tuple[Any, ...] | None:
            mine = {row: value_of[row] for row in rows if row in value_of}
            return (name, mine) if mine else None

        conversation = self._idle("call")
        try:
            # What cannot be sent raises here, before any lane has set anything.
            self._ask("set_attr", arguments)
            try:
                conversation.finish()
            except (WorkerDied, ClosedEnvironmentError):
                raise
            except Exception:
                undo = lambda rows: None if value_of.keys().isdisjoint(rows) else ()  # noqa: E731
                self._ask("undo_set_attr", undo)
                conversation.finish()
                raise
        except Exception as error:
            self._blame_closing(error)
            raise
        finally:
            conversation.pending = None

    def _ask(self, name: str, arguments: Arguments) -> None:
        """Begins a call of a lane's method in every lane for which there are arguments."""
        conversation, lane = self._begin("call"), self._lane
        conversation.ask_all(name, arguments)
        own = arguments(lane.rows)
        conversation.own(lambda: None if own is None else getattr(lane, name)(*own))

    def _idle(self, kind: str) -> Conversation:
        """The conversation, if a command can be given: whoever gives one sees to `pending`.

        Raises:
            ClosedEnvironmentError: After `close()`.
            AlreadyPendingCallError: If another command is not over.
        """
        self._need_open()
        conversation = self._conversation
        if conversation.pending is not None:
            conversation.refuse(kind)
        return conversation

    def _begin(self, kind: str) -> Conversation:
        """Begins a command, in a `try` whose end sets `pending` to None."""
        conversation = self._conversation
        conversation.pending = kind
        # After that: who closes it looks first whether anything is pending, then takes it apart.
        self._need_open()
        if os.getpid() != self._owner:
            raise VecselectError(
                "This vector environment belongs to the process that this one was forked from. "
                "Make another one here."
            )
        conversation.begin()
        return conversation

    def _begin_async(self, kind: str, begin: Callable[[], None]) -> None:
        """Begins a command that another call collects, unless that fails."""
        conversation = self._idle(kind)
        try:
            begin()
        except BaseException as error:
            conversation.pending = None
            if isinstance(error, Exception):
                self._blame_closing(error)
            raise

    def _wait(
        self, kind: str, collect: Callable[[float | None], Any], timeout: float | None
    ) -> Any:
        """Collects a command that was begun by a call before."""
        self._need_open()
        self._conversation.need_pending(kind)
        try:
            found = collect(timeout)
        except Exception as error:
            self._blame_closing(error)
            raise
        self._conversation.pending = None
        return found

    def _blame_closing(self, error: Exception) -> None:
        """Raises ClosedEnvironmentError where a call failed since it was closed meanwhile."""
        if self.closed and not isinstance(error, ClosedEnvironmentError):
            raise closed_meanwhile() from error

    def _need_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"{self!r} was used after close().")


def _call(
    indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Arguments:
    """What each lane is asked for in a call of some sub-environments."""
    wanted = frozenset(indices)

    def arguments(rows: range) -> tuple[Any, ...] | None:
        mine = [row for row in rows if row in wanted]
        return (name, args, kwargs, mine) if mine else None

    return arguments
