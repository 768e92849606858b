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
import weakref
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_differing_spaces, batch_space

from vecselect.arguments import read_options, seed_of_each
from vecselect.backends.base import set_spec
from vecselect.backends.pool.commands import LaneCalls, StillPending
from vecselect.backends.pool.lane import mismatch
from vecselect.backends.pool.workers import nothing
from vecselect.errors import StepTimeout
from vecselect.modes import slices
from vecselect.process.remote_errors import add_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.vector_env import PoolVectorEnv, StepResult
    from vecselect.request import Request


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
            its = SimpleNamespace(
                observation_space=part.single_observation_space,
                action_space=part.single_action_space,
            )
            ours = self.single_observation_space, self.single_action_space
            if problem := mismatch(its, here.start, *ours, observation_mode == "same"):  # type: ignore[arg-type]
                raise RuntimeError(problem)
        if isinstance(observation_mode, tuple):
            self.observation_space: gym.Space[Any] = observation_mode[0]
        elif observation_mode == "different":
            each = [part.get_attr("observation_space") for part in parts]
            self.observation_space = batch_differing_spaces(list(itertools.chain(*each)))
        else:
            self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._results: list[Any] = []
        self._waits: list[tuple[int, Callable[[float | None], Any]]] = []
        self._merge: Callable[[list[Any]], Any] = list
        look = weakref.WeakMethod(self._look_at_others)  # what a buffer holds must not hold this
        for part in parts:
            part.look_beside(lambda: (look() or nothing)())
        self.closed = False

    @property
    def pending(self) -> str | None:
        """The split call of the whole that was begun: `step`, `reset` or `call`; None without."""
        return self._pending

    # ---- steps and resets

    def step(self, actions: Any) -> StepResult:
        """Steps every sub-environment; arguments and results as in `SyncVectorEnv`."""

        def both() -> StepResult:
            self._begin_step(actions)
            return self._gathered(None)  # type: ignore[no-any-return]

        return self._done("step", both)  # type: ignore[no-any-return]

    def step_async(self, actions: Any) -> None:
        """Begins a step of every buffer.

        Raises:
            AlreadyPendingCallError: If the whole or one of its buffers has a call to collect.
        """
        self._begin_async("step", lambda: self._begin_step(actions))

    def step_wait(self, timeout: float | None = None) -> StepResult:
        """Collects what `step_async` began.

        Args:
            timeout: Seconds to wait, for all buffers together.

        Raises:
            NoAsyncCallError: Without a `step_async` before it.
            multiprocessing.TimeoutError: If the time ran out; another `step_wait` collects it.
        """
        return self._wait("step", self._gathered, timeout)  # type: ignore[no-any-return]

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the sub-environments; arguments and results as in `SyncVectorEnv`."""

        def both() -> tuple[Any, dict[str, Any]]:
            self._begin_reset(seed, options)
            return self._gathered(None)  # type: ignore[no-any-return]

        return self._done("reset", both)  # type: ignore[no-any-return]

    def reset_async(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Begins a reset of every buffer; `reset_wait` collects it."""
        self._begin_async("reset", lambda: self._begin_reset(seed, options))

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Collects what `reset_async` began; arguments and errors as in `step_wait`."""
        return self._wait("reset", self._gathered, timeout)  # type: ignore[no-any-return]

    def _begin_step(self, actions: Any) -> None:
        space = self.single_action_space
        with self._beginning("step", self._merged_step):
            for number, (part, here) in enumerate(zip(self.parts, self.rows, strict=True)):
                part.step_async(part_of(space, actions, here))
                self._waits.append((number, partial(_stepped, part)))

    def _begin_reset(self, seed: Any, options: dict[str, Any] | None) -> None:
        seeds = seed_of_each(seed, self.num_envs)
        options = read_options(options, self.num_envs)
        mask = None if options is None else options.pop("reset_mask", None)
        with self._beginning("reset", self._merged_reset):
            for number, (part, here) in enumerate(zip(self.parts, self.rows, strict=True)):
                own = slice(here.start, here.stop)
                if mask is not None and not mask[own].any():  # it keeps the observations it has
                    self._waits.append((number, partial(_not_reset, part)))
                    continue
                masked = options if mask is None else {**(options or {}), "reset_mask": mask[own]}
                part.reset_async(seed=seeds[own], options=masked)
                self._waits.append((number, partial(_reset, part)))

    def _merged_step(self, results: list[Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = zip(*results, strict=True)
        return (
            joined(self.single_observation_space, observations),
            np.concatenate(rewards),
            np.concatenate(terminated),
            np.concatenate(truncated),
            self._joined_infos(infos),
        )

    def _merged_reset(self, results: list[Any]) -> tuple[Any, dict[str, Any]]:
        observations, infos = zip(*results, strict=True)
        return joined(self.single_observation_space, observations), self._joined_infos(infos)

    def _joined_infos(self, each: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """The infos of the buffers as those of all rows; None where one has no batch of them."""
        found: dict[str, Any] = {}
        try:
            for infos, here in zip(each, self.rows, strict=True):
                if infos is None:
                    raise _TypesDiffer
                _add_infos(found, infos, slice(here.start, here.stop), self.num_envs)
        except _TypesDiffer:
            found = {}
            for part, here in zip(self.parts, self.rows, strict=True):
                for row, info in part.infos():
                    found = self._add_info(found, info, here.start + row)
        return found

    # ---- calls of the sub-environments' own methods and attributes

    def _begin_call(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        order: list[int] = []

        def merged(results: list[Any]) -> tuple[Any, ...]:
            found = dict(zip(order, itertools.chain(*results), strict=True))
            return tuple(found[row] for row in indices)

        with self._beginning("call", merged):
            for number, (part, here) in enumerate(zip(self.parts, self.rows, strict=True)):
                mine = [row for row in indices if row in here]
                if mine:
                    part.call_some_async([row - here.start for row in mine], name, args, kwargs)
                    self._waits.append((number, part.call_wait))
                    order += mine

    def _call_result(self, timeout_s: float | None) -> tuple[Any, ...]:
        return self._gathered(timeout_s)  # type: ignore[no-any-return]

    def set_attr_some(self, indices: Sequence[int], name: str, values: Sequence[Any]) -> None:
        """Sets an attribute of some sub-environments, or of none if one of them refuses."""
        value_of = dict(zip(indices, values, strict=True))
        done: list[tuple[PoolVectorEnv, list[int]]] = []

        def set_or_undo() -> None:
            try:
                with self._beginning("call", list):
                    for number, (part, here) in enumerate(zip(self.parts, self.rows, strict=True)):
                        mine = [row for row in value_of if row in here]
                        own = [row - here.start for row in mine]
                        if mine:
                            with _noting(number, here):
                                part.set_attr_some(own, name, [value_of[row] for row in mine])
                            done.append((part, own))
            except Exception:
                for part, own in done:
                    part.undo_set_attr(own)
                raise

        self._done("call", set_or_undo)

    # ---- one call at a time

    def need_idle(self, kind: str) -> None:
        """Makes sure that a call can be made: nothing is pending, in the whole or in a buffer."""
        super().need_idle(kind)
        for number, (part, here) in enumerate(zip(self.parts, self.rows, strict=True)):
            with _noting(number, here):
                part.need_idle(kind)

    @contextlib.contextmanager
    def _beginning(self, kind: str, merge: Callable[[list[Any]], Any]) -> Iterator[None]:
        """Around the beginning of a call in the buffers, in all of them or in none.

        Args:
            kind: Of the call.
            merge: Makes one result of those of the buffers.
        """
        self._pending = kind
        self._need_usable()
        self._waits, self._results, self._merge = [], [], merge
        with self._all_or_none():
            yield

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

    def _gathered(self, timeout_s: float | None) -> Any:
        """The result of a call that was begun, from one buffer after the other."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._all_or_none():
            while self._waits:
                number, wait = self._waits[0]
                left_s = None if until_s is None else max(until_s - time.monotonic(), 0.0)
                try:
                    with _noting(number, self.rows[number]):
                        self._results.append(_waited(wait, left_s))
                except _FailedBeside as beside:
                    number, wait = beside.begun
                else:
                    del self._waits[0]
                    continue
                with _noting(number, self.rows[number]):
                    wait(None)
            return self._merge(self._results)

    def _look_at_others(self) -> None:
        """While a call of the whole waits for one buffer: raises if another one has failed."""
        for begun in self._waits[1:]:
            if self.parts[begun[0]].has_failed():
                raise _FailedBeside(begun)

    # ---- closing

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Closes every buffer; arguments as of the pool's `close`."""
        for one in (self, *self.parts):  # all of them first: what ends one may end the others
            one.closed = True
        with contextlib.ExitStack() as stack:  # the others too where one of them raises
            for part in self.parts:
                stack.callback(part.close_extras, timeout=timeout, terminate=terminate)


