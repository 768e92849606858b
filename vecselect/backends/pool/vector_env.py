"""`PoolVectorEnv`: sub-environments in lanes as Gymnasium's vector environment.

What happens in `step(actions)`, with the file that does it:

    caller                    vector_env     copies the actions into the arena
      |                                        (arena: one batch per leaf, one row per env)
      | GIVEN and               processes      `begin_step`: writes a word of each worker's control
      |   the signal `go`       link             block; `ask` where there is more to say (workers)
      |------------------> worker process
      | steps its own lane    worker           reads its rows of the actions
      |   meanwhile           lane             steps each environment of its slice
      |                       lane             writes observations, rewards and flags into the arena
      |                       infos            (where there are any) writes them into the arena
      |                       worker           writes ANSWERED, gives the signal `done`
      |<------------------                     sends through the pipe what the arena cannot hold
      | waits for `done`      processes      `end_step`: every word ANSWERED, nothing in a pipe;
      |   of each worker        link           else `collect` replaces what has died, raises what
      |                                        was raised, takes replies from pipes (workers)
    caller                    vector_env     copies the batch out of the arena, merges the infos

Threads do the same without processes: a gate stands for the signals, and nothing is pickled (see
`threads`). A reset, and calls of the environments' own methods, take the same way as a `REQUEST`
with its arguments in the pipe.
"""

from __future__ import annotations

import contextlib
import copy as copying
from functools import partial
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate

from vecselect.arguments import action_check
from vecselect.backends.base import need_no_ended_episode
from vecselect.backends.pool.arena import assembled, leaves
from vecselect.backends.pool.commands import LaneCalls, StepResult
from vecselect.backends.pool.construction import construct
from vecselect.backends.pool.lane import Lane, LaneFailure, raised_here
from vecselect.backends.pool.processes import ProcessWorkers
from vecselect.backends.pool.workers import nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.settings import Settings
    from vecselect.backends.pool.workers import Workers


