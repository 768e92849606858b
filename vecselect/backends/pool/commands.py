"""One command at a time for the lanes of a vector environment, and calls of what they run."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from vecselect.arguments import one_each, read_reset
from vecselect.backends.base import already_pending, nothing_pending
from vecselect.backends.pool.workers import CLOSE_LIMIT_S, StillPending, closed_meanwhile
from vecselect.errors import VecselectError, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from multiprocessing.util import Finalize

    import gymnasium as gym

    from vecselect.backends.pool.construction import Built
    from vecselect.backends.pool.lane import Lane
    from vecselect.backends.pool.workers import Arguments, Workers


StepResult = tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]
LaneReset = tuple[list[int | None], dict[str, Any] | None, list[bool]]
"""Seeds, options and mask of the rows of a lane."""


class LaneCalls(VectorEnv):
    """The calls of a vector environment in lanes, whose subclasses begin and end steps and resets.

    It has one command at a time: one that is begun must be over before the next.

    Attributes:
        forks: How often the processes were forked of which this one is the last. It tells who made
            a vector environment in a tenth of the time in which the system tells a process's id.
    """

    forks: ClassVar[int] = 0
    _workers: Workers
    _lane: Lane
    _finalizer: Finalize

    def __init__(self) -> None:
        """Belongs to this process; there is nothing to give commands to yet."""
        self._made_in = self.forks
        self._called: Sequence[int] = ()
        self._own_work: Callable[[], Any] | None = None
        # The command that was begun and is not over. Whoever gives one sets this first of all, and
        # to None when it is over, however that comes: so what a signal's handler tries in the midst
        # of it is refused.
        self._pending: str | None = None

    def _describe(self, built: Built) -> None:
        """Sets what a vector environment says of itself, from what it is made of."""
        first, spec = built.first, built.spec
        self.num_envs: int = spec.layout.num_envs
        self.metadata: dict[str, Any] = {**first.metadata, "autoreset_mode": spec.autoreset_mode}
        self.render_mode: str | None = first.render_mode
        self.single_observation_space: gym.Space[Any] = spec.observation_space
        self.observation_space: gym.Space[Any] = built.observation_space
        self.single_action_space: gym.Space[Any] = first.action_space
        self.action_space: gym.Space[Any] = batch_space(first.action_space, self.num_envs)

    # ---- steps and resets

    def _begin_step(self, actions: Any) -> Any:
        raise NotImplementedError

    def _end_step(self, timeout_s: float | None) -> StepResult:
        raise NotImplementedError

    def _begin_reset(self, seed: Any, options: dict[str, Any] | None) -> None:
        raise NotImplementedError

    def _end_reset(self, timeout_s: float | None) -> tuple[Any, dict[str, Any]]:
        raise NotImplementedError

    def step(self, actions: Any) -> StepResult:
        """Steps every sub-environment; arguments and results as in `SyncVectorEnv`.

        Raises:
            WorkerDied: If a worker's process ended.
            Exception: What a sub-environment raised; `reset` makes all of them usable again.
        """
        begin = partial(self._begin_step, actions)
        return self._joined("step", begin, self._end_step)  # type: ignore[no-any-return]

    def step_async(self, actions: Any) -> None:
        """Begins a step in the workers; the caller's lane steps in `step_wait`.

        Raises:
            AlreadyPendingCallError: If another call waits to be collected.
        """
        self._begin_async("step", partial(self._begin_step, actions))

    def step_wait(self, timeout: float | None = None) -> StepResult:
        """Collects what `step_async` began.

        Args:
            timeout: Seconds to wait for the workers, after the caller's own lane has stepped.

        Raises:
            NoAsyncCallError: Without a `step_async` before it.
            multiprocessing.TimeoutError: If the time ran out; another `step_wait` collects it.
        """
        return self._wait("step", self._end_step, timeout)  # type: ignore[no-any-return]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the sub-environments; arguments and results as in `SyncVectorEnv`."""
        begin = partial(self._begin_reset, seed, options)
        return self._joined("reset", begin, self._end_reset)  # type: ignore[no-any-return]

    def reset_async(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Begins a reset in the workers; the caller's lane resets in `reset_wait`."""
        self._begin_async("reset", partial(self._begin_reset, seed, options))

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Collects what `reset_async` began; arguments and errors as in `step_wait`."""
        return self._wait("reset", self._end_reset, timeout)  # type: ignore[no-any-return]

    def _read_reset(
        self, seed: Any, options: dict[str, Any] | None
    ) -> tuple[Callable[[range], LaneReset], np.ndarray]:
        """What each lane is given of a reset, and the mask of the rows that it is for."""
        seeds, options, mask = read_reset(seed, options, self.num_envs)
        wanted = mask.tolist()

        def arguments(rows: range) -> LaneReset:
            return seeds[rows.start : rows.stop], options, wanted[rows.start : rows.stop]

        return arguments, mask

    # ---- closing

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Closes every sub-environment and ends every worker.

        Args:
            timeout: Seconds the workers may take to end by themselves; 4 by default.
            terminate: Whether to end them without waiting.
        """
        self._finalizer.cancel()
        if self._made_in != self.forks:  # all of it is the business of the process we come from
            return
        self.closed = True
        limit_s = CLOSE_LIMIT_S if timeout is None else timeout
        try:
            self._workers.end(0.0 if terminate else limit_s)
        finally:
            self._close_lane()

    def _close_lane(self) -> None:
        """Closes what the calling process steps itself, once the workers have ended: nothing."""

    # ---- calls of the sub-environments' own methods and attributes

    @property
    def np_random(self) -> Any:
        """The generators of the sub-environments, a tuple; those from workers are copies."""
        return self.get_attr("np_random")

    @np_random.setter
    def np_random(self, value: Any) -> None:
        raise AttributeError(
            "A vector environment has no random generator of its own to set: its "
            "sub-environments have. Seed them by reset(seed=...)."
        )

    @property
    def np_random_seed(self) -> Any:
        """The seeds of the sub-environments' generators, a tuple."""
        return self.get_attr("np_random_seed")

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of every sub-environment, or reads an attribute that is not callable."""
        return self.call_some(range(self.num_envs), name, args, kwargs)

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Begins a call in the workers; the caller's lane is called in `call_wait`.

        Raises:
            ValueError: For `reset`, `step` and `close`, of which the lanes would not know.
        """
        self.call_some_async(range(self.num_envs), name, args, kwargs)

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Collects what `call_async` began; arguments and errors as in `step_wait`."""
        return self._wait("call", self._call_result, timeout)  # type: ignore[no-any-return]

    def call_some(
        self,
        indices: Sequence[int],
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ...]:
        """Calls a method of some sub-environments; the results are in the order of `indices`."""
        begin = partial(self._begin_call, indices, name, args, kwargs or {})
        return self._joined("call", begin, self._call_result)  # type: ignore[no-any-return]

    def call_some_async(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Begins `call_some`; `call_wait` collects it."""
        self._begin_async("call", partial(self._begin_call, indices, name, args, kwargs))

    def _begin_call(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        wanted = frozenset(indices)

        def arguments(rows: range) -> tuple[Any, ...] | None:
            mine = [row for row in rows if row in wanted]
            return (name, args, kwargs, mine) if mine else None

        self._ask("call", arguments)
        self._called = indices

    def _call_result(self, timeout_s: float | None) -> tuple[Any, ...]:
        found: dict[int, Any] = {}
        for reply in self._collected(timeout_s):
            found.update(reply or {})
        return tuple(found[row] for row in self._called)

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

        def set_or_undo() -> None:
            # What cannot be sent raises here, before any lane has set anything.
            self._ask("set_attr", arguments)
            try:
                self._collected(None)
            except (WorkerDied, ClosedEnvironmentError):
                raise
            except Exception:
                self._undo(value_of)
                raise

        self._done("call", set_or_undo)

    def undo_set_attr(self, indices: Sequence[int]) -> None:
        """Takes back the last `set_attr_some`, which was of these sub-environments."""
        self._done("call", lambda: self._undo(indices))

    def _undo(self, some: Iterable[int]) -> None:
        self._ask("undo_set_attr", lambda rows: () if any(row in rows for row in some) else None)
        self._collected(None)

    def _ask(self, name: str, arguments: Arguments) -> None:
        """Begins a call of a lane's method in every lane for which there are arguments."""
        self._begin("call").ask(name, arguments)
        lane = self._lane
        own = arguments(lane.rows)
        self._own_work = lambda: None if own is None else getattr(lane, name)(*own)

    # ---- one command at a time

    def abandon(self) -> None:
        """Forgets the split call that was begun; the next call drops what comes of it."""
        self._pending = None

    def need_idle(self, kind: str) -> None:
        """Makes sure that a command can be given: whoever gives one sees to `_pending`.

        Raises:
            ClosedEnvironmentError: After `close()`.
            AlreadyPendingCallError: If another command is not over.
        """
        self._need_open()
        if self._pending is not None:
            raise already_pending(kind, self._pending)

    def _need_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"{self!r} was used after close().")

    def _begin(self, kind: str) -> Workers:
        """Begins a command, in a `try` whose end sets `_pending` to None."""
        self._pending = kind
        self._need_usable()
        self._workers.begin()
        return self._workers

    def _need_usable(self) -> None:
        """Makes sure that it is open, and this process's own; once `_pending` is set.

        Who closes it looks first whether anything is pending, then takes it apart.
        """
        self._need_open()
        if self._made_in != self.forks:
            raise VecselectError(
                "This vector environment works only in the process that made it, not in one "
                "forked from it. Make another one in this process."
            )

    def _done(self, kind: str, work: Callable[[], Any]) -> Any:
        """Begins a command and collects it."""
        self.need_idle(kind)
        try:
            return work()
        except Exception as error:
            self._blame_closing(error)
            raise
        finally:
            self._pending = None

    def _joined(
        self, kind: str, begin: Callable[[], Any], collect: Callable[[float | None], Any]
    ) -> Any:
        """Begins a command and collects it at once."""

        def both() -> Any:
            begin()
            return collect(None)

        return self._done(kind, both)

    def _begin_async(self, kind: str, begin: Callable[[], None]) -> None:
        """Begins a command that another call collects, unless that fails."""
        self.need_idle(kind)
        try:
            begin()
        except BaseException as error:
            self._pending = None
            if isinstance(error, Exception):
                self._blame_closing(error)
            raise

    def _wait(
        self, kind: str, collect: Callable[[float | None], Any], timeout_s: float | None
    ) -> Any:
        """Collects a command that was begun by a call before."""
        self._need_open()
        if self._pending != kind:
            raise nothing_pending(kind)
        over = True
        try:
            return collect(timeout_s)
        except StillPending:
            over = False
            raise multiprocessing.TimeoutError(
                f"`{kind}_wait` timed out after {timeout_s} s. The {kind} is still pending: "
                f"another `{kind}_wait` collects it."
            ) from None
        except Exception as error:
            self._blame_closing(error)
            raise
        finally:
            if over:
                self._pending = None

    def _collected(self, timeout_s: float | None) -> list[Any]:
        """What every lane replied, the caller's first; raises what any of them raised."""
        own, self._own_work = self._own_work, None
        return self._workers.collect(own, timeout_s)

    def __reduce__(self) -> Any:
        """Refused, and with it copying: two of them could not share the workers."""
        raise VecselectError(
            f"A {type(self).__name__} cannot be copied or pickled; make another with auto_make_vec."
        )

    def _blame_closing(self, error: Exception) -> None:
        """Raises ClosedEnvironmentError where a call failed since it was closed meanwhile."""
        if self.closed and not isinstance(error, ClosedEnvironmentError):
            raise closed_meanwhile() from error


def _note_fork() -> None:
    LaneCalls.forks += 1


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)