def _stepped(part: PoolVectorEnv, timeout_s: float | None) -> tuple[Any, ...]:
    """What a step of a buffer returns; its infos are None where only the whole may batch them."""
    try:
        return part.step_wait(timeout_s)
    except Exception as error:
        if error is not part.infos_error:
            raise
        part.infos_error = None
        return *part.last_step(), None


def _reset(part: PoolVectorEnv, timeout_s: float | None) -> tuple[Any, dict[str, Any] | None]:
    """The same of a reset."""
    try:
        return part.reset_wait(timeout_s)
    except Exception as error:
        if error is not part.infos_error:
            raise
        part.infos_error = None
        return part.observations(), None


def _not_reset(part: PoolVectorEnv, timeout_s: float | None) -> tuple[Any, dict[str, Any]]:
    """What a buffer has that a reset leaves out."""
    return part.observations(), {}


def _waited(wait: Callable[[float | None], Any], timeout_s: float | None) -> Any:
    """What a buffer's wait returns.

    Raises:
        StillPending: If the time ran out.
    """
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
    """Some rows of a batch.

    Args:
        space: Of one element.
        batch: A batch of such elements.
        rows: Which.
    """
    if isinstance(space, spaces.Dict):
        return {key: part_of(part, batch[key], rows) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        parts = zip(space.spaces, batch, strict=True)
        return tuple(part_of(part, values, rows) for part, values in parts)
    return batch[rows.start : rows.stop]


def joined(space: gym.Space[Any], batches: Sequence[Any]) -> Any:
    """Batches one after the other as one batch.

    Args:
        space: Of one element.
        batches: Batches of such elements.
    """
    if isinstance(space, spaces.Dict):
        return {
            key: joined(part, [batch[key] for batch in batches])
            for key, part in space.spaces.items()
        }
    if isinstance(space, spaces.Tuple):
        each = zip(*batches, strict=True)
        return tuple(joined(part, parts) for part, parts in zip(space.spaces, each, strict=True))
    if isinstance(batches[0], np.ndarray):
        return np.concatenate(batches)
    return tuple(itertools.chain(*batches))


class _FailedBeside(Exception):
    """Another buffer than the one waited for has failed.

    Attributes:
        begun: Its number, and what waits for it.
    """

    def __init__(self, begun: tuple[int, Callable[[float | None], Any]]) -> None:
        super().__init__()
        self.begun = begun


class _TypesDiffer(Exception):
    """The values of one key need another array than those of one buffer: the first row decides."""


def _add_infos(found: dict[str, Any], infos: dict[str, Any], here: slice, num_envs: int) -> None:
    """Adds the batched infos of some rows to those of all.

    Raises:
        _TypesDiffer: If they cannot be added without a cast.
    """
    for key, values in infos.items():
        if isinstance(values, dict):
            within = found.setdefault(key, {})
            if not isinstance(within, dict):
                raise _TypesDiffer
            _add_infos(within, values, here, num_envs)
            continue
        if key not in found:  # what is in no row of it is as Gymnasium leaves it
            shape = num_envs, *values.shape[1:]
            single = values.dtype == object and values.ndim == 1
            found[key] = np.full(shape, None) if single else np.zeros(shape, values.dtype)
        whole = found[key]
        if isinstance(whole, dict) or (whole.dtype, whole.shape[1:]) != (
            values.dtype,
            values.shape[1:],
        ):
            raise _TypesDiffer
        mask = infos.get(f"_{key}")
        if mask is None:  # it is a mask itself
            whole[here] = values
        else:
            whole[here][mask] = values[mask]