class PoolVectorEnv(LaneCalls):
    """Steps the sub-environments in lanes: one in the calling process, one in each worker.

    The calling process has none where it is asked to keep deadlines.
    Observations, rewards, flags, actions and numeric infos pass through shared memory. Every value
    equals that of Gymnasium's `SyncVectorEnv`, except where that returns an observation which the
    environment has overwritten in the meantime: `final_obs` and `final_info` are always those of
    the episode that ended.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env]],
        settings: Settings,
        kind: Callable[[Settings], Workers] = ProcessWorkers,
    ) -> None:
        """Builds the sub-environments, those of the workers in their processes.

        Args:
            env_fns: One factory per sub-environment.
            settings: How the pool is to run.
            kind: Makes the workers.

        Raises: What `construct` does.
        """
        self.closed: bool = (
            True  # until there is something to close: older Gymnasiums close in __del__
        )
        super().__init__()
        with contextlib.ExitStack() as undo:
            built = construct(env_fns, settings, kind, undo)
            self._describe(built)
            self.copy: bool = settings.copy
            self.autoreset_mode: AutoresetMode = settings.autoreset_mode
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
            self._loans = built.workers.loans
            self._slots = len(arena.observations)
            self._slot = 0
            self.closed = False
            # Runs on garbage collection and before multiprocessing waits for its children at exit,
            # but not in a process that somebody forked from this one.
            self._finalizer = Finalize(self, _leave, (self._workers, self._lane), exitpriority=10)
            undo.pop_all()

    # ---- steps and resets

    def step(self, actions: Any) -> StepResult:
        """Steps every sub-environment: see `LaneCalls.step`."""
        if self._pending is not None or self.closed:
            self.need_idle("step")
        try:
            self._pending = "step"
            workers = self._workers
            if (  # the usual case, which `_begin_step` would get to on a longer way
                type(actions) is np.ndarray
                and actions.dtype is self._action_dtype
                and actions.shape == self._action_shape
                and self._made_in == self.forks
                and not self._refuses_ended
            ):
                if self._slots > 1:
                    self._slot = self._next_slot()
                if workers.each:
                    self._space_actions[...] = actions
                    self._action_codes[0] = self._space_code
                    workers.begin_step(self._slot)
            else:
                actions = self._begin_step(actions)
            failed: LaneFailure | None = None
            try:
                self._lane.step(actions, self._slot)
                over = not workers.each or workers.end_step()
                replies = () if over else workers.collect(None)
            except LaneFailure as failure:
                failed = failure
            if failed is not None:  # not in the handler, which would add to the traceback
                replies = workers.collect(partial(_raise, failed))
            return self._step_result(replies)
        except Exception as error:
            self._blame_closing(error)
            raise
        finally:
            # Not by a call: in that, a signal's handler could raise before anything was done.
            self._pending = None

    def step_async(self, actions: Any) -> None:
        """Begins a step in the workers; the caller's lane steps in `step_wait`."""

        def begin() -> None:
            if not self._lane.rows:
                self._begin_step(actions)
                self._own_work = nothing
                return
            own = self._begin_step(copying.deepcopy(actions))
            self._own_work = lambda: self._lane.step(own, self._slot)

        self._begin_async("step", begin)

    def _end_step(self, timeout_s: float | None) -> StepResult:
        over = False
        if timeout_s is None and self._own_work is nothing and self._workers.each:
            self._own_work = None
            over = self._workers.end_step()
        return self._step_result(() if over else self._collected(timeout_s))

    def _begin_step(self, actions: Any) -> Iterable[Any]:
        """Has the workers step; returns actions that begin with those of the caller's lane."""
        self._pending = "step"
        self._need_usable()
        arena, workers = self._arena, self._workers
        if self._refuses_ended:
            need_no_ended_episode(arena.terminated | arena.truncated)
        actions = self._check_actions(actions)
        self._slot = slot = self._next_slot()
        if workers.each and not arena.put_actions(actions):
            workers.begin()
            listed = list(iterate(self.action_space, actions))
            workers.ask("step", lambda rows: (listed[rows.start : rows.stop],), slot)
            return listed
        workers.begin_step(slot)
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
        arguments, mask = self._read_reset(seed, options)
        before = self._slot
        self._slot = slot = self._next_slot()
        if slot != before:  # the rows that are not reset keep their observations
            for path, batch in arena.observations[slot].items():
                batch[...] = arena.observations[before][path]
        arena.terminated[mask] = arena.truncated[mask] = False
        workers.ask("reset", arguments, slot)
        self._own_work = lambda: lane.reset(*arguments(lane.rows), slot)

    def _end_reset(self, timeout_s: float | None) -> tuple[Any, dict[str, Any]]:
        infos = self._infos(self._collected(timeout_s))
        return self.observations(), infos

    def _next_slot(self) -> int:
        """Where the next observations go."""
        if self._loans is not None:
            return self._loans.next_slot()
        return (self._slot + 1) % self._slots

    def _infos(self, replies: Sequence[Any]) -> dict[str, Any]:
        """The infos of a step or reset; learns templates from those that had none.

        Args:
            replies: What every lane replied, the caller's first; nothing where all is in the arena.
        """
        return self._lane.infos.batch(self._take_in(replies), self._add_info)

    def _take_in(self, replies: Sequence[Any]) -> dict[int, Any]:
        """What lanes have left of infos beside the arena, once that was learned from: see `_infos`.

        Objects among the observations are put into their rows.
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
        if rest:
            for template in lane.infos.learn(rest):
                workers.add_template(template)
        return rest

    def observations(self) -> Any:
        """The last batch of observations, the caller's to keep where that was asked for."""
        copies = self.copy
        if self._loans is not None and (lent := self._loans.lend(self._slot)) is not None:
            arrays, copies = lent, False
        elif self._plain_observations is not None:
            plain = self._plain_observations[self._slot]
            return plain.copy() if copies else plain
        else:
            arrays = self._arena.observations[self._slot]
        parts: list[Any] = []
        for leaf in self._leaves:
            if leaf.dtype is not None:
                array = arrays[leaf.path]
                parts.append(array.copy() if copies else array)
            else:
                values = tuple(self._lane.objects[leaf.path])
                parts.append(copying.deepcopy(values) if self.copy else values)
        return assembled(self.single_observation_space, iter(parts))

    def wait_for_whole(self, kind: str, timeout_s: float | None) -> tuple[Any, ...]:
        """Ends a split step or reset for a vector environment that this is a part of.

        Returns:
            As of `step_wait`, but the infos as they came, each with its row: only the whole knows
            the array that the values of one key need.
        """

        def collect(left_s: float | None) -> tuple[Any, ...]:
            infos = [*self._lane.infos.each(self._take_in(self._collected(left_s)))]
            arena = self._arena
            flags = arena.terminated.copy(), arena.truncated.copy()
            return self.observations(), arena.rewards.copy(), *flags, infos

        return self._wait(kind, collect, timeout_s)  # type: ignore[no-any-return]

    # ---- closing

    def _close_lane(self) -> None:
        lane = self._lane
        if self._pending is None:  # else a call is under way that would stumble
            del self._lane, self._arena, self._workers
            del self._space_actions, self._action_codes  # and what else holds the memory
            self._plain_observations = self._loans = None
        failed: LaneFailure | None = None
        try:
            lane.close()
        except LaneFailure as failure:
            failed = failure
        if failed is not None:
            raise raised_here(failed)


def _raise(error: Exception) -> NoReturn:
    raise error


def _leave(workers: Workers, lane: Lane) -> None:
    """Closes what a vector environment that was not closed has left open."""
    workers.end()
    with contextlib.suppress(LaneFailure):  # there is nobody left to tell
        lane.close()
