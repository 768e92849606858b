"""`async`: Gymnasium's process and pickled message per environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from vecselect import processes
from vecselect.backends import base
from vecselect.backends.bounded import BoundedAsyncVectorEnv, NotShareable
from vecselect.backends.shared import why_no_semaphore
from vecselect.errors import RequestError
from vecselect.machine import WORKER_BYTES, read_memory
from vecselect.request import RAY_OPTIONS, VECTOR_OPTIONS

if TYPE_CHECKING:
    import gymnasium as gym
    from gymnasium.vector import AsyncVectorEnv

    from vecselect.machine import Machine
    from vecselect.modes import Mode
    from vecselect.request import Request


_TAKES = VECTOR_OPTIONS - RAY_OPTIONS - {"on_worker_death"}


class Async:
    """Runs each sub-environment in a process of its own."""

    name = "async"

    def missing(self, machine: Machine) -> str | None:
        """Says so inside a process that may not start others, and what of the system it lacks."""
        return processes.why_no_children() or why_no_semaphore()

    def why_not(self, request: Request, mode: Mode, machine: Machine) -> str | None:
        """Says what cannot be sent to another process."""
        reason = base.no_single_environment(request) or base.refused_options(request, _TAKES)
        if request.vector_kwargs.get("on_worker_death") == "restart":
            reason = reason or "only the pool replaces workers"
        return reason or request.why_not_sent

    def exact(self, request: Request, mode: Mode, machine: Machine) -> Mode:
        """The mode itself: it has no number of workers."""
        return mode

    def build(self, request: Request, mode: Mode) -> AsyncVectorEnv:
        """Builds Gymnasium's `AsyncVectorEnv`.

        Unlike there, the start method is safe with threads in the parent, and a space that shared
        memory cannot hold goes through pipes. Gymnasium reads shared Text and OneOf observations
        once, when it is built, and returns that first value for ever.

        Raises:
            RequestError: If `shared_memory=True` was asked for and the space cannot go there.
        """
        processes.need_descriptors(request.num_envs)
        base.warn_of_memory(request.num_envs, WORKER_BYTES, read_memory()[1])
        options = base.options_for(request, _TAKES)
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
