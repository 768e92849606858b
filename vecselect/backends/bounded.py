"""`BoundedAsyncVectorEnv`: Gymnasium's `AsyncVectorEnv` that hangs, and leaves behind, nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from gymnasium.error import AlreadyPendingCallError
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState

from vecselect import processes
from vecselect.backends import base
from vecselect.backends.exchange import CLOSE_LIMIT_S, Exchange, end_all
from vecselect.backends.guard import Factory, Guarded
from vecselect.backends.samples import announce
from vecselect.backends.specs import difference, draws, same_factory
from vecselect.errors import StepTimeout, VecselectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import gymnasium as gym
    import numpy as np


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
        self._called: Sequence[int] = range(len(env_fns))
        self._makers = env_fns
        worker = options.pop("worker", None)
        start_method = options.pop("context", None)
        options["context"] = processes.context_name(start_method)
        guarded = Guarded(
            worker,
            [processes.child_seed(index) for index in range(len(env_fns))],
            may_start_processes="daemon" not in options,
            inherited=lambda: self.parent_pipes,
        )
        factories = [Factory(make, row) for row, make in enumerate(env_fns)]
        self._first = factories[0]
        if start_timeout_s is not None:
            # Gymnasium looks at environments that it builds in this process, which may hang.
            every = options.get("observation_mode") == "different"
            looked_at = factories if every else factories[:1]
            stand_ins = announce(looked_at, start_timeout_s, start_method)
            for factory, stand_in in zip(looked_at, stand_ins, strict=True):
                factory.announced = stand_in
        try:
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

    def _check_spaces(self) -> None:
        """Waits until the sub-environments are built, and sees whether their spaces agree."""
        self.closed = False
        self._exchange = Exchange(self.parent_pipes, self.processes)
        self.parent_pipes = list(self._exchange.lines)  # type: ignore[arg-type]
        self._exchange.limit_s = self._start_limit
        self._exchange.gather()
        self.error_queue.close()  # errors come with the answers; its semaphores have names that a
        del self.error_queue  # killed program would leave behind
        self._check_specs()
        super()._check_spaces()  # type: ignore[no-untyped-call]
        self._exchange.limit_s = self._step_limit

    def _check_specs(self) -> None:
        """Sees whether workers have built what the first factory has built here.

        Raises:
            RuntimeError: If one has not.
        """
        assert self._exchange is not None
        make = self._makers[0]
        for line in self._exchange.lines:
            facts, _ = line.recv()
            if not same_factory(self._makers[line.row], make):
                continue
            problem = difference(line.row, facts, self._first.facts)
            if problem:
                if draws(make, [self._first.facts]):
                    return
                raise RuntimeError(problem)

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
        self.call_some_async(range(self.num_envs), name, args, kwargs)

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Collects a call."""
        self._assert_is_running()
        with self._only(self._called):
            return self._collect(AsyncState.WAITING_CALL, super().call_wait, timeout)  # type: ignore[no-any-return]

    def call_some(
        self,
        indices: Sequence[int],
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ...]:
        """Calls a method of some sub-environments; the results are in the order of `indices`."""

        def call() -> tuple[Any, ...]:
            self.call_some_async(indices, name, args, kwargs or {})
            return self.call_wait()

        return self._jointly(call)  # type: ignore[no-any-return]

    def call_some_async(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Begins `call_some`; `call_wait` collects it."""
        self._assert_is_running()
        with self._only(indices):
            self._send(super().call_async, name, *args, **kwargs)
        self._called = indices

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every sub-environment; of none if a value cannot be sent."""
        self._jointly(self._send, super().set_attr, name, values)

    def set_attr_some(self, indices: Sequence[int], name: str, values: Sequence[Any]) -> None:
        """Sets an attribute of some sub-environments; of none if a value cannot be sent."""

        def set_them() -> None:
            for index, value in zip(indices, values, strict=True):
                self.parent_pipes[index].send(("_setattr", (name, value)))
            for index in indices:
                self.parent_pipes[index].recv()

        self._need_idle("set_attr")
        self._jointly(self._send, set_them)

    @contextlib.contextmanager
    def _only(self, indices: Sequence[int]) -> Iterator[None]:
        """For Gymnasium there are only these workers meanwhile, in this order."""
        every = self.parent_pipes
        self.parent_pipes = [every[index] for index in indices]
        try:
            yield
        finally:
            self.parent_pipes = every

    def _need_idle(self, kind: str) -> None:
        if self._state != AsyncState.DEFAULT:
            pending = str(self._state.value)
            raise AlreadyPendingCallError(
                f"Calling `{kind}` while waiting for a pending call to `{pending}` to complete.",
                pending,
            )

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
