"""The base of all backends, and what several of them check and build alike."""

from __future__ import annotations

import copy
import functools
import multiprocessing
from typing import TYPE_CHECKING, Any

from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError

from vecselect.errors import ModeUnavailable, RequestError, same_instance, warn
from vecselect.machine import why_no_room
from vecselect.modes import KINDS, load
from vecselect.request import PROCESS_OPTIONS, RAY_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Set

    import numpy as np
    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.modes import Mode
    from vecselect.request import Request


LOOP_OPTIONS = frozenset({"autoreset_mode", "copy", "observation_mode"})
"""The `vector_kwargs` that Gymnasium's loop takes."""


class Backend:
    """One way to run the sub-environments of a request behind a `gymnasium.vector.VectorEnv`.

    To add one, derive a class and name it in `modes.KINDS`; "How to add a mode" in
    `examples/README.md` shows it.

    Attributes:
        takes: The `vector_kwargs` that have a meaning in it.
        buffers: Whether it can step a part of the sub-environments while others step.
    """

    takes: Set[str] = LOOP_OPTIONS
    buffers: bool = False

    def missing(self, machine: Machine) -> str | None:
        """One sentence saying why this mode cannot run here at all, or None if it can."""
        return None

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """One sentence saying why this mode cannot serve the request, or None if it can."""
        return no_single_environment(request) or refused_options(request, self.takes)

    def exact(self, request: Request, mode: Mode, machine: Machine) -> Mode:
        """The mode with the number of workers that it has where none was named."""
        return mode

    def build(self, request: Request, mode: Mode) -> VectorEnv:
        """Builds the vector environment of a request. Called only where `why_not` gave None.

        Returns:
            One with these calls beside those of `VectorEnv`, as in `AsyncVectorEnv`: `step_async`
            and `step_wait`, the same of `reset` and `call`, `call`, `get_attr` and `set_attr`; and
            `call_some`, `call_some_async` and `set_attr_some` for some sub-environments, as in
            `sync.InProcess`, which gives all of them to what is derived from Gymnasium's
            loop.
        """
        raise NotImplementedError


@functools.cache
def backend_of(kind: str) -> Backend:
    """The backend of a kind of mode; its module is imported at the first use."""
    backend: Backend = load(KINDS[kind].backend)()
    return backend


def refused_options(request: Request, takes: Set[str]) -> str | None:
    """One sentence if `vector_kwargs` names something that has no meaning in a mode.

    Options that say how processes and lanes are run bind only modes that have any: an automatic
    choice passes over them, a pinned mode without any refuses them. Deadlines are to be kept.
    """
    meaningless = set(request.vector_kwargs) - takes
    if request.pin is None:
        if unkept := [key for key in request.deadlines if key not in takes]:
            return (
                f"it cannot enforce {' and '.join(unkept)}: the calling process steps the "
                "sub-environments itself, and cannot interrupt them"
            )
        meaningless -= PROCESS_OPTIONS | RAY_OPTIONS
    if unkept := sorted(meaningless.intersection(request.deadlines)):
        return f"it cannot enforce {' and '.join(unkept)}; use pool, thread or async"
    if meaningless:
        return f"it takes no vector_kwargs {', '.join(sorted(meaningless))}"
    return None


def need_work_for(mode: Mode, request: Request) -> None:
    """Raises `ModeUnavailable` for a number of workers that a request has no work for."""
    why = mode.why_not(request.num_envs, request.caller_steps, request.buffers)
    if why is not None:
        raise ModeUnavailable(f"Mode '{mode}' cannot run {request.label}: {why}.")


def warn_of_memory(workers: int, each_bytes: int, available_bytes: int) -> None:
    """Says so before worker processes are started that will hardly fit into memory."""
    why = why_no_room(workers * each_bytes, available_bytes)
    if why is not None:
        warn(
            f"{workers} worker processes may be more than fit into memory: {why}. Use fewer, as in "
            "mode='pool:1'."
        )


def no_single_environment(request: Request) -> str | None:
    """One sentence if the id is registered as a vector environment only."""
    if request.spec is not None and request.spec.entry_point is None:
        return (
            f"{request.label} is registered with a vector_entry_point alone, and has no "
            "entry_point for a single environment"
        )
    return None


def options_for(request: Request, takes: Set[str]) -> dict[str, Any]:
    """The request's `vector_kwargs` that a mode takes."""
    return {key: value for key, value in request.vector_kwargs.items() if key in takes}


def set_spec(env: VectorEnv, request: Request, vectorization_mode: str | None) -> None:
    """Gives a vector environment the spec that `gymnasium.make_vec` would have given it.

    That of a mode that Gymnasium does not know (None) rebuilds the same environments in its loop.
    """
    if request.spec is None:
        return
    spec = copy.deepcopy(request.spec)
    spec.kwargs = dict(request.env_kwargs)
    if request.num_envs != 1:
        spec.kwargs["num_envs"] = request.num_envs
    options = dict(request.vector_kwargs)
    if vectorization_mode is None:
        options = options_for(request, LOOP_OPTIONS)
    spec.kwargs["vectorization_mode"] = vectorization_mode or "sync"
    if options:
        spec.kwargs["vector_kwargs"] = options
    if request.wrappers:
        spec.kwargs["wrappers"] = list(request.wrappers)
    env.unwrapped.spec = spec


def check_distinct(envs: list[Any], first_row: int = 0) -> None:
    """Raises `RequestError` where two environments built in this process are one instance."""
    seen: dict[int, int] = {}
    for index, env in enumerate(envs, first_row):
        first = seen.setdefault(id(env.unwrapped), index)
        if first != index:
            raise RequestError(same_instance(first, index))


def need_no_ended_episode(ended: np.ndarray) -> None:
    """Raises `AssertionError`, as Gymnasium does, where an ended episode would be stepped."""
    if ended.any():
        raise AssertionError(
            f"The episodes of sub-environments {ended.nonzero()[0].tolist()} have ended. "
            "With autoreset_mode=DISABLED reset them before the next step: "
            'envs.reset(options={"reset_mask": terminated | truncated}).'
        )


def already_pending(call: str, pending: str) -> AlreadyPendingCallError:
    """What a call raises while a split call, such as `reset`, is pending."""
    return AlreadyPendingCallError(
        f"Calling `{call}` while waiting for a pending call to `{pending}` to complete.", pending
    )


def nothing_pending(call: str) -> NoAsyncCallError:
    """What the `wait` of a split call raises that was not begun."""
    return NoAsyncCallError(
        f"Calling `{call}_wait` without any prior call to `{call}_async`.", call
    )


def why_no_semaphore() -> str | None:
    """One sentence if no semaphore can be shared between processes here, else None.

    One is made, without a name that could be left behind and without starting a process. `/dev/shm`
    may be read-only or full, and some platforms have none at all.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else None)
    try:
        context.Semaphore(0)
    except (ImportError, OSError) as error:
        return f"no semaphore can be made that processes share ({system_text(error)})"
    return None


def system_text(error: Exception) -> str:
    """What went wrong, without what only a programmer looks for."""
    return getattr(error, "strerror", None) or str(error)
