"""A lane: a contiguous slice of sub-environments that one process or thread steps into the arena.

It needs neither processes nor threads. The caller has a lane of its own, each worker has one, and
all of them are made from the same `LaneSpec`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode

from vecselect.backends.pool.arena import leaves, writer
from vecselect.backends.pool.infos import InfoTable, snapshot
from vecselect.process.remote_errors import annotate, exit_error, how_far

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena, Write
    from vecselect.backends.pool.settings import LaneSpec

FORBIDDEN_CALLS = frozenset({"reset", "step", "close"})
"""What `call` refuses, since the lane would not know of it: its state would be wrong afterwards."""

Step = tuple[Any, Any, Any, Any, dict[str, Any]]
"""What a sub-environment's step returns."""


class LaneFailure(Exception):
    """A sub-environment raised; its exception is the cause.

    Attributes:
        row: Index of the sub-environment.
        phase: The method that raised.
        when: How far its episode was and what it was seeded with, in words; empty if unknown.
    """

    def __init__(self, row: int, phase: str, when: str = "") -> None:
        super().__init__(row, phase)
        self.row = row
        self.phase = phase
        self.when = when


def raised_here(failure: LaneFailure) -> BaseException:
    """What a sub-environment of the caller's own lane raised."""
    error = failure.__cause__
    assert error is not None
    if isinstance(error, SystemExit):
        when = f" ({failure.when})" if failure.when else ""
        return exit_error(error, f"Sub-environment {failure.row}", failure.phase + when)
    annotate(error, failure.row, failure.phase, failure.when)
    return error


