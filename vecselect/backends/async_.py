"""`async`: Gymnasium's process and pickled message per environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState

from vecselect import processes
from vecselect.backends import base
from vecselect.errors import RequestError
from vecselect.request import VECTOR_OPTIONS

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.request import Request


class Async:
    """Runs each sub-environment in a process of its own."""

    name = "async"

    def missing(self, machine: Machine) -> str | None:
        """Says so inside a process that may not start others."""
        return processes.why_no_children()

    def why_not(self, request: Request, machine: Machine) -> str | None:
        """Says what cannot be sent to another process."""
        reason = base.no_single_environment(request) or base.refused_options(
            request, VECTOR_OPTIONS
        )
        return reason or request.why_not_sent

    def build(self, request: Request, **parameters: Any) -> AsyncVectorEnv:
        """Builds Gymnasium's `AsyncVectorEnv`.

        Unlike there, the start method is safe with threads in the parent, and a space that shared
        memory cannot hold goes through pipes. Gymnasium reads shared Text and OneOf observations
        once, when it is built, and returns that first value for ever.

        Raises:
            RequestError: If `shared_memory=True` was asked for and the space cannot go there.
        """
        options = base.options_for(request, VECTOR_OPTIONS)
        options["context"] = options.get("context") or processes.start_methods()[0]
        if "shared_memory" in options:
            env = _start(request, options)
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
        env = _start(request, options)
    except (TypeError, ValueError):  # Graph, Sequence and custom spaces: refused before any start
        return _start(request, {**options, "shared_memory": False})
    if frozen_space(env.single_observation_space) is None:
        return env
    env.close()
    return _start(request, {**options, "shared_memory": False})


class BoundedAsyncVectorEnv(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv`, whose processes end when it fails to be built or to close.

    There an error while replies are unpacked leaves a call pending for ever, and `close` first
    waits for that call; and a worker that cannot build its environment leaves the others running.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self.closed = True
            for process in getattr(self, "processes", ()):
                processes.end(process, grace_s=0.0)
            raise

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Ends the processes; at once where a call is still pending and no timeout is given."""
        if self._state != AsyncState.DEFAULT and timeout is None:
            self._state = AsyncState.DEFAULT
            terminate = True
        super().close_extras(timeout=timeout, terminate=terminate)


def _start(request: Request, options: dict[str, Any]) -> AsyncVectorEnv:
    if options.get("worker") is not None:
        # A worker of the user's is sent by name, so its module, `__main__` perhaps, is imported.
        return BoundedAsyncVectorEnv(request.env_fns, **options)
    with processes.hidden_main():
        return BoundedAsyncVectorEnv(request.env_fns, **options)


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
