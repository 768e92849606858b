"""Mode `async`: Gymnasium's `AsyncVectorEnv`, a process and pickled messages per environment.

`AsyncVectorEnv` starts the processes, in a context of ours and with `async_worker.work` as their
`worker`, and holds the observations, in its shared memory where that can hold them. From then on
they are workers as those of a pool are, which get their commands through its `parent_pipes`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import select
from array import typecodes
from copy import deepcopy
from multiprocessing.util import Finalize
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.utils import concatenate, iterate

from vecselect.backends import base
from vecselect.backends.async_worker import CLOSE, stand_in, work
from vecselect.backends.pool.arena import leaves
from vecselect.backends.pool.commands import LaneCalls
from vecselect.backends.pool.construction import construct
from vecselect.backends.pool.processes import ProcessWorkers
from vecselect.backends.pool.settings import Settings, Work
from vecselect.backends.pool.workers import PENDING, StillPending, Worker, Workers, nothing
from vecselect.backends.specs import facts_of, same_factory
from vecselect.backends.worker_pipe import WorkerPipe
from vecselect.errors import VecselectError, built_too_late
from vecselect.machine import WORKER_BYTES, read_memory
from vecselect.process import children, contexts, generators, pickling
from vecselect.process.remote_errors import Failed, raised_there
from vecselect.request import DEADLINES, RAY_OPTIONS, VECTOR_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set

    from vecselect.backends.pool.commands import StepResult
    from vecselect.backends.pool.construction import Built
    from vecselect.factory import EnvFn
    from vecselect.machine import Machine
    from vecselect.modes import Mode
    from vecselect.request import Request

LOOK_S = 0.05
"""How long one worker is waited for before it is seen what has become of the others."""


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
        options = base.options_for(request, self.takes - {*DEADLINES})
        method = options.pop("context", None)
        name = contexts.registered(method)
        if "worker" in options:
            env: AsyncVectorEnv = OwnWorkerVectorEnv(request.env_fns, context=name, **options)
        else:
            settings = Settings.of(request, request.num_envs, context=method)
            env = GuardedAsyncVectorEnv(request.env_fns, settings, options)
        env.context = method
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


class PipeWorker(Worker):
    """A worker process behind a pipe, which begins by saying how building went."""

    def __init__(self, what: Work, pipe: Any, process: Any) -> None:
        """Takes over the caller's end of the pipe."""
        super().__init__(what)
        self.pipe: WorkerPipe = WorkerPipe(pipe, process, self.name)
        self._pid = process.pid
        self._is_asked = True
        self._answers: list[Any] = []
        self._poll: Callable[[float], Any] = pipe.poll
        if hasattr(select, "poll"):  # not on Windows; `Connection.poll` takes ten times as long
            poll = select.poll()
            poll.register(pipe.fileno(), select.POLLIN)
            self._poll = lambda wait_s: poll.poll(math.ceil(wait_s * 1e3))

    @property
    def outstanding(self) -> bool:
        """Whether a command was given whose end has not been seen."""
        return self._is_asked or bool(self._answers)

    def packed(self, name: str, args: tuple[Any, ...]) -> bytes:
        """A request to call a method of the lane; `request` sends it."""
        # A batch of actions consists of what every process can import; arguments may not.
        dumps = pickling.dumps_importable if name == "step" else pickling.dumps
        return dumps((name, args))

    def request(self, data: bytes, slot: int = 0) -> None:
        """Begins what was packed before."""
        with self.pipe.message():
            self._is_asked = True
            self.pipe.connection.send_bytes(data)

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun: see `Worker`."""
        while not self._answers:
            left_s = LOOK_S if deadline_s is None else deadline_s()
            if self._receive(max(min(left_s, LOOK_S), 0.0)):
                break
            (look_around or self.check)()
            if left_s <= 0:
                return PENDING
        return self._answers.pop()

    def _receive(self, wait_s: float) -> bool:
        """Receives an answer, whole or not at all, if one comes in time; returns whether."""
        if not self._poll(wait_s):
            return False
        with self.pipe.message():
            data = self.pipe.connection.recv_bytes()
            self._is_asked = False
        answer = pickling.loads(data)
        self._answers = [raised_there(answer) if isinstance(answer, Failed) else answer]
        return True

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Collects the answer to a command that was interrupted: see `Worker`."""
        return self.collect(deadline_s)

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""
        if self._is_asked:
            self._receive(0.0)
        return bool(self._answers) and isinstance(self._answers[0], BaseException)

    def death(self) -> Any:
        """How its process ended; None if it runs."""
        return self.pipe.death()

    def name(self) -> str:
        """The worker and what it runs, as the beginning of a sentence."""
        return f"Worker {self.index} (pid {self._pid}), {self.runs()}"


class PipeWorkers(Workers):
    """Workers behind pipes, which `AsyncVectorEnv` has started."""

    def collect_built(self) -> None:
        """Waits until all have built their sub-environments; raises what a factory raised."""
        limit_s, self._limit_s = self.settings.start_timeout_s, None
        try:
            self.collect(nothing, limit_s)
        except StillPending:
            slow = next(worker for worker in self.each if worker.outstanding)
            raise built_too_late(slow.name(), limit_s) from None
        self._limit_s = self.settings.step_timeout_s

    def end_some(self, workers: Sequence[Any], limit_s: float) -> None:
        """Ends workers: asks them, and kills them after a time limit; 0 does not ask."""
        workers = [worker for worker in workers if not worker.ended]
        for worker in workers:
            worker.ended = True
        try:
            for worker in workers:  # one that is busy sees it when it has answered
                worker.pipe.close_unless_in_use(CLOSE if limit_s > 0 else None)
        finally:
            try:
                children.end_all([worker.pipe.process for worker in workers], limit_s)
            finally:
                for worker in workers:
                    worker.pipe.connection.close()


