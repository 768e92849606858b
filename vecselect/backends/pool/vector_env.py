"""`PoolVectorEnv`: the pool as Gymnasium's vector environment."""

from __future__ import annotations

import contextlib
import copy as copying
import functools
import itertools
import os
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, iterate

from vecselect.arguments import action_check, read_options, seed_of_each
from vecselect.backends.base import need_no_ended_episode
from vecselect.backends.pool.calls import LaneCalls
from vecselect.backends.pool.construction import construct
from vecselect.backends.pool.conversation import Conversation
from vecselect.backends.pool.handle import CLOSE_LIMIT_S
from vecselect.backends.pool.infos import InfoTable
from vecselect.backends.pool.lane import Lane, LaneFailure, keep_copied, raised_here
from vecselect.backends.pool.layout import assembled, leaves
from vecselect.backends.pool.starter import ProcessStarter
from vecselect.errors import VecselectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.construction import Parts, Settings
    from vecselect.backends.pool.handle import Handle
    from vecselect.backends.pool.infos import Extra
    from vecselect.backends.pool.starter import Starter

StepResult = tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class PoolVectorEnv(LaneCalls):
    """Steps the sub-environments in lanes: one in the calling process, one in each worker.

    The calling process has none where it is asked to keep deadlines: see `vecselect.lanes`.
    Observations, rewards, flags, actions and numeric infos pass through shared memory. Every value
    equals that of Gymnasium's `SyncVectorEnv`, except where that returns an observation which the
    environment has overwritten in the meantime: `final_obs` and `final_info` are always those of
    the episode that ended.
    """

    _workers: type[Starter] = ProcessStarter

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]], settings: Settings) -> None:
        """Builds the sub-environments, those of the workers in their processes.

        Args:
            env_fns: One factory per sub-environment.
            settings: How the pool is to run.

        Raises: What `construct` does.
        """
        self.closed = True  # until there is something to close: older Gymnasiums close in __del__
        parts = construct(env_fns, settings, self._workers)
        self._set_up(parts, len(env_fns), settings)

    def _set_up(self, parts: Parts, num_envs: int, settings: Settings) -> None:
        """Begins to use what was built."""
        first = parts.first
        self.num_envs = num_envs
        self.copy = settings.copy
        self.autoreset_mode = settings.autoreset_mode
        self.metadata = {**first.metadata, "autoreset_mode": settings.autoreset_mode}
        self.render_mode = first.render_mode
        self.single_observation_space = parts.single_observation_space
        self.observation_space = parts.observation_space
        self.single_action_space = first.action_space
        self.action_space = batch_space(first.action_space, self.num_envs)
        self._leaves = tuple(leaves(self.single_observation_space))
        self._check_actions = action_check(
            self.action_space, self.single_action_space, self.num_envs
        )
        self._arena = parts.arena
        self._infos = InfoTable(parts.arena)
        self._lane = Lane(
            parts.envs,
            0,
            self.single_observation_space,
            settings.autoreset_mode,
            parts.arena,
            self._infos,
            keep=dict,
            keep_final=keep_copied,
        )
        self._own = len(parts.envs)
        self._plain_actions = parts.arena.plain_actions
        self._buffer = 0
        self._owner = os.getpid()
        self._handles = parts.handles
        self._starter = parts.starter
        replace = functools.partial(self._starter.replaced, self._infos)
        self._conversation = Conversation(
            parts.handles,
            settings.step_timeout_s,
            replace if settings.restart else None,
            self._starter.let_go,
        )
        self.closed = False
        # Runs on garbage collection and before multiprocessing waits for its children at exit, but
        # not in a process that somebody forked from this one.
        self._finalizer = Finalize(
            self, _leave, (self._workers, self._handles, self._lane), exitpriority=10
        )

    def step(self, actions: Any) -> StepResult:
        """Steps every sub-environment; arguments and results as in `SyncVectorEnv`.

        Raises:
            WorkerDied: If a worker's process ended.
            Exception: What a sub-environment raised; `reset` makes all of them usable again.
        """
        conversation = self._idle("step")
        try:
            self._send_step(actions)
            return self._step_result(None)
        except Exception as error:
            self._blame_closing(error)
            raise
        finally:
            # Not by a call: in that, a signal's handler could raise before anything was done.
            conversation.pending = None

    def step_async(self, actions: Any) -> None:
        """Begins a step in the workers; the caller's lane steps in `step_wait`.

        Raises:
            AlreadyPendingCallError: If another call waits to be collected.
        """
        self._begin_async("step", lambda: self._send_step(copying.deepcopy(actions)))

    def step_wait(self, timeout: float | None = None) -> StepResult:
        """Collects what `step_async` began.

        Args:
            timeout: Seconds to wait for the workers, after the caller's own lane has stepped.

        Raises:
            NoAsyncCallError: Without a `step_async` before it.
            multiprocessing.TimeoutError: If the time ran out; another `step_wait` collects it.
        """
        return self._wait("step", self._step_result, timeout)  # type: ignore[no-any-return]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the sub-environments; arguments and results as in `SyncVectorEnv`."""
        conversation = self._idle("reset")
        try:
            self._send_reset(seed, options)
            return self._reset_result(None)
        except Exception as error:
            self._blame_closing(error)
            raise
        finally:
            conversation.pending = None

    def reset_async(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Begins a reset in the workers; the caller's lane resets in `reset_wait`."""
        self._begin_async("reset", lambda: self._send_reset(seed, options))

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Collects what `reset_async` began; arguments and errors as in `step_wait`."""
        return self._wait("reset", self._reset_result, timeout)  # type: ignore[no-any-return]

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Closes every sub-environment and ends every worker.

        Args:
            timeout: Seconds the workers may take to end by themselves; 4 by default.
            terminate: Whether to end them without waiting.
        """
        self._finalizer.cancel()
        if os.getpid() != self._owner:  # all of it is the business of the process we come from
            return
        self.closed = self._conversation.closed = True
        patience_s = CLOSE_LIMIT_S if timeout is None else timeout
        lane, starter = self._lane, self._starter
        try:
            self._workers.end_all(self._handles, 0.0 if terminate else patience_s)
        finally:
            starter.need_no_more()
            if self._conversation.pending is None:  # else a call is under way that would stumble
                self._conversation = Conversation([])
                self._handles.clear()
                del self._lane, self._arena, self._infos, self._starter
            try:
                lane.close()
            except LaneFailure as failure:
                raise raised_here(failure) from None

    def _send_step(self, actions: Any) -> None:
        conversation = self._begin("step")
        if self.autoreset_mode is AutoresetMode.DISABLED:
            need_no_ended_episode(self._arena.terminated | self._arena.truncated)
        lane = self._lane
        self._buffer = buffer = (self._buffer + 1) % len(self._arena.observations)
        own: Iterable[Any]
        if not self._handles:
            if getattr(actions, "shape", None) != self.action_space.shape:
                self._check_actions(actions)
            own = actions if self._plain_actions else iterate(self.action_space, actions)
        elif self._arena.put_actions(actions):
            conversation.step_all(buffer)
            if self._plain_actions:
                own = actions[: self._own]
            else:
                own = itertools.islice(iterate(self.action_space, actions), self._own)
        else:
            self._check_actions(actions)
            listed = list(iterate(self.action_space, actions))
            rows_of = lambda rows: (listed[rows.start : rows.stop],)  # noqa: E731
            conversation.ask_all("step", rows_of, buffer)
            own = listed[: self._own]
        conversation.own(lambda: lane.step(own, buffer))

    def _step_result(self, timeout: float | None) -> StepResult:
        infos = self._finished_infos(timeout)
        arena = self._arena
        return (
            self._observations(),
            arena.rewards.copy(),
            arena.terminated.copy(),
            arena.truncated.copy(),
            infos,
        )

    def _send_reset(self, seed: Any, options: dict[str, Any] | None) -> None:
        conversation = self._begin("reset")
        lane, arena = self._lane, self._arena
        seeds = seed_of_each(seed, self.num_envs)
        self._starter.note_seeds(seeds)
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

        conversation.ask_all("reset", arguments, buffer)
        conversation.own(lambda: lane.reset(*arguments(lane.rows), buffer))

    def _reset_result(self, timeout: float | None) -> tuple[Any, dict[str, Any]]:
        infos = self._finished_infos(timeout)
        return self._observations(), infos

    def _finished_infos(self, timeout: float | None) -> dict[str, Any]:
        """Collects a step or reset; learns templates from the infos that were in no column."""
        replies = self._conversation.finish(timeout)
        loose = self._lane.loose
        for handle, reply in zip(self._handles, replies[1:], strict=True):
            if reply is not None:
                infos, objects = reply
                loose = loose + [(row, handle.read_info(info)) for row, info in infos]
                for path, values in objects.items():
                    self._lane.objects[path][handle.rows.start : handle.rows.stop] = values
        batched = self._infos.batch(loose, self._add_info)
        if loose:
            self._learn(loose)
        return batched

    def _learn(self, loose: list[Extra]) -> None:
        """Makes templates of infos that were in no column, and tells every lane."""
        for _, info in loose:
            if (template := self._infos.learn(info)) is not None:
                self._infos.add([template])
                for handle in self._handles:
                    handle.news.append(template)

    def _observations(self) -> Any:
        """The batch of observations, the caller's to keep where that was asked for."""
        arrays = self._arena.observations[self._buffer]
        if len(self._leaves) == 1 and () in arrays:
            return arrays[()].copy() if self.copy else arrays[()]
        parts: list[Any] = []
        for leaf in self._leaves:
            if leaf.dtype is not None:
                array = arrays[leaf.path]
                parts.append(array.copy() if self.copy else array)
            else:
                values = tuple(self._lane.objects[leaf.path])
                parts.append(copying.deepcopy(values) if self.copy else values)
        return assembled(self.single_observation_space, iter(parts))

    def __reduce__(self) -> Any:
        """Refused, and with it copying: two of them could not share the workers."""
        raise VecselectError(
            f"A {type(self).__name__} cannot be copied or pickled; make another with auto_make_vec."
        )


def _leave(workers: type[Starter], handles: list[Handle], lane: Lane) -> None:
    """Closes what a vector environment that was not closed has left open."""
    workers.end_all(handles)
    with contextlib.suppress(LaneFailure):  # there is nobody left to tell
        lane.close()
