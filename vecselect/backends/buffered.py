"""`BufferedVectorEnv`: one vector environment made of several, its buffers.

A buffer is a vector environment over some contiguous rows. While one of them steps, the calling
process can compute the actions of another. Taken together they are a vector environment over all
rows, with the results of one that was never divided.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector.utils import batch_differing_spaces, batch_space

from vecselect.arguments import read_reset
from vecselect.backends.base import set_spec
from vecselect.backends.pool.arena import assembled, at, leaves
from vecselect.backends.pool.commands import LaneCalls
from vecselect.backends.pool.settings import Sample, mismatch
from vecselect.backends.pool.workers import StillPending
from vecselect.errors import StepTimeout
from vecselect.modes import slices
from vecselect.process.remote_errors import add_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.commands import StepResult
    from vecselect.backends.pool.vector_env import PoolVectorEnv
    from vecselect.request import Request

    Wait = Callable[[float | None], Any]
    """Waits so many seconds for the end of a call that was begun in a buffer."""


def build_in_buffers(
    request: Request, build: Callable[[Request, int], PoolVectorEnv]
) -> PoolVectorEnv | BufferedVectorEnv:
    """Builds the buffers of a request, and the vector environment that they make up.

    Where the whole batch is the only one, that alone.

    Args:
        request: What was asked for.
        build: Builds the vector environment of one part of it, given that and its number.

    Raises:
        RuntimeError: If the spaces of two buffers do not go together.
        Exception: What `build` raises; what was built before is closed.
    """
    if request.buffers == 1:
        return build(request, 0)
    rows = buffer_rows(request.num_envs, request.buffers)
    mode = request.vector_kwargs.get("observation_mode", "same")
    with contextlib.ExitStack() as stack:
        parts = []
        for number, here in enumerate(rows):
            with _noting(number, here):
                parts.append(build(request.part(here), number))
            stack.callback(parts[-1].close)
        env = BufferedVectorEnv(parts, rows, mode)
        set_spec(env, request, None)
        stack.pop_all()
    return env


def buffer_rows(num_envs: int, buffers: int) -> list[range]:
    """The rows of each buffer: contiguous, of lengths that differ by one."""
    return slices(num_envs, buffers, caller_steps=False)[1:]


class BufferedVectorEnv(LaneCalls):
    """Vector environments side by side as one.

    Every value equals that of Gymnasium's `SyncVectorEnv` over the same sub-environments.

    Attributes:
        parts: The buffers.
        rows: The rows of each.
    """

    def __init__(
        self,
        parts: Sequence[PoolVectorEnv],
        rows: Sequence[range],
        observation_mode: str | tuple[gym.Space[Any], gym.Space[Any]] = "same",
    ) -> None:
        """Takes vector environments over; they belong to this one from here on.

        Args:
            parts: Each over some of the rows.
            rows: The rows of each.
            observation_mode: As in `SyncVectorEnv`.

        Raises:
            RuntimeError: If the spaces of two of them do not go together.
        """
        super().__init__()
        self.closed: bool = (
            True  # until there is something to close: older Gymnasiums close in __del__
        )
        first = parts[0]
        self.parts: tuple[PoolVectorEnv, ...] = tuple(parts)
        self.rows: tuple[range, ...] = tuple(rows)
        self.num_envs: int = rows[-1].stop
        self.metadata: dict[str, Any] = first.metadata
        self.render_mode: str | None = first.render_mode
        self.single_observation_space: gym.Space[Any] = first.single_observation_space
        self.single_action_space: gym.Space[Any] = first.single_action_space
        self.action_space: gym.Space[Any] = batch_space(self.single_action_space, self.num_envs)
        for part, here in zip(parts[1:], rows[1:], strict=True):
            its: Any = Sample(part.single_observation_space, part.single_action_space, {}, None)
            ours = self.single_observation_space, self.single_action_space
            if problem := mismatch(its, here.start, *ours, observation_mode == "same"):
                raise RuntimeError(problem)
        if isinstance(observation_mode, tuple):
            self.observation_space: gym.Space[Any] = observation_mode[0]
        elif observation_mode == "different":
            each = [part.get_attr("observation_space") for part in parts]
            self.observation_space = batch_differing_spaces(list(itertools.chain(*each)))
        else:
            self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._results: list[Any] = []
        self._waits: list[tuple[int, Wait]] = []
        self._merge: Callable[[list[Any]], Any] = list
        self.closed = False

    @property
    def pending(self) -> str | None:
        """The split call of the whole that was begun: `step`, `reset` or `call`; None without."""
        return self._pending

    # ---- steps, resets and calls: begun in every buffer, then collected from one after the other

    def _begin_step(self, actions: Any) -> None:
        def begin(part: PoolVectorEnv, rows: range) -> Wait:
            part.step_async(part_of(self.single_action_space, actions, rows))
            return partial(part.wait_for_whole, "step")

        self._begin_parts("step", self._merged_step, begin)

    def _begin_reset(self, seed: Any, options: dict[str, Any] | None) -> None:
        seeds, options, mask = read_reset(seed, options, self.num_envs)

        def begin(part: PoolVectorEnv, rows: range) -> Wait:
            own, given = slice(rows.start, rows.stop), options
            if not mask.all():
                if not mask[own].any():  # it keeps the observations it has
                    return lambda timeout_s: (part.observations(), [])
                given = {**(options or {}), "reset_mask": mask[own]}
            part.reset_async(seed=seeds[own], options=given)
            return partial(part.wait_for_whole, "reset")

        self._begin_parts("reset", self._merged_reset, begin)

    def _merged_step(self, results: list[Any]) -> StepResult:
        observations, rewards, terminated, truncated, infos = zip(*results, strict=True)
        return (
            joined(self.single_observation_space, observations),
            np.concatenate(rewards),
            np.concatenate(terminated),
            np.concatenate(truncated),
            self._merged_infos(infos),
        )

    def _merged_reset(self, results: list[Any]) -> tuple[Any, dict[str, Any]]:
        observations = [observations for observations, *_ in results]
        infos = self._merged_infos([infos for *_, infos in results])
        return joined(self.single_observation_space, observations), infos

    def _merged_infos(self, each: Iterable[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for rows, infos in zip(self.rows, each, strict=True):
            for row, info in infos:
                found = self._add_info(found, info, rows.start + row)
        return found

    def _begin_call(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        order: list[int] = []

        def begin(part: PoolVectorEnv, rows: range) -> Wait | None:
            mine = [row for row in indices if row in rows]
            if not mine:
                return None
            order.extend(mine)
            part.call_some_async([row - rows.start for row in mine], name, args, kwargs)
            return part.call_wait

        def merged(results: list[Any]) -> tuple[Any, ...]:
            found = dict(zip(order, itertools.chain(*results), strict=True))
            return tuple(found[row] for row in indices)

        self._begin_parts("call", merged, begin)

    def set_attr_some(self, indices: Sequence[int], name: str, values: Sequence[Any]) -> None:
        """Sets an attribute of some sub-environments, or of none if one of them refuses."""
        value_of = dict(zip(indices, values, strict=True))

        def set_or_undo() -> None:
            with contextlib.ExitStack() as undo:

                def begin(part: PoolVectorEnv, rows: range) -> None:
                    mine = [row for row in value_of if row in rows]
                    if mine:
                        own = [row - rows.start for row in mine]
                        part.set_attr_some(own, name, [value_of[row] for row in mine])
                        undo.callback(part.undo_set_attr, own)

                self._begin_parts("call", list, begin)
                undo.pop_all()

        self._done("call", set_or_undo)

    # ---- one call at a time

    def need_idle(self, kind: str) -> None:
        """Makes sure that a call can be made: nothing is pending, in the whole or in a buffer."""
        super().need_idle(kind)
        for number, part in enumerate(self.parts):
            with _noting(number, self.rows[number]):
                part.need_idle(kind)

    def _begin_parts(
        self,
        kind: str,
        merge: Callable[[list[Any]], Any],
        begin: Callable[[PoolVectorEnv, range], Wait | None],
    ) -> None:
        """Begins a call in the buffers, in all of them or in none.

        Args:
            kind: Of the call.
            merge: Makes one result of those of the buffers.
            begin: Begins it in a buffer, which has these rows. Returns what waits for the end; None
                where there is nothing to wait for.
        """
        self._pending = kind
        self._need_usable()
        self._waits, self._results, self._merge = [], [], merge
        with self._all_or_none():
            for number, (part, rows) in enumerate(zip(self.parts, self.rows, strict=True)):
                with _noting(number, self.rows[number]):
                    wait = begin(part, rows)
                if wait is not None:
                    self._waits.append((number, wait))

    def _end_parts(self, timeout_s: float | None) -> Any:
        """The result of a call that was begun, from one buffer after the other."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._all_or_none():
            while self._waits:
                number, wait = self._waits[0]
                left_s = None if until_s is None else max(until_s - time.monotonic(), 0.0)
                with _noting(number, self.rows[number]):
                    self._results.append(_waited(wait, left_s))
                del self._waits[0]
            return self._merge(self._results)

    _end_step = _end_reset = _call_result = _end_parts

    @contextlib.contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """Has every buffer forget its part of a call that fails."""
        try:
            yield
        except StillPending:
            raise
        except BaseException:
            self._waits = []
            for part in self.parts:
                part.abandon()
            raise

    # ---- closing

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Closes every buffer; arguments as of the pool's `close`."""
        for one in (self, *self.parts):  # all of them first: what ends one may end the others
            one.closed = True
        with contextlib.ExitStack() as stack:  # the others too where one of them raises
            for part in self.parts:
                stack.callback(part.close_extras, timeout=timeout, terminate=terminate)


