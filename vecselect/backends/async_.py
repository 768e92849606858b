"""`async`: Gymnasium's process and pickled message per environment."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import weakref
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState

from vecselect import processes
from vecselect.backends import base
from vecselect.backends.exchange import CLOSE_LIMIT_S, Exchange, end_all
from vecselect.backends.guard import Factory, Guarded
from vecselect.errors import RequestError, StepTimeout, VecselectError
from vecselect.request import RAY_OPTIONS, VECTOR_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from vecselect.machine import Machine
    from vecselect.request import Request


_TAKES = VECTOR_OPTIONS - RAY_OPTIONS - {"on_worker_death"}


class Async:
    """Runs each sub-environment in a process of its own."""

    name = "async"

    def missing(self, machine: Machine) -> str | None:
        """Says so inside a process that may not start others."""
        return processes.why_no_children()

    def why_not(self, request: Request, machine: Machine) -> str | None:
        """Says what cannot be sent to another process."""
        reason = base.no_single_environment(request) or base.refused_options(request, _TAKES)
        if request.vector_kwargs.get("on_worker_death") == "restart":
            reason = reason or "only the pool replaces workers"
        return reason or request.why_not_sent

    def build(self, request: Request) -> AsyncVectorEnv:
        """Builds Gymnasium's `AsyncVectorEnv`.

        Unlike there, the start method is safe with threads in the parent, and a space that shared
        memory cannot hold goes through pipes. Gymnasium reads shared Text and OneOf observations
        once, when it is built, and returns that first value for ever.

        Raises:
            RequestError: If `shared_memory=True` was asked for and the space cannot go there.
        """
        processes.need_descriptors(request.num_envs)
        options = base.options_for(request, _TAKES)
        options["context"] = options.get("context") or processes.start_methods()[0]
        if "shared_memory" in options:
            env: AsyncVectorEnv
            try:
                env = BoundedAsyncVectorEnv(request.env_fns, **options)
            except NotShareable as error:
                assert error.__cause__ is not None
                raise error.__cause__ from None
            if options["shared_memory"] and (frozen := frozen_space(env.single_observation_space)):
                env.close()
                raise RequestError(
                    f"Mode 'async' with shared_memory=True would return the same {frozen} "
                    "observation for ever (a defect of Gymnasium's AsyncVectorEnv). Leave "
                    "shared_memory out: such a space then goes through pipes."
                )
        else:
            env = _start_with_what_memory_it_can(request, options)
        base.set_spec(env, request, "async")
        return env


def _start_with_what_memory_it_can(request: Request, options: dict[str, Any]) -> AsyncVectorEnv:
    """Shared memory where the space can go there, else pipes. Which one shows once it is built."""
    try:
        env = BoundedAsyncVectorEnv(request.env_fns, **options)
    except NotShareable:  # Graph, Sequence and custom spaces
        return BoundedAsyncVectorEnv(request.env_fns, **{**options, "shared_memory": False})
    if frozen_space(env.single_observation_space) is None:
        return env
    env.close()
    return BoundedAsyncVectorEnv(request.env_fns, **{**options, "shared_memory": False})


class BoundedAsyncVectorEnv(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv` with a guard at both ends of its pipes.

    What a sub-environment raises arrives as it was raised, and leaves every worker in service;
    a worker that dies is reported at once; calls that were given up or interrupted leave nothing
    stale; and `close` ends every process, whatever state it finds.

    After a `multiprocessing.TimeoutError` the next call may be any, as in Gymnasium, or another
    `step_wait` that collects the same step, in which case nothing was lost.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env]],
        *,
        start_timeout_s: float | None = None,
        step_timeout_s: float | None = None,
        **options: Any,
    ) -> None:
        """Starts a worker for each sub-environment.

        Args:
            env_fns: One factory per sub-environment.
            start_timeout_s: Seconds that building all of them may take.
            step_timeout_s: Seconds that a step, reset or call may take.
            **options: Those of `AsyncVectorEnv`.

        Raises:
            NotShareable: If shared memory cannot hold the observations; nothing was started.
            StepTimeout: If building took too long.
            WorkerDied: If a worker's process ended.
            Exception: What a factory raised.
        """
        self.closed = True  # until there is something to close
        self._owner = os.getpid()
        self._start_limit = (start_timeout_s, "start_timeout_s")
        self._step_limit = (step_timeout_s, "step_timeout_s")
        self._late: AsyncState | None = None
        self._ended: np.ndarray | None = None
        self._exchange: Exchange | None = None
        worker = options.pop("worker", None)
        guarded = Guarded(
            worker,
            [processes.child_seed(index) for index in range(len(env_fns))],
            may_start_processes="daemon" not in options,
            inherited=lambda: self.parent_pipes,
        )
        factories = [Factory(make, row) for row, make in enumerate(env_fns)]
        try:
            with processes.hidden_main():
                super().__init__(factories, worker=guarded, **options)  # type: ignore[arg-type]
        except BaseException as error:
            self._abort()
            seen, started = hasattr(self, "observation_space"), hasattr(self, "parent_pipes")
            if isinstance(error, (TypeError, ValueError)) and seen and not started:
                raise NotShareable from error
            raise
        self.env_fns, self.worker = env_fns, worker
        self.closed = False
        assert self._exchange is not None
        # Runs on garbage collection and before multiprocessing ends its children at exit, but not
        # in a process that somebody forked from this one.
        arguments = (self._exchange.lines, CLOSE_LIMIT_S)
        self._finalizer: Any = Finalize(self, end_all, arguments, exitpriority=10)
        _open.add(self)

    def _check_spaces(self) -> None:
        """Waits until the sub-environments are built, and sees whether their spaces agree."""
        self.closed = False
        self._exchange = Exchange(self.parent_pipes, self.processes)
        self.parent_pipes = list(self._exchange.lines)  # type: ignore[arg-type]
        self._exchange.limit_s = self._start_limit
        self._exchange.gather()
        self.error_queue.close()  # errors come with the answers; its semaphores have names that a
        del self.error_queue  # killed program would leave behind
        super()._check_spaces()  # type: ignore[no-untyped-call]
        self._exchange.limit_s = self._step_limit

    def _abort(self) -> None:
        """Ends what was started before something failed."""
        self.closed = True
        if self._exchange is None:
            pairs = zip(
                getattr(self, "parent_pipes", ()), getattr(self, "processes", ()), strict=False
            )
            started = [(pipe, process) for pipe, process in pairs if process.pid is not None]
            self._exchange = Exchange(*zip(*started, strict=True)) if started else None
        if self._exchange is not None:
            end_all(self._exchange.lines, 0.0)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every sub-environment."""
        return self._jointly(super().step, actions)  # type: ignore[no-any-return]

    def step_async(self, actions: Any) -> None:
        """Begins a step."""
        if self._ended is not None:
            base.need_no_ended_episode(self._ended)
        self._send(super().step_async, actions)

    def step_wait(self, timeout: float | None = None) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Collects a step."""
        result: Any = self._collect(AsyncState.WAITING_STEP, super().step_wait, timeout)
        if self.autoreset_mode == AutoresetMode.DISABLED:
            self._ended = result[2] | result[3]
        return result  # type: ignore[no-any-return]

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the sub-environments."""
        return self._jointly(super().reset, seed=seed, options=options)  # type: ignore[no-any-return]

    def reset_async(self, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Begins a reset."""
        mask = (options or {}).get("reset_mask", slice(None))
        self._send(super().reset_async, seed=seed, options=options)
        if self._ended is not None:
            self._ended[mask] = False

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Collects a reset."""
        return self._collect(AsyncState.WAITING_RESET, super().reset_wait, timeout)  # type: ignore[no-any-return]

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of every sub-environment."""
        return self._jointly(super().call, name, *args, **kwargs)  # type: ignore[no-any-return]

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Begins a call."""
        self._send(super().call_async, name, *args, **kwargs)

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Collects a call."""
        return self._collect(AsyncState.WAITING_CALL, super().call_wait, timeout)  # type: ignore[no-any-return]

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every sub-environment; of none if a value cannot be sent."""
        self._jointly(self._send, super().set_attr, name, values)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Ends the workers; in a process that was forked from their owner, only lets go of them.

        Args:
            timeout: Seconds they may take to close their sub-environments; 3.5 by default.
            terminate: Whether to end them without waiting.
        """
        assert self._exchange is not None
        self._state = AsyncState.DEFAULT
        if os.getpid() != self._owner:
            for line in self._exchange.lines:
                line.close()
            return
        self._finalizer.cancel()
        limit_s = CLOSE_LIMIT_S if timeout is None else timeout
        try:
            end_all(self._exchange.lines, 0.0 if terminate else limit_s)
        finally:
            self.closed = True
            self.parent_pipes, self.processes = [], []

    def __del__(self) -> None:
        """Closes it, unless that was done."""
        if not getattr(self, "closed", True):
            self.close()

    def __reduce__(self) -> Any:
        """Refused, and with it copying: two of them could not share the workers."""
        raise VecselectError(
            "An AsyncVectorEnv cannot be copied or pickled; make another with auto_make_vec."
        )

    def _assert_is_running(self) -> None:
        super()._assert_is_running()
        if os.getpid() != self._owner:
            raise VecselectError(
                f"This vector environment belongs to process {self._owner}; in one forked from it "
                "it cannot be used. Make another one here."
            )

    def _poll_pipe_envs(self, timeout: float | None = None) -> bool:
        """Has every answer in before Gymnasium reads the first, whatever the time limit."""
        self._assert_is_running()
        assert self._exchange is not None
        return self._exchange.gather(timeout)

    def _jointly(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Begins something and collects it; if that fails half-way, it is given up."""
        idle = self._state == AsyncState.DEFAULT
        try:
            return method(*args, **kwargs)
        except BaseException:
            if idle:
                self._give_up()
            raise

    def _send(self, begin: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Begins something in every worker, or in none."""
        self._assert_is_running()
        assert self._exchange is not None
        self._exchange.begin()
        idle = self._state == AsyncState.DEFAULT
        try:
            begin(*args, **kwargs)
            self._exchange.flush()
        except BaseException:
            if idle:
                self._give_up()
            raise
        self._late = None

    def _collect(self, state: AsyncState, wait: Callable[..., Any], timeout: float | None) -> Any:
        """Collects what was begun."""
        assert self._exchange is not None
        if self._late == state and self._state == AsyncState.DEFAULT:
            self._state = state
        pending = self._state == state
        try:
            return wait(timeout)
        except multiprocessing.TimeoutError as error:
            if pending:
                still = self._exchange.pending() and not isinstance(error, StepTimeout)
                self._late = state if still else None
                if not still:
                    self._give_up()
            raise
        except BaseException:
            if pending:
                self._give_up()
            raise

    def _give_up(self) -> None:
        """Lets go of what was begun; what it still is answered with is dropped."""
        if self._exchange is not None:
            self._exchange.drop()
        self._late = None
        self._state = AsyncState.DEFAULT


class NotShareable(Exception):
    """Shared memory cannot hold a space; Gymnasium's own error is the cause."""


_open: weakref.WeakSet[BoundedAsyncVectorEnv] = weakref.WeakSet()


def _disown_in_fork() -> None:
    """In a forked process: its end must not be that of the workers, which are its parent's."""
    children: set[Any] = getattr(multiprocessing.process, "_children", set())
    for env in list(_open):
        children.difference_update(env.processes)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_in_fork)


def frozen_space(space: gym.Space) -> str | None:
    """The name of the first space inside `space` that goes stale in shared memory, or None."""
    if isinstance(space, (spaces.Text, spaces.OneOf)):
        return type(space).__name__
    if isinstance(space, spaces.Dict):
        parts = list(space.spaces.values())
    elif isinstance(space, spaces.Tuple):
        parts = list(space.spaces)
    else:
        return None
    return next(filter(None, map(frozen_space, parts)), None)
