"""Stepping a contiguous slice of sub-environments, in the caller or in a worker."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode

from vecselect import processes
from vecselect.backends.pool.layout import leaves, writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.infos import InfoTable

FORBIDDEN_CALLS = frozenset({"reset", "step", "close"})
"""What `call` refuses: run behind the lane's back, these would leave it with a wrong state."""


class LaneFailure(Exception):
    """A sub-environment raised; its exception is the cause.

    Attributes:
        row: Index of the sub-environment.
        phase: The method that raised.
    """

    def __init__(self, row: int, phase: str) -> None:
        super().__init__(row, phase)
        self.row = row
        self.phase = phase


class Lane:
    """One slice of sub-environments.

    Observations go into the arena's rows, numeric infos into its columns. What the arena cannot
    hold is left in `loose` and `objects` until the next step or reset.

    Attributes:
        rows: The indices of its sub-environments in the batch.
        envs: The sub-environments.
        loose: Infos of the last step or reset that are in no column: (row, what `keep` made).
        objects: For each leaf of the observation space that is no array, the last values.
    """

    def __init__(
        self,
        envs: Sequence[gym.Env],
        first_row: int,
        space: gym.Space,
        autoreset_mode: AutoresetMode,
        arena: Arena,
        infos: InfoTable,
        keep: Callable[[dict[str, Any]], Any],
        keep_final: Callable[[dict[str, Any]], Any],
    ) -> None:
        """Makes a lane of environments that are built already.

        Args:
            envs: The sub-environments.
            first_row: Index of the first of them in the batch.
            space: The space of one observation.
            autoreset_mode: What happens to a sub-environment whose episode ended.
            arena: Where observations, rewards and flags go.
            infos: The info columns of this process.
            keep: Makes something lasting of an info that is in no column.
            keep_final: The same for the final observation and info of SAME_STEP, which environments
                may overwrite in the reset that follows at once.
        """
        self.rows = range(first_row, first_row + len(envs))
        self.envs = list(envs)
        self.loose: list[tuple[int, Any]] = []
        self.objects: dict[Any, list[Any]] = {
            leaf.path: [None] * arena.layout.num_envs
            for leaf in leaves(space)
            if leaf.dtype is None
        }
        self._first = first_row
        self._steps = [env.step for env in envs]
        self._ended = [False] * len(envs)
        self._infos = infos
        self._keep = keep
        self._keep_final = keep_final
        self._rewards: Any = arena.rewards.data
        self._terminated: Any = arena.terminated.data
        self._truncated: Any = arena.truncated.data
        self._writers = [writer(space, {**part, **self.objects}) for part in arena.observations]
        self._undo: list[tuple[gym.Env, str, Any]] = []
        self.step: Callable[[Iterable[Any], int], None] = {
            AutoresetMode.NEXT_STEP: self._step_then_reset_next,
            AutoresetMode.SAME_STEP: self._step_and_reset,
            AutoresetMode.DISABLED: self._step_only,
        }[autoreset_mode]

    def _step_then_reset_next(self, actions: Iterable[Any], buffer: int) -> None:
        """Steps every sub-environment; one whose episode ended before is reset instead."""
        ended, write, store = self._ended, self._writers[buffer], self._infos.store
        rewards, terminated, truncated = self._rewards, self._terminated, self._truncated
        self.loose = []
        row, phase = self._first, "step"
        try:
            for index, (step, action) in enumerate(zip(self._steps, actions, strict=True)):
                row = self._first + index
                if ended[index]:
                    phase = "reset"
                    observation, info = self.envs[index].reset()
                    phase = "step"
                    rewards[row] = 0.0
                    terminated[row] = truncated[row] = ended[index] = False
                else:
                    observation, reward, terminal, cut, info = step(action)
                    rewards[row] = reward
                    terminated[row] = terminal
                    truncated[row] = cut
                    if terminal or cut:
                        ended[index] = True
                write(row, observation)
                if not store(row, info):
                    self.loose.append((row, self._keep(info)))
        except Exception as error:
            raise LaneFailure(row, phase) from error

    def _step_and_reset(self, actions: Iterable[Any], buffer: int) -> None:
        """Steps every sub-environment and resets at once where the episode ended."""
        write, store = self._writers[buffer], self._infos.store
        rewards, terminated, truncated = self._rewards, self._terminated, self._truncated
        self.loose = []
        row, phase = self._first, "step"
        try:
            for index, (step, action) in enumerate(zip(self._steps, actions, strict=True)):
                row = self._first + index
                observation, reward, terminal, cut, info = step(action)
                rewards[row] = reward
                terminated[row] = terminal
                truncated[row] = cut
                if terminal or cut:
                    final = {"final_obs": observation, "final_info": info}
                    self.loose.append((row, self._keep_final(final)))
                    phase = "reset"
                    observation, info = self.envs[index].reset()
                    phase = "step"
                write(row, observation)
                if not store(row, info):
                    self.loose.append((row, self._keep(info)))
        except Exception as error:
            raise LaneFailure(row, phase) from error

    def _step_only(self, actions: Iterable[Any], buffer: int) -> None:
        """Steps every sub-environment; the caller has seen to it that no episode has ended."""
        write, store = self._writers[buffer], self._infos.store
        rewards, terminated, truncated = self._rewards, self._terminated, self._truncated
        self.loose = []
        row = self._first
        try:
            for index, (step, action) in enumerate(zip(self._steps, actions, strict=True)):
                row = self._first + index
                observation, reward, terminal, cut, info = step(action)
                rewards[row] = reward
                terminated[row] = terminal
                truncated[row] = cut
                write(row, observation)
                if not store(row, info):
                    self.loose.append((row, self._keep(info)))
        except Exception as error:
            raise LaneFailure(row, "step") from error

    def reset(
        self,
        seeds: Sequence[int | None],
        options: dict[str, Any] | None,
        mask: Sequence[bool],
        buffer: int,
    ) -> None:
        """Resets the sub-environments that the mask names.

        Args:
            seeds: One per sub-environment of this lane.
            options: Passed on, the same for all.
            mask: Whether to reset it, one per sub-environment of this lane.
            buffer: Where the observations go.
        """
        write = self._writers[buffer]
        self.loose = []
        row = self._first
        try:
            for index, (env, seed, wanted) in enumerate(zip(self.envs, seeds, mask, strict=True)):
                row = self._first + index
                if not wanted:
                    self._infos.clear(row)
                    continue
                self._ended[index] = False
                observation, info = env.reset(seed=seed, options=options)
                write(row, observation)
                if not self._infos.store(row, info):
                    self.loose.append((row, self._keep(info)))
        except Exception as error:
            raise LaneFailure(row, "reset") from error

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Calls a method of every sub-environment, or reads an attribute that is not callable."""
        results = []
        for row, env in zip(self.rows, self.envs, strict=True):
            try:
                found = env.get_wrapper_attr(name)
                results.append(found(*args, **kwargs) if callable(found) else found)
            except Exception as error:
                raise LaneFailure(row, f"call({name!r})") from error
        return results

    def render(self) -> list[Any]:
        """A frame of every sub-environment."""
        frames = []
        for row, env in zip(self.rows, self.envs, strict=True):
            try:
                frames.append(env.render())
            except Exception as error:
                raise LaneFailure(row, "render") from error
        return frames

    def set_attr(self, name: str, values: Sequence[Any]) -> None:
        """Sets an attribute of every sub-environment; `undo_set_attr` takes it back."""
        self._undo = []
        for row, env, value in zip(self.rows, self.envs, values, strict=True):
            try:
                before = env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else _ABSENT
                env.set_wrapper_attr(name, value)
            except Exception as error:
                raise LaneFailure(row, f"set_attr({name!r})") from error
            self._undo.append((env, name, before))

    def undo_set_attr(self) -> None:
        """Takes back what the last `set_attr` did, as far as it got."""
        for env, name, before in reversed(self._undo):
            if before is _ABSENT:
                delattr(env, name)
            else:
                env.set_wrapper_attr(name, before)
        self._undo = []

    def close(self) -> None:
        """Closes every sub-environment, also where one of them raises."""
        failure: BaseException | None = None
        for row, env in zip(self.rows, self.envs, strict=True):
            try:
                env.close()
            except Exception as error:
                failure = LaneFailure(row, "close")
                failure.__cause__ = error
        if failure is not None:
            raise failure


_ABSENT = object()


def keep_packed(info: dict[str, Any]) -> bytes:
    """In a worker: an info as it is now, pickled, since its values may be reused."""
    return processes.dumps_importable(info)


def keep_copied(info: dict[str, Any]) -> dict[str, Any]:
    """In the caller: a copy down to the last array."""
    try:
        return copy.deepcopy(info)
    except Exception:  # what cannot be copied is handed out as it is, as in a loop
        return dict(info)
