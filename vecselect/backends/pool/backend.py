"""`pool`: lanes over shared memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vecselect.backends import base
from vecselect.backends.buffered import build_in_buffers
from vecselect.backends.pool.first_finished import FirstFinishedVectorEnv
from vecselect.backends.pool.link import DEFAULT_TRIES, EAGER_TRIES, new_memory
from vecselect.backends.pool.processes import Host, Hosts, ProcessWorkers
from vecselect.backends.pool.rows import RowProcesses
from vecselect.backends.pool.settings import Settings
from vecselect.backends.pool.vector_env import PoolVectorEnv
from vecselect.machine import read_machine
from vecselect.modes import Mode, usual_workers
from vecselect.process import children
from vecselect.request import FAILURE_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Set

    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.request import Request


class Pool(base.Backend):
    """Runs the sub-environments in lanes: the caller's own, and one in each worker.

    With a deadline the caller has none.
    """

    takes: Set[str] = base.LOOP_OPTIONS | {"context", "daemon"} | FAILURE_OPTIONS
    buffers = True

    def missing(self, machine: Machine) -> str | None:
        """Says what of the system it lacks. Where no process may start, `pool:0` still runs."""
        return base.why_no_semaphore() or _why_no_memory()

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says why there can be no workers, unless there are to be none."""
        reason = super().why_not(request, mode, machine)
        if reason or self.exact(request, mode, machine).workers == 0:
            return reason
        blocked = children.why_no_children() or request.why_not_sent
        return blocked and f"{blocked}; pool:0 starts none"

    def exact(self, request: Request, mode: Mode, machine: Machine) -> Mode:
        """By default as many workers as make one slice per usable core."""
        if mode.workers is not None:
            return mode
        smallest = request.num_envs // request.buffers
        workers = usual_workers(int(machine.cores), smallest, request.caller_steps)
        return Mode("pool", workers)

    def build(self, request: Request, mode: Mode, *, first: Host | None = None) -> VectorEnv:
        """Builds a `PoolVectorEnv`, one for each buffer, or a `FirstFinishedVectorEnv`.

        Args:
            request: What was asked for.
            mode: With the number of workers; by default one slice per usable core.
            first: A process that is to be the first worker.
        """
        base.need_work_for(mode, request)
        workers = self.exact(request, mode, read_machine()).workers or 0
        if request.batch_size is not None:
            children.need_descriptors(workers)
            settings = _settings(request, workers, workers, queues=True)
            env = FirstFinishedVectorEnv(
                request.env_fns, settings, request.batch_size, RowProcesses
            )
            base.set_spec(env, request, None)
            return env

        hosts = Hosts(request.buffers, first)

        def built(part: Request, number: int) -> PoolVectorEnv:
            settings = _settings(
                part,
                workers,
                0 if number else workers,  # the first has looked for room for them
                buffer=number if request.buffers > 1 else None,
            )
            env = PoolVectorEnv(part.env_fns, settings, partial(ProcessWorkers, hosts=hosts))
            base.set_spec(env, part, None)
            return env

        children.need_descriptors(workers, pipes=request.buffers)
        return build_in_buffers(request, built)


def _settings(request: Request, workers: int, started: int, **more: Any) -> Settings:
    """How a pool of workers is to run, of which it starts some: see `Settings.processes`."""
    machine, options = read_machine(), request.vector_kwargs
    # Where there are more slices than cores, one that spins takes its core from one that works.
    # Beside buffers the caller has no slice; it works while they step, and spins if there is room.
    beside = workers + (request.caller_steps or request.overlaps)
    lanes = beside if request.batch_size is not None else workers + request.caller_steps
    tries, caller_tries = (
        DEFAULT_TRIES if number < machine.cores + 1 else EAGER_TRIES for number in (lanes, beside)
    )
    return Settings.of(
        request,
        workers,
        threads=max(1, int(machine.cores) // beside),
        tries=tries,
        caller_tries=caller_tries,
        context=options.get("context"),
        daemon=options.get("daemon", False),
        processes=started,
        caller_steps=request.caller_steps,
        **more,
    )


def _why_no_memory() -> str | None:
    """One sentence if no memory can be shared between processes here, else None.

    A page of it is made and let go: a container may refuse the system call.
    """
    try:
        block = new_memory()
        block.resize(1)
        block.mapped(1).close()
        block.forget_descriptor()
    except (OSError, ValueError) as error:
        return f"no memory can be made that processes share ({base.system_text(error)})"
    return None
