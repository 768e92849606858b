"""`pool`: lanes over shared memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vecselect import processes
from vecselect.backends import base
from vecselect.backends.pool.construction import Settings
from vecselect.backends.pool.signals import DEFAULT_TRIES, EAGER_TRIES
from vecselect.backends.pool.vector_env import PoolVectorEnv
from vecselect.backends.shared import why_no_memory, why_no_semaphore
from vecselect.lanes import count_lanes, usual_workers
from vecselect.machine import read_machine
from vecselect.request import FAILURE_OPTIONS

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.request import Request

_TAKES = base.LOOP_OPTIONS | {"context", "daemon"} | FAILURE_OPTIONS


def count_workers(request: Request, machine: Machine, workers: int | None = None) -> int:
    """The number of workers that a pool has.

    Args:
        request: What was asked for.
        machine: The cores there are.
        workers: The number asked for; by default as many as make one lane per usable core.
    """
    if workers is None:
        return usual_workers(int(machine.cores), request.num_envs, request.caller_steps)
    return workers


def _is_alone(request: Request, machine: Machine) -> bool:
    """Whether a pin asks for a pool that comes to the caller's lane alone."""
    name, *words = (request.pin.mode if request.pin else "").split(":")
    workers = count_workers(request, machine, int(words[0]) if words else None)
    return name == Pool.name and workers == 0


class Pool:
    """Runs the sub-environments in lanes: the caller's own, and one in each worker.

    With a deadline the caller has none.
    """

    name = "pool"

    def missing(self, machine: Machine) -> str | None:
        """Says what of the system it lacks. Where no process may start, `pool:0` still runs."""
        if os.name != "posix":
            return "it needs the shared memory and semaphores of a POSIX system"
        return why_no_semaphore() or why_no_memory()

    def why_not(self, request: Request, machine: Machine) -> str | None:
        """Says why there can be no workers, unless a pin asks for none."""
        reason = base.no_single_environment(request) or base.refused_options(request, _TAKES)
        if reason or _is_alone(request, machine):
            return reason
        blocked = processes.why_no_children() or request.why_not_sent
        return blocked and f"{blocked}; pool:0 starts none"

    def build(
        self, request: Request, *, workers: int | None = None, tries: int | None = None
    ) -> PoolVectorEnv:
        """Builds a `PoolVectorEnv`.

        Args:
            request: What was asked for.
            workers: Processes besides the caller's; as many as make one lane per usable core by
                default.
            tries: Tries before a waiting lane sleeps; by default many, but few where there are more
                lanes than cores: there a lane that spins takes its core from one that works.
        """
        machine = read_machine()
        base.need_work_for(self.name, workers, request)
        workers = count_workers(request, machine, workers)
        lanes = count_lanes(workers, request.caller_steps)
        if tries is None:
            tries = DEFAULT_TRIES if lanes < machine.cores + 1 else EAGER_TRIES
        if workers:
            processes.need_descriptors(workers)
        options = request.vector_kwargs
        settings = Settings(
            workers=workers,
            threads=max(1, int(machine.cores) // lanes),
            tries=tries,
            copy=options.get("copy", True),
            observation_mode=options.get("observation_mode", "same"),
            autoreset_mode=request.autoreset_mode,
            context=options.get("context"),
            daemon=options.get("daemon", False),
            step_timeout_s=options.get("step_timeout_s"),
            start_timeout_s=options.get("start_timeout_s"),
            memory_available_bytes=machine.memory_available_bytes,
            caller_steps=request.caller_steps,
            restart=options.get("on_worker_death") == "restart",
        )
        env = PoolVectorEnv(request.env_fns, settings)
        base.set_spec(env, request, None)
        return env