class Lane:
    """One slice of sub-environments.

    Observations go into the arena's rows, numbers and arrays of infos into its columns. What the
    arena cannot hold is left in `infos.rest` and `objects` until the next step or reset.

    Attributes:
        rows: The indices of its sub-environments in the batch.
        envs: The sub-environments.
        infos: The infos of its last step or reset.
        objects: For each leaf of the observation space that is no array, the last values.
    """

    def __init__(
        self,
        envs: Sequence[gym.Env],
        first_row: int,
        spec: LaneSpec,
        arena: Arena,
        *,
        restart_seeds: Sequence[int | None] | None = None,
        caught: type[BaseException] | tuple[type[BaseException], ...] = (Exception, SystemExit),
        part_of: Lane | None = None,
    ) -> None:
        """Makes a lane of environments that are built already.

        Args:
            envs: The sub-environments.
            first_row: Index of the first of them in the batch.
            spec: What all lanes have in common.
            arena: Where observations, rewards and flags go.
            restart_seeds: Where the lane replaces one that died: seeds for the episodes that it
                begins in the first step, which reports the lost ones as truncated.
            caught: What of that which a sub-environment raises becomes a `LaneFailure`. In the
                caller KeyboardInterrupt does not: it may be Ctrl-C. A worker catches all.
            part_of: A lane that has these environments among others, and whose tables it shares.
        """
        space, autoreset_mode = spec.observation_space, spec.autoreset_mode
        self.rows: range = range(first_row, first_row + len(envs))
        self.envs: list[gym.Env] = list(envs)
        self.infos: InfoTable = InfoTable(arena) if part_of is None else part_of.infos
        self.objects: dict[Any, list[Any]] = (
            {one.path: [None] * arena.layout.num_envs for one in leaves(space) if one.dtype is None}
            if part_of is None
            else part_of.objects
        )
        self._first = first_row
        self._slice = slice(first_row, first_row + len(envs))
        # What the next step of each calls: its own step, or what begins a new episode instead.
        self._env_steps: list[Callable[[Any], Step]] = [env.step for env in envs]
        self._steps = [*self._env_steps]
        if restart_seeds is not None:
            self._steps = [partial(self._restart, index) for index in range(len(envs))]
        self._seeds: list[int | None] = list(restart_seeds or [None] * len(envs))
        self._autoreset_mode = autoreset_mode
        self._steps_made = 0
        self._began = [0] * len(envs)
        self._phase = "step"
        self._caught = caught
        self._nothing = bytes(len(envs))
        # What another lane may have left in these rows is cleared by the first step.
        self._has_flags = self._has_infos = True
        self._rewards: Any = arena.rewards_data
        self._terminated = arena.terminated_data
        self._truncated = arena.truncated_data
        # By slot, where observations go: memoryviews of rows, and what takes all others.
        self._views = [rows[self._slice] for rows in arena.observation_rows]
        self._writes: list[Write] = (
            [writer(space, {**part, **self.objects}) for part in arena.observations]
            if part_of is None
            else part_of._writes
        )
        self._attributes = Attributes()
        self._end_episode = {
            AutoresetMode.NEXT_STEP: self._reset_next,
            AutoresetMode.SAME_STEP: self._reset_now,
            AutoresetMode.DISABLED: self._leave_ended,
        }[autoreset_mode]

    def step(self, actions: Iterable[Any], slot: int) -> None:
        """Steps every sub-environment, or resets it where its autoreset is due.

        Args:
            actions: One per sub-environment of this lane; what follows is not looked at.
            slot: Where the observations go.

        Raises:
            LaneFailure: If a sub-environment raises.
        """
        views, write = self._views[slot], self._writes[slot]
        row, rewards, store = self._first, self._rewards, self.infos.store
        # Cleared at once where the step before has left anything, which few do.
        here = self._slice
        if self._has_flags:
            self._terminated[here] = self._truncated[here] = self._nothing
            self._has_flags = False
        if self._has_infos:
            self.infos.clear(here, self._nothing)
            self._has_infos = False
        self._steps_made += 1
        try:
            for step, action, view in zip(self._steps, actions, views):  # noqa: B905 (see below)
                observation, reward, terminated, truncated, info = step(action)
                try:
                    rewards[row] = reward
                except TypeError:
                    rewards[row] = _only(reward, row)
                if terminated or truncated:
                    self._has_flags = True
                    self._terminated[row] = bool(terminated)
                    self._truncated[row] = bool(truncated)
                    observation, info = self._end_episode(row - self._first, observation, info)
                if view is None:
                    write(row, observation)
                else:
                    try:
                        view[:] = observation
                    except (TypeError, ValueError, BufferError):
                        write(row, observation)
                        views[row - self._first] = None  # the next will hardly fit either
                if info:
                    self._has_infos = True
                    store(row, info)
                elif info is None:
                    raise TypeError(f"Sub-environment {row} returned None as its info, not a dict.")
                row += 1
            # There may be more actions, the other lanes', but never fewer.
            if row != here.stop:
                raise ValueError(f"There are only {row - self._first} actions for this lane.")
        except self._caught as error:
            phase, self._phase = self._phase, "step"
            raise LaneFailure(row, phase, self._when(row - self._first)) from error

    def _autoreset(self, index: int, action: Any) -> Step:
        """Stands in for the step of a sub-environment whose episode has ended."""
        self._steps[index] = self._env_steps[index]
        observation, info = self._reset(index)
        return observation, 0.0, False, False, info

    def _restart(self, index: int, action: Any) -> Step:
        """Stands in for the first step of one whose worker has died: begins a new episode."""
        self._steps[index] = self._env_steps[index]
        row, seed = self._first + index, self._seeds[index]
        self._has_flags = True
        observation, info = self._reset(index, seed)
        self._truncated[row] = True
        info = {**info, "worker_restarted": True, "restart_seed": -1 if seed is None else seed}
        if self._autoreset_mode is AutoresetMode.NEXT_STEP:
            self._steps[index] = partial(self._autoreset, index)
        elif self._autoreset_mode is AutoresetMode.SAME_STEP:
            info = self._with_final(index, observation, info, info)
        return observation, 0.0, False, False, info

    def _reset(self, index: int, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        self._phase = "reset"
        env = self.envs[index]
        result = env.reset() if seed is None else env.reset(seed=seed)
        self._began[index] = self._steps_made
        self._phase = "step"
        return result

    def _when(self, index: int) -> str:
        """How far a sub-environment's episode is."""
        return how_far(self._steps_made - self._began[index], self._seeds[index])

    def _reset_next(self, index: int, observation: Any, info: Any) -> tuple[Any, Any]:
        """NEXT_STEP: the next step resets."""
        self._steps[index] = partial(self._autoreset, index)
        return observation, info

    def _reset_now(self, index: int, observation: Any, info: Any) -> tuple[Any, Any]:
        """SAME_STEP: what ended goes into the infos, the new episode into the batch."""
        # The reset may overwrite what the step has returned.
        observation, info = snapshot(observation), snapshot(info)
        first, first_info = self._reset(index)
        return first, self._with_final(index, observation, info, first_info)

    def _with_final(self, index: int, observation: Any, info: Any, first_info: Any) -> Any:
        """The info of a new episode, with what the one before has ended with."""
        final = {"final_obs": observation, "final_info": info}
        if first_info is None or final.keys().isdisjoint(first_info):
            return first_info if first_info is None else {**final, **first_info}
        self._has_infos = True
        self.infos.store_loose(self._first + index, final, first_info)
        return {}

    def _leave_ended(self, index: int, observation: Any, info: Any) -> tuple[Any, Any]:
        """DISABLED: the caller sees to it that there is a reset before the next step."""
        return observation, info

    def reset(
        self,
        seeds: Sequence[int | None],
        options: dict[str, Any] | None,
        mask: Sequence[bool],
        slot: int,
    ) -> None:
        """Resets the sub-environments that the mask names.

        Args:
            seeds: One per sub-environment of this lane.
            options: Passed on, the same for all.
            mask: Whether to reset it, one per sub-environment of this lane.
            slot: Where the observations go.
        """
        write = self._writes[slot]
        self.infos.clear(self._slice, self._nothing)
        self._has_infos = True
        row = self._first
        try:
            for index, (env, seed, wanted) in enumerate(zip(self.envs, seeds, mask, strict=True)):
                row = self._first + index
                if not wanted:
                    continue
                self._steps[index] = self._env_steps[index]
                self._began[index] = self._steps_made
                if seed is not None:
                    self._seeds[index] = seed
                observation, info = env.reset(seed=seed, options=options)
                write(row, observation)
                if info:
                    self.infos.store(row, info)
        except self._caught as error:
            raise LaneFailure(row, "reset", self._when(row - self._first)) from error

    def call(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], rows: Sequence[int]
    ) -> dict[int, Any]:
        """Calls a method of sub-environments, or reads an attribute that is not callable.

        Args:
            name: The method's name.
            args: Its arguments, the same for all.
            kwargs: Its keyword arguments, the same for all.
            rows: Which sub-environments of this lane.

        Returns:
            The results by row.

        Raises:
            LaneFailure: If that raises, or the method would go behind the lane's back.
        """
        if name in FORBIDDEN_CALLS:
            message = f"call({name!r}) is not possible; use envs.{name}() instead."
            raise LaneFailure(rows[0], "call") from ValueError(message)
        results = {}
        for row in rows:
            try:
                found = self.envs[row - self._first].get_wrapper_attr(name)
                results[row] = found(*args, **kwargs) if callable(found) else found
            except self._caught as error:
                raise LaneFailure(row, f"call({name!r})") from error
        return results

    def set_attr(self, name: str, values: Mapping[int, Any]) -> None:
        """Sets an attribute of sub-environments, by row; `undo_set_attr` takes it back."""
        self._attributes = Attributes()
        for row, value in values.items():
            try:
                self._attributes.set(self.envs[row - self._first], name, value)
            except self._caught as error:
                raise LaneFailure(row, f"set_attr({name!r})") from error

    def undo_set_attr(self) -> None:
        """Takes back what the last `set_attr` did, as far as it got."""
        self._attributes.undo()

    def close(self) -> None:
        """Closes every sub-environment, also where one of them raises. Twice does nothing."""
        failure: BaseException | None = None
        envs, self.envs = self.envs, []
        for row, env in zip(self.rows, envs, strict=False):
            try:
                env.close()
            except self._caught as error:
                failure = LaneFailure(row, "close")
                failure.__cause__ = error
        if failure is not None:
            raise failure


def _only(reward: Any, row: int) -> float:
    """The number in an array of one, which some environments return as their reward.

    Raises:
        TypeError: If it is anything else.
    """
    if isinstance(reward, np.ndarray) and reward.size == 1 and reward.dtype.kind in "fiub":
        return float(reward.item())
    raise TypeError(f"Sub-environment {row} returned a reward that is no float: {reward!r:.80}.")


class Attributes:
    """Attributes that were set on sub-environments, in order, and how to take that back."""

    def __init__(self) -> None:
        self._done: list[tuple[gym.Env, str, Any]] = []

    def set(self, env: gym.Env, name: str, value: Any) -> None:
        """Sets an attribute of an environment."""
        before = env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else _ABSENT
        env.set_wrapper_attr(name, value)
        self._done.append((env, name, before))

    def undo(self) -> None:
        """Takes back all that was set."""
        done, self._done = self._done, []
        for env, name, before in reversed(done):
            if before is _ABSENT:
                delattr(env, name)
            else:
                env.set_wrapper_attr(name, before)


_ABSENT = object()
