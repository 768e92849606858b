"""`thread`: lanes in threads of the calling process."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vecselect.backends import base
from vecselect.backends.buffered import build_in_buffers
from vecselect.backends.pool.first_finished import FirstFinishedVectorEnv
from vecselect.backends.pool.rows import RowThreads
from vecselect.backends.pool.settings import Settings
from vecselect.backends.pool.threads import ThreadWorkers
from vecselect.backends.pool.vector_env import PoolVectorEnv
from vecselect.errors import ModeUnavailable
from vecselect.machine import read_machine
from vecselect.modes import Mode, usual_workers

if TYPE_CHECKING:
    from collections.abc import Set

    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.request import Request

AnyThreads = TypeVar("AnyThreads", "ThreadVectorEnv", FirstFinishedVectorEnv)

MOST_THREADS = 255
"""Threads by default at the most. Handing a step to one takes some 9 us of a core's time, so that
more of them hardly wait for anything but each other."""


class ThreadVectorEnv(PoolVectorEnv):
    """Steps the sub-environments in lanes: one in the calling thread, one in each further thread.

    It gives what the pool gives. What waits, or computes without the interpreter's lock, overlaps;
    the rest takes turns. Nothing is packed or copied to another process, so callables, values and
    exceptions may be of any kind, and `get_attr` returns the objects themselves.

    Sub-environments are built in the order of their rows, each in the thread that steps and closes
    it.
    """


class Thread(base.Backend):
    """Runs the sub-environments in lanes: the caller's own, and one in each thread.

    With a deadline the caller has none.
    """

    takes: Set[str] = base.LOOP_OPTIONS | {"start_timeout_s", "step_timeout_s"}
    buffers = True

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says which option has no meaning among threads, and what is known not to be safe there.

        Of callables that is known only once they have built their environments.
        """
        reason = super().why_not(request, mode, machine)
        if request.vector_kwargs.get("on_worker_death") == "restart":
            reason = reason or (
                "it cannot restart workers: threads end only with the program. Mode 'pool' can"
            )
        made_by = request.spec.entry_point if request.spec else None
        if reason is None and isinstance(made_by, str):
            module = made_by.partition(":")[0]
            reason = why_not_drawn([module], request.env_kwargs.get("render_mode"))
        return reason

    def exact(self, request: Request, mode: Mode, machine: Machine) -> Mode:
        """By default a thread for each sub-environment, the caller's included, up to 255 more."""
        if mode.workers is not None:
            return mode
        smallest = request.num_envs // request.buffers
        workers = usual_workers(MOST_THREADS + 1, smallest, request.caller_steps)
        return Mode("thread", workers)

    def build(self, request: Request, mode: Mode) -> VectorEnv:
        """Builds a `ThreadVectorEnv`, one for each buffer, or a `FirstFinishedVectorEnv`."""
        base.need_work_for(mode, request)
        workers = self.exact(request, mode, read_machine()).workers or 0
        if request.batch_size is not None:
            settings = Settings.of(request, workers, caller_steps=False, queues=True)
            return self._safe(
                FirstFinishedVectorEnv(request.env_fns, settings, request.batch_size, RowThreads),
                request,
            )

        def built(part: Request, number: int) -> ThreadVectorEnv:
            caller_steps = part.caller_steps
            settings = Settings.of(part, workers, caller_steps=caller_steps)
            return self._safe(ThreadVectorEnv(part.env_fns, settings, ThreadWorkers), part)

        return build_in_buffers(request, built)

    def _safe(self, env: AnyThreads, request: Request) -> AnyThreads:
        """A vector environment that was built, if its sub-environments are safe beside each other.

        Raises:
            ModeUnavailable: If they are known not to be; it is closed then.
        """
        try:
            drawn = zip(env.get_attr("unwrapped"), env.get_attr("render_mode"), strict=True)
            for one, render_mode in drawn:
                why = why_not_drawn([kind.__module__ for kind in type(one).__mro__], render_mode)
                if why is not None:
                    raise ModeUnavailable(f"Mode 'thread' cannot run {request.label}: {why}.")
        except BaseException:
            env.close()
            raise
        base.set_spec(env, request, None)
        return env


_PYGAME = tuple(f"gymnasium.envs.{name}." for name in ("box2d", "classic_control", "toy_text"))
"""Where the modules of environments lie that draw with pygame."""

_ALWAYS = ("gymnasium.envs.box2d.car_racing",)
"""Those whose observations are drawn, whether they are shown or not."""


def why_not_drawn(modules: list[str], render_mode: str | None) -> str | None:
    """One sentence if an environment is known to be unsafe in several threads, else None.

    Gymnasium's own environments draw with pygame. `pygame.gfxdraw.filled_polygon` keeps what it
    works on in one place for the whole process and lets the interpreter's lock go meanwhile: two
    threads spoil each other's frames. And the first frame of all sets pygame up, for everybody.

    Args:
        modules: Names of the modules of its class and of what that derives from.
        render_mode: How it renders.
    """
    if any(module.startswith(_ALWAYS) for module in modules):
        what = "its observations are drawn by pygame"
    elif render_mode is not None and any(module.startswith(_PYGAME) for module in modules):
        what = f"with render_mode={render_mode!r} it draws by pygame"
    else:
        return None
    return f"{what}, whose state all threads share: frames would differ from run to run"
