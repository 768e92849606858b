"""Mode `async`: Gymnasium's `AsyncVectorEnv`, a process and pickled messages per environment.

`AsyncVectorEnv` takes a `worker`, which is `async_worker.work`, and the name of a context of
multiprocessing, which it asks for pipes and processes. That context is `async_pipes.AsyncWorkers`:
what it calls pipes have the methods that `AsyncVectorEnv` calls, and raise what sub-environments
have raised, that a worker has died, or that one takes too long.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
from array import typecodes
from multiprocessing.util import Finalize
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from vecselect.backends import base
from vecselect.backends.async_pipes import AsyncWorkers, RanOut
from vecselect.backends.async_worker import work
from vecselect.backends.pool.arena import leaves
from vecselect.backends.pool.construction import construct
from vecselect.backends.pool.processes import ProcessWorkers
from vecselect.backends.pool.settings import Settings
from vecselect.backends.specs import facts_of
from vecselect.errors import RequestError, VecselectError
from vecselect.machine import WORKER_BYTES, read_memory
from vecselect.process import children, contexts, pickling
from vecselect.process.interrupts import DeferredInterrupts
from vecselect.request import RAY_OPTIONS, VECTOR_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    import gymnasium as gym

    from vecselect.backends.pool.settings import Sample
    from vecselect.backends.specs import Facts
    from vecselect.factory import EnvFn
    from vecselect.machine import Machine
    from vecselect.modes import Mode
    from vecselect.request import Request

CLOSE_LIMIT_S = 3.5
"""How long workers may take to end, all together, before they are terminated and then killed."""

_Method = TypeVar("_Method", bound="Callable[..., Any]")


class Async(base.Backend):
    """Runs each sub-environment in a process of its own."""

    takes: Set[str] = VECTOR_OPTIONS - RAY_OPTIONS - {"on_worker_death"}

    def missing(self, machine: Machine) -> str | None:
        """Says so inside a process that may not start others, and what of the system it lacks."""
        return children.why_no_children() or base.why_no_semaphore()

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says what cannot be sent to another process."""
        reason = super().why_not(request, mode, machine)
        if request.vector_kwargs.get("on_worker_death") == "restart":
            reason = reason or "it cannot restart workers; only mode 'pool' can"
        if "worker" in request.vector_kwargs and request.deadlines:
            reason = reason or (
                "AsyncVectorEnv with a worker function of your own cannot enforce deadlines"
            )
        return reason or request.why_not_sent

    def build(self, request: Request, mode: Mode) -> AsyncVectorEnv:
        """Builds the vector environment; with a `worker` of the user's it is Gymnasium's alone."""
        children.need_descriptors(request.num_envs)
        base.warn_of_memory(request.num_envs, WORKER_BYTES, read_memory()[1])
        options = base.options_for(request, self.takes)
        if "worker" in options:
            method = options.pop("context", None)
            with contexts.named(contexts.get_context(method)) as name:
                env: AsyncVectorEnv = OwnWorkerVectorEnv(request.env_fns, context=name, **options)
            env.context = method
        else:
            env = GuardedAsyncVectorEnv(request.env_fns, **options)
        base.set_spec(env, request, "async")
        return env


