"""`PoolVectorEnv`: sub-environments in lanes as Gymnasium's vector environment.

What happens in `step(actions)`, with the file that does it:

    caller                    vector_env     copies the actions into the arena
      |                                        (arena: one batch per leaf, one row per env)
      | GIVEN and               process      writes a word of the worker's control block
      |   the signal `go`       link
      |------------------> worker process
      | steps its own lane    worker           reads its rows of the actions
      |   meanwhile           lane             steps each environment of its slice
      |                       lane             writes observations, rewards and flags into the arena
      |                       infos            writes numeric infos into columns of the arena
      |                       worker           writes ANSWERED, gives the signal `done`
      |<------------------                     sends through the pipe what the arena cannot hold
      | waits for `done`      process
      |   of each worker      workers        replaces what has died, raises what was raised
    caller                    vector_env     copies the batch out of the arena, merges the infos

Threads do the same without processes: a gate stands for the signals, and nothing is pickled (see
`threads`). A reset, and calls of the environments' own methods, take the same way as a `REQUEST`
with its arguments in the pipe.
"""

from __future__ import annotations

import contextlib
import copy as copying
import multiprocessing
import os
from functools import partial
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from vecselect.arguments import action_check, one_each, read_options, seed_of_each
from vecselect.backends.base import need_no_ended_episode
from vecselect.backends.pool.arena import assembled, leaves
from vecselect.backends.pool.construction import construct
from vecselect.backends.pool.lane import Lane, LaneFailure, raised_here
from vecselect.backends.pool.process import ProcessWorkers
from vecselect.backends.pool.workers import CLOSE_LIMIT_S, PENDING, closed_meanwhile
from vecselect.errors import VecselectError, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.workers import Arguments, Settings, Workers

_process_id = os.getpid()  # asking the system takes as long as a good part of a step


def _note_fork() -> None:
    global _process_id
    _process_id = os.getpid()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)