def _waited(wait: Wait, timeout_s: float | None) -> Any:
    """What a buffer's wait returns; `StillPending` if the time ran out."""
    try:
        return wait(timeout_s)
    except StepTimeout:
        raise
    except multiprocessing.TimeoutError:
        raise StillPending from None


@contextlib.contextmanager
def _noting(number: int, rows: range) -> Iterator[None]:
    """Adds to an exception which buffer it comes from: its rows are counted from 0 there."""
    try:
        yield
    except Exception as error:
        add_note(
            error,
            f"In buffer {number}, whose sub-environments 0-{len(rows) - 1} are {rows.start}-"
            f"{rows.stop - 1} of the whole.",
        )
        raise


def part_of(space: gym.Space[Any], batch: Any, rows: range) -> Any:
    """Some rows of a batch of elements of a space."""
    parts = [at(batch, leaf.path)[rows.start : rows.stop] for leaf in leaves(space)]
    return assembled(space, iter(parts))


def joined(space: gym.Space[Any], batches: Sequence[Any]) -> Any:
    """Batches of elements of a space, one after the other, as one batch."""
    parts = []
    for leaf in leaves(space):
        each = [at(batch, leaf.path) for batch in batches]
        parts.append(tuple(itertools.chain(*each)) if leaf.dtype is None else np.concatenate(each))
    return assembled(space, iter(parts))