class GuardedAsyncVectorEnv(LaneCalls, AsyncVectorEnv):  # type: ignore[misc]
    """Gymnasium's `AsyncVectorEnv` with a safe start and with workers as those of a pool.

    What a sub-environment raises arrives as it was raised, and leaves every worker in service. A
    worker that dies is named. `close` ends every process, whatever state it finds.
    """

    def __init__(
        self, env_fns: Sequence[EnvFn], settings: Settings, options: dict[str, Any]
    ) -> None:
        """Starts a worker for each sub-environment; `options` are those of `AsyncVectorEnv`."""
        LaneCalls.__init__(self)
        built = _looked_at(env_fns, settings)
        space = built.spec.observation_space
        # Of Text or OneOf Gymnasium's shared memory would return the same for ever, and it refuses
        # other Python objects: these go through the pipes.
        dtypes = [leaf.dtype for leaf in leaves(space)]
        fits = all(dtype is not None and dtype.char in f"{typecodes}?" for dtype in dtypes)
        options = {"shared_memory": True, "daemon": False, **options}
        options["shared_memory"] = options["shared_memory"] and fits
        if not settings.same_spaces:
            options["observation_mode"] = built.observation_space, space
        self._workers: PipeWorkers = PipeWorkers(settings)
        self._lane: Any = SimpleNamespace(rows=range(0))
        self._ended = np.zeros(len(env_fns), np.bool_)
        works = [Work(row, (make,), row, tries=0) for row, make in enumerate(env_fns)]
        tasks = [pickling.dumps((one, built.spec)) for one in works]
        factories = [
            functools.partial(stand_in, generators.child_seed(row), task, built.first)
            for row, task in enumerate(tasks)
        ]
        self.parent_pipes, self.processes = [], []
        try:
            try:
                # One that has ended before it is asked for its spaces is named below.
                with contextlib.suppress(EOFError, ConnectionError):
                    AsyncVectorEnv.__init__(
                        self,
                        factories,
                        context=contexts.registered(settings.context),
                        worker=work,  # type: ignore[arg-type]
                        **options,
                    )
            finally:
                started = zip(works, self.parent_pipes, self.processes, strict=False)
                self._workers.each = [PipeWorker(*one) for one in started if one[-1].pid]
            self._workers.collect_built()
            # Runs on garbage collection and before multiprocessing ends its children at exit, but
            # not in a process that somebody forked from this one.
            self._finalizer = Finalize(self, self._workers.end, exitpriority=10)
            del self.error_queue  # which nobody uses, but which has names that can be left behind
        except BaseException:
            self.closed = True
            self._workers.end(0.0)
            raise
        self.env_fns: Sequence[EnvFn] = env_fns
        self.observation_mode: Any = settings.observation_mode

    def __del__(self) -> None:
        """Leaves closing to the finalizer."""

    def _begin_step(self, actions: Any) -> None:
        workers = self._begin("step")
        if self.autoreset_mode is AutoresetMode.DISABLED:
            base.need_no_ended_episode(self._ended)
        listed = list(iterate(self.action_space, actions))
        workers.ask("step", lambda rows: (listed[rows.start : rows.stop],))
        self._own_work = nothing

    def _end_step(self, timeout_s: float | None) -> StepResult:
        observations, infos, (rewards, *flags) = self._results(timeout_s)
        terminated, truncated = (np.array(one, np.bool_) for one in flags)
        self._ended = terminated | truncated
        return observations, np.array(rewards, np.float64), terminated, truncated, infos

    def _begin_reset(self, seed: Any, options: dict[str, Any] | None) -> None:
        workers = self._begin("reset")
        arguments, mask = self._read_reset(seed, options)
        workers.ask("reset", arguments)
        self._own_work = nothing
        self._ended[mask] = False

    def _end_reset(self, timeout_s: float | None) -> tuple[Any, dict[str, Any]]:
        observations, infos, _ = self._results(timeout_s)
        return observations, infos

    def _results(self, timeout_s: float | None) -> tuple[Any, dict[str, Any], list[Any]]:
        """Observations, infos, and by kind the numbers of all rows."""
        observations, each_infos, *numbers = zip(*self._collected(timeout_s)[1:], strict=True)
        infos: dict[str, Any] = {}
        for row, found in enumerate(each_infos):
            for info in found:
                infos = self._add_info(infos, info, row)
        if not self.shared_memory:
            self.observations = concatenate(
                self.single_observation_space, observations, self.observations
            )
        return deepcopy(self.observations) if self.copy else self.observations, infos, numbers


def _looked_at(env_fns: Sequence[EnvFn], settings: Settings) -> Built:
    """Builds the first sub-environment, or all where spaces may differ, and closes them again.

    Where there is a time limit for it, in worker processes. What is built in the caller's is what
    workers compare theirs with.
    """
    here = settings.start_timeout_s is None
    looked_at = env_fns if settings.observation_mode == "different" else env_fns[:1]
    workers = 0 if here else len(looked_at)
    settings = dataclasses.replace(settings, workers=workers, caller_steps=here)
    with contextlib.ExitStack() as looked:
        built = construct(looked_at, settings, ProcessWorkers, looked)
        first = facts_of(built.envs[0]) if here else None
    alike = [row for row, make in enumerate(env_fns) if here and same_factory(make, env_fns[0])]
    spec = dataclasses.replace(
        built.spec,
        layout=dataclasses.replace(built.spec.layout, num_envs=len(env_fns), workers=0, slots=1),
        facts=first,
        alike=frozenset(alike),
    )
    return dataclasses.replace(built, spec=spec)