StepResult = tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class PoolVectorEnv(VectorEnv):
    """Steps the sub-environments in lanes: one in the calling process, one in each worker.

    The calling process has none where it is asked to keep deadlines.
    Observations, rewards, flags, actions and numeric infos pass through shared memory. Every value
    equals that of Gymnasium's `SyncVectorEnv`, except where that returns an observation which the
    environment has overwritten in the meantime: `final_obs` and `final_info` are always those of
    the episode that ended.
    """

    _kind: Callable[[Settings], Workers] = ProcessWorkers

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]], settings: Settings) -> None:
        """Builds the sub-environments, those of the workers in their processes.

        Args:
            env_fns: One factory per sub-environment.
            settings: How the pool is to run.

        Raises: What `construct` does.
        """
        self.closed = True  # until there is something to close: older Gymnasiums close in __del__
        built = construct(env_fns, settings, self._kind)
        first = built.first
        self.num_envs = len(env_fns)
        self.copy = settings.copy
        self.autoreset_mode = settings.autoreset_mode
        self.metadata = {**first.metadata, "autoreset_mode": settings.autoreset_mode}
        self.render_mode = first.render_mode
        self.single_observation_space = built.spec.observation_space
        self.observation_space = built.observation_space
        self.single_action_space = first.action_space
        self.action_space = batch_space(first.action_space, self.num_envs)
        self._leaves = tuple(leaves(self.single_observation_space))
        self._check_actions = action_check(
            self.action_space, self.single_action_space, self.num_envs
        )
        self._workers = built.workers
        self._arena = arena = built.workers.arena
        self._lane = Lane(built.envs, 0, built.spec, arena)
        # Where actions and observations are one array each, what a step needs of them.
        self._plain_actions = arena.plain_actions
        self._action_dtype = arena.action_dtype
        self._space_code, self._space_actions = arena.space_code, arena.space_actions
        self._action_codes: Any = arena.action_dtypes.data
        self._action_shape = self.action_space.shape
        plain = self._leaves[0].path == () and self._leaves[0].dtype is not None
        self._plain_observations = [part[()] for part in arena.observations] if plain else None
        self._refuses_ended = self.autoreset_mode is AutoresetMode.DISABLED
        self._no_infos = bytes(self.num_envs)
        self._buffers = len(arena.observations)
        self._buffer = 0
        self._owner = _process_id
        self._called: Sequence[int] = ()
        self._rest: dict[int, Any] = {}
        self._own_work: Callable[[], Any] | None = None
        # The command that was begun and is not over. Whoever gives one sets this first of all, and
        # to None when it is over, however that comes: so what a signal's handler tries in the midst
        # of it is refused.
        self._pending: str | None = None
        self.closed = False
        # Runs on garbage collection and before multiprocessing waits for its children at exit, but
        # not in a process that somebody forked from this one.
        self._finalizer = Finalize(self, _leave, (self._workers, self._lane), exitpriority=10)

    # ---- steps and resets

    def step(self, actions: Any) -> StepResult:
        """Steps every sub-environment; arguments and results as in `SyncVectorEnv`.

        Raises:
            WorkerDied: If a worker's process ended.
            Exception: What a sub-environment raised; `reset` makes all of them usable again.
        """
        if self._pending is not None or self.closed:
            self.need_idle("step")
        try:
            self._pending = "step"
            workers = self._workers
            if (  # the usual case, which `_begin_step` would get to on a longer way
                type(actions) is np.ndarray
                and actions.dtype is self._action_dtype
                and actions.shape == self._action_shape
                and self._owner == _process_id
                and not self._refuses_ended
            ):
                self._buffer = buffer = (self._buffer + 1) % self._buffers
                if workers.each:
                    self._space_actions[...] = actions
                    self._action_codes[0] = self._space_code
                workers.begin_step(buffer)
            else:
                actions = self._begin_step(actions)
            try:
                self._lane.step(actions, self._buffer)
                replies = () if workers.end_step() else workers.collect(None)
            except LaneFailure as failure:
                replies = workers.collect(partial(_raise, failure))
            return self._step_result(replies)
        except Exception as error:
            self._blame_closing(error)
            raise
        finally:
            # Not by a call: in that, a signal's handler could raise before anything was done.
            self._pending = None

    def step_async(self, actions: Any) -> None:
        """Begins a step in the workers; the caller's lane steps in `step_wait`.

        Raises:
            AlreadyPendingCallError: If another call waits to be collected.
        """

        def begin() -> None:
            own = self._begin_step(copying.deepcopy(actions))
            self._own_work = lambda: self._lane.step(own, self._buffer)

        self._begin_async("step", begin)

    def step_wait(self, timeout: float | None = None) -> StepResult:
        """Collects what `step_async` began.

        Args:
            timeout: Seconds to wait for the workers, after the caller's own lane has stepped.

        Raises:
            NoAsyncCallError: Without a `step_async` before it.
            multiprocessing.TimeoutError: If the time ran out; another `step_wait` collects it.
        """
        collect = lambda timeout_s: self._step_result(self._collected(timeout_s))  # noqa: E731
        return self._wait("step", collect, timeout)  # type: ignore[no-any-return]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the sub-environments; arguments and results as in `SyncVectorEnv`."""

        def both() -> tuple[Any, dict[str, Any]]:
            self._begin_reset(seed, options)
            return self._reset_result(None)

        return self._done("reset", both)  # type: ignore[no-any-return]

    def reset_async(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Begins a reset in the workers; the caller's lane resets in `reset_wait`."""
        self._begin_async("reset", lambda: self._begin_reset(seed, options))

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Collects what `reset_async` began; arguments and errors as in `step_wait`."""
        return self._wait("reset", self._reset_result, timeout)  # type: ignore[no-any-return]

    def _begin_step(self, actions: Any) -> Iterable[Any]:
        """Has the workers step; returns actions that begin with those of the caller's lane."""
        self._pending = "step"
        self._need_usable()
        arena, workers = self._arena, self._workers
        if self._refuses_ended:
            need_no_ended_episode(arena.terminated | arena.truncated)
        self._check_actions(actions)
        self._buffer = buffer = (self._buffer + 1) % self._buffers
        workers.begin()
        if workers.each and not arena.put_actions(actions):
            listed = list(iterate(self.action_space, actions))
            workers.ask("step", lambda rows: (listed[rows.start : rows.stop],), buffer)
            return listed
        workers.step(buffer)
        return actions if self._plain_actions else iterate(self.action_space, actions)

    def _step_result(self, replies: Sequence[Any]) -> StepResult:
        arena = self._arena
        has_infos = replies or arena.info_ids_data.tobytes() != self._no_infos
        infos = self._infos(replies) if has_infos else {}
        return (
            self.observations(),
            arena.rewards.copy(),
            arena.terminated.copy(),
            arena.truncated.copy(),
            infos,
        )

    def _begin_reset(self, seed: Any, options: dict[str, Any] | None) -> None:
        workers = self._begin("reset")
        lane, arena = self._lane, self._arena
        seeds = seed_of_each(seed, self.num_envs)
        options = read_options(options, self.num_envs)
        every = np.ones(self.num_envs, np.bool_)
        mask = every if options is None else options.pop("reset_mask", every)
        before = self._buffer
        self._buffer = buffer = (before + 1) % len(arena.observations)
        if buffer != before:  # the rows that are not reset keep their observations
            for path, batch in arena.observations[buffer].items():
                batch[...] = arena.observations[before][path]
        arena.terminated[mask] = arena.truncated[mask] = False
        wanted = mask.tolist()

        def arguments(rows: range) -> tuple[list[int | None], dict[str, Any] | None, list[bool]]:
            return seeds[rows.start : rows.stop], options, wanted[rows.start : rows.stop]

        workers.ask("reset", arguments, buffer)
        self._own_work = lambda: lane.reset(*arguments(lane.rows), buffer)

    def _reset_result(self, timeout_s: float | None) -> tuple[Any, dict[str, Any]]:
        infos = self._infos(self._collected(timeout_s))
        return self.observations(), infos

    def _infos(self, replies: Sequence[Any]) -> dict[str, Any]:
        """The infos of a step or reset; learns templates from those that had none.

        Args:
            replies: What every lane replied, the caller's first; nothing where all is in the arena.
        """
        lane, workers = self._lane, self._workers
        rest = lane.infos.rest
        if replies:
            for worker, reply in zip(workers.each, replies[1:], strict=True):
                if reply is not None:
                    infos, objects = reply
                    rest = {**rest, **infos}
                    for path, values in objects.items():
                        lane.objects[path][worker.rows.start : worker.rows.stop] = values
        self._rest = rest
        batched = lane.infos.batch(rest, self._add_info)
        if rest:
            for template in lane.infos.learn(rest):
                workers.add_template(template)
        return batched

    def observations(self) -> Any:
        """The last batch of observations, the caller's to keep where that was asked for."""
        plain = self._plain_observations
        if plain is not None:
            return plain[self._buffer].copy() if self.copy else plain[self._buffer]
        arrays = self._arena.observations[self._buffer]
        parts: list[Any] = []
        for leaf in self._leaves:
            if leaf.dtype is not None:
                array = arrays[leaf.path]
                parts.append(array.copy() if self.copy else array)
            else:
                values = tuple(self._lane.objects[leaf.path])
                parts.append(copying.deepcopy(values) if self.copy else values)
        return assembled(self.single_observation_space, iter(parts))

    # ---- calls of the sub-environments' own methods and attributes

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

        def both() -> tuple[Any, ...]:
            self._begin_call(indices, name, args, kwargs or {})
            return self._call_result(None)

        return self._done("call", both)  # type: ignore[no-any-return]

    def call_some_async(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Begins `call_some`; `call_wait` collects it."""
        self._begin_async("call", lambda: self._begin_call(indices, name, args, kwargs))

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

    def infos(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The infos of the last step or reset, each with its row, in the order of the rows."""
        return self._lane.infos.each(self._rest)

    def need_idle(self, kind: str) -> None:
        """Makes sure that a command can be given: whoever gives one sees to `_pending`.

        Raises:
            ClosedEnvironmentError: After `close()`.
            AlreadyPendingCallError: If another command is not over.
        """
        self._need_open()
        if self._pending is not None:
            raise AlreadyPendingCallError(
                f"Calling `{kind}` while waiting for a pending call to `{self._pending}` to "
                "complete.",
                self._pending,
            )

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
        if self._owner != _process_id:
            raise VecselectError(
                "This vector environment belongs to the process that this one was forked from. "
                "Make another one here."
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
            raise NoAsyncCallError(
                f"Calling `{kind}_wait` without any prior call to `{kind}_async`.", kind
            )
        over = True
        try:
            return collect(timeout_s)
        except _StillPending:
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
        replies = self._workers.collect(own, timeout_s)
        if replies is PENDING:
            raise _StillPending
        return replies  # type: ignore[no-any-return]

    def _blame_closing(self, error: Exception) -> None:
        """Raises ClosedEnvironmentError where a call failed since it was closed meanwhile."""
        if self.closed and not isinstance(error, ClosedEnvironmentError):
            raise closed_meanwhile() from error

    # ---- closing

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Closes every sub-environment and ends every worker.

        Args:
            timeout: Seconds the workers may take to end by themselves; 4 by default.
            terminate: Whether to end them without waiting.
        """
        self._finalizer.cancel()
        if self._owner != _process_id:  # all of it is the business of the process we come from
            return
        self.closed = True
        limit_s = CLOSE_LIMIT_S if timeout is None else timeout
        lane, workers = self._lane, self._workers
        try:
            workers.end(0.0 if terminate else limit_s)
        finally:
            if self._pending is None:  # else a call is under way that would stumble
                del self._lane, self._arena, self._workers
            try:
                lane.close()
            except LaneFailure as failure:
                raise raised_here(failure) from None

    def __reduce__(self) -> Any:
        """Refused, and with it copying: two of them could not share the workers."""
        raise VecselectError(
            f"A {type(self).__name__} cannot be copied or pickled; make another with auto_make_vec."
        )


class _StillPending(Exception):
    """The time that the user gave `step_wait` and the like has run out."""


def _raise(error: Exception) -> NoReturn:
    raise error


def _leave(workers: Workers, lane: Lane) -> None:
    """Closes what a vector environment that was not closed has left open."""
    workers.end()
    with contextlib.suppress(LaneFailure):  # there is nobody left to tell
        lane.close()
