"""`thread`: lanes in threads of the calling process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.backends import base
from vecselect.backends.pool.construction import Settings
from vecselect.backends.pool.threads import ThreadStarter
from vecselect.backends.pool.vector_env import PoolVectorEnv
from vecselect.machine import read_machine
from vecselect.modes import Mode, usual_workers

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.request import Request

MOST_THREADS = 255
"""Threads by default at the most. Handing a step to one takes some 9 us of a core's time, so that
more of them hardly wait for anything but each other."""

_TAKES = base.LOOP_OPTIONS | {"start_timeout_s", "step_timeout_s"}


class ThreadVectorEnv(PoolVectorEnv):
    """Steps the sub-environments in lanes: one in the calling thread, one in each further thread.

    It gives what the pool gives. What waits, or computes without the interpreter's lock, overlaps;
    the rest takes turns. Nothing is packed or copied to another process, so callables, values and
    exceptions may be of any kind, and `get_attr` returns the objects themselves.

    Sub-environments are built in the order of their rows, each in the thread that steps and closes
    it.
    """

    _workers = ThreadStarter


class Thread:
    """Runs the sub-environments in lanes: the caller's own, and one in each thread.

    With a deadline the caller has none.
    """

    name = "thread"

    def missing(self, machine: Machine) -> str | None:
        """Never: threads run everywhere."""
        return None

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says which option has no meaning among threads."""
        reason = base.no_single_environment(request) or base.refused_options(request, _TAKES)
        if request.vector_kwargs.get("on_worker_death") == "restart":
            reason = reason or "threads live and die with the program; only the pool replaces them"
        return reason

    def exact(self, request: Request, mode: Mode, machine: Machine) -> Mode:
        """By default a thread for each sub-environment, the caller's included, up to 255 more."""
        if mode.workers is not None:
            return mode
        workers = usual_workers(MOST_THREADS + 1, request.num_envs, request.caller_steps)
        return Mode(self.name, workers)

    def build(self, request: Request, mode: Mode) -> ThreadVectorEnv:
        """Builds a `ThreadVectorEnv`."""
        base.need_work_for(mode, request)
        options = request.vector_kwargs
        settings = Settings(
            workers=self.exact(request, mode, read_machine()).workers or 0,
            copy=options.get("copy", True),
            observation_mode=options.get("observation_mode", "same"),
            autoreset_mode=request.autoreset_mode,
            caller_steps=request.caller_steps,
            step_timeout_s=options.get("step_timeout_s"),
            start_timeout_s=options.get("start_timeout_s"),
        )
        env = ThreadVectorEnv(request.env_fns, settings)
        base.set_spec(env, request, None)
        return env