class OwnWorkerVectorEnv(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv` with a `worker` of the user's, which calls all or none."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Stands in for calls of some sub-environments."""
        raise VecselectError(
            "Mode 'async' with a worker function of your own (vector_kwargs['worker']) cannot "
            "call only some of its sub-environments: AsyncVectorEnv calls all of them. Leave "
            "indices out, or leave worker out."
        )

    call_some = call_some_async = set_attr_some = _refuse


def _recovering(method: _Method) -> _Method:
    """A method of `AsyncVectorEnv` that leaves no call pending that it has begun, if it fails."""
    collects = method.__name__.endswith("_wait")

    @functools.wraps(method)
    def call(self: GuardedAsyncVectorEnv, *args: Any, **kwargs: Any) -> Any:
        if os.getpid() != self._owner:
            raise VecselectError(
                f"This vector environment was made by process {self._owner} and works only there, "
                "not in a process forked from it. Make another one in this process."
            )
        if self._ran_out and not collects:  # as in Gymnasium any call may follow
            self._give_up()
        gives_up = collects or not any(line.awaited for line in self._workers.lines)
        try:
            result = method(self, *args, **kwargs)
        except RanOut:  # what was begun may still be collected
            self._ran_out = True
            raise
        except (AlreadyPendingCallError, NoAsyncCallError):
            raise
        except BaseException:
            if gives_up:
                self._give_up()
            raise
        self._ran_out = False
        return result

    return call  # type: ignore[return-value]


class GuardedAsyncVectorEnv(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv` with a safe start, and with pipes and workers of our own.

    What a sub-environment raises arrives as it was raised, and leaves every worker in service. A
    worker that dies is named. `close` ends every process, whatever state it finds.
    """

    _finalizer: Any = None
    _ran_out = False
    """Whether the time of a wait has run out, and nothing has followed."""

    def __init__(
        self,
        env_fns: Sequence[EnvFn],
        *,
        start_timeout_s: float | None = None,
        step_timeout_s: float | None = None,
        context: str | None = None,
        observation_mode: Any = "same",
        **options: Any,
    ) -> None:
        """Starts a worker for each sub-environment; `options` are those of `AsyncVectorEnv`.

        Raises:
            RequestError: If `shared_memory` is True and the space cannot go there.
            StepTimeout: If building all of them takes longer than `start_timeout_s`.
            WorkerDied: If a worker's process ends.
            Exception: What a factory raises.
        """
        self._owner = os.getpid()
        self._called: Sequence[int] = ()
        sample, facts, spaces = _looked_at(env_fns, observation_mode, context, start_timeout_s)
        single = spaces[1] if isinstance(spaces, tuple) else sample.observation_space
        # Of Text or OneOf Gymnasium's shared memory would return the same for ever, and it refuses
        # other Python objects.
        dtypes = [leaf.dtype for leaf in leaves(single)]
        fits = all(dtype is not None and dtype.char in f"{typecodes}?" for dtype in dtypes)
        if options.get("shared_memory") and not fits:
            raise RequestError(
                "Mode 'async' with shared_memory=True cannot run this environment: shared memory "
                f"cannot hold observations of {single}. Leave shared_memory out: they then go "
                "through pipes."
            )
        options = {"shared_memory": fits, "daemon": False, **options}
        shown: Any = SimpleNamespace(**vars(sample), close=lambda: None)
        self._workers = AsyncWorkers(env_fns, facts, context, start_timeout_s)
        try:
            with contexts.named(self._workers) as name:
                super().__init__(
                    [lambda: shown] * len(env_fns),
                    context=name,
                    worker=work,  # type: ignore[arg-type]
                    observation_mode=spaces,
                    **options,
                )
        except BaseException:
            self._workers.end(0.0)
            raise
        self.env_fns: Sequence[EnvFn] = env_fns
        self.context: str | None = context
        self.observation_mode: str | gym.Space[Any] = observation_mode
        self._workers.set_limit("step_timeout_s", step_timeout_s)
        # Runs on garbage collection and before multiprocessing ends its children at exit, but not
        # in a process that somebody forked from this one.
        self._finalizer = Finalize(self, self._workers.end, (CLOSE_LIMIT_S,), exitpriority=10)

    if not TYPE_CHECKING:  # their types are those of AsyncVectorEnv
        step = _recovering(AsyncVectorEnv.step)
        step_async = _recovering(AsyncVectorEnv.step_async)
        step_wait = _recovering(AsyncVectorEnv.step_wait)
        reset = _recovering(AsyncVectorEnv.reset)
        reset_async = _recovering(AsyncVectorEnv.reset_async)
        reset_wait = _recovering(AsyncVectorEnv.reset_wait)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:  # type: ignore[override]
        """Calls a method of every sub-environment, or reads an attribute that is not callable."""
        return self.call_some(range(self.num_envs), name, args, kwargs)

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Begins a call of every sub-environment."""
        self.call_some_async(range(self.num_envs), name, args, kwargs)

    @_recovering
    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Collects a call: a result for each sub-environment that was called, in that order."""
        results = super().call_wait(timeout)
        return tuple(results[row] for row in self._called)

    @_recovering
    def call_some(
        self,
        indices: Sequence[int],
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ...]:
        """Calls a method of some sub-environments; the results are in the order of `indices`."""
        self.call_some_async(indices, name, args, kwargs or {})
        return self.call_wait()

    @_recovering
    def call_some_async(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Begins `call_some`; `call_wait` collects it."""
        with self._workers.only(indices):
            super().call_async(name, args, kwargs)  # one of them may be called `name`
        self._called = indices

    @_recovering
    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every sub-environment; of none if a value cannot be sent."""
        pickling.dumps(values)
        super().set_attr(name, values)

    def set_attr_some(self, indices: Sequence[int], name: str, values: Sequence[Any]) -> None:
        """Sets an attribute of some sub-environments; of none if a value cannot be sent."""
        each = dict(zip(indices, values, strict=True))
        with self._workers.only(indices):
            self.set_attr(name, [each.get(row) for row in range(self.num_envs)])

    def _give_up(self) -> None:
        """Gives up a call that was begun: Gymnasium's own wait for it runs out at once."""
        with DeferredInterrupts():
            self._ran_out = False
            for line in self._workers.lines:
                line.give_up()
            for wait in (super().step_wait, super().reset_wait, super().call_wait):
                with contextlib.suppress(multiprocessing.TimeoutError, NoAsyncCallError):
                    wait(0)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Ends the workers, which have 3.5 s by default; does nothing in a fork of their owner."""
        if os.getpid() == self._owner:
            self._finalizer.cancel()
            self.closed = True  # also where this is interrupted
            limit_s = CLOSE_LIMIT_S if timeout is None else timeout
            self._workers.end(0.0 if terminate else limit_s)

    def __del__(self) -> None:
        """Closes it, unless that was done or its construction failed."""
        if self._finalizer is not None:
            self.close()

    def __reduce__(self) -> Any:
        """Refused, and with it copying: two of them could not share the workers."""
        raise VecselectError(
            "An AsyncVectorEnv cannot be copied or pickled; make another with auto_make_vec."
        )


def _looked_at(
    env_fns: Sequence[EnvFn], mode: Any, context: str | None, limit_s: float | None
) -> tuple[Sample, Facts | None, Any]:
    """Builds the first sub-environment, or all where spaces may differ, and closes them again.

    Where there is a time limit, in worker processes. Returns what the first says of itself, the
    facts of its spec if it was built here, and the `observation_mode` for `AsyncVectorEnv`.
    """
    differ, here = mode == "different", limit_s is None
    looked_at = env_fns if differ else env_fns[:1]
    settings = Settings(
        workers=0 if here else len(looked_at),
        copy=True,
        observation_mode="different" if differ else "same",
        autoreset_mode=AutoresetMode.NEXT_STEP,
        start_timeout_s=limit_s,
        context=context,
        caller_steps=here,
    )
    built = construct(looked_at, settings, ProcessWorkers)
    facts = facts_of(built.envs[0]) if here else None
    built.workers.end()
    for env in built.envs:
        env.close()
    spaces = built.observation_space, built.first.observation_space
    return built.first, facts, spaces if differ else mode
