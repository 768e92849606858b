"""`step_async` and `step_wait` for vector environments that have only `step`.

The work is done in the wait; the order of calls is checked as `AsyncVectorEnv` checks it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError

from vecselect.loop_calls import LoopCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gymnasium.vector import VectorEnv


class Deferred:
    """The split calls of a vector environment that runs in the calling process."""

    def __init__(self, env: VectorEnv) -> None:
        self._env = env
        self._pending: tuple[str, Callable[[], Any]] | None = None

    @property
    def busy(self) -> str | None:
        """The call that waits to be collected, if any."""
        return self._pending[0] if self._pending else None

    def step_async(self, actions: Any) -> None:
        """Notes the actions of the next `step_wait`."""
        kept = copy.deepcopy(actions)
        self._defer("step", lambda: self._env.step(kept))

    def step_wait(self, timeout: float | None = None) -> Any:
        """Steps. `timeout` cannot be kept: there is nobody to wait for."""
        return self._collect("step")

    def reset_async(self, *, seed: Any = None, options: Any = None) -> None:
        """Notes the arguments of the next `reset_wait`."""
        self._defer("reset", lambda: self._env.reset(seed=seed, options=options))

    def reset_wait(self, timeout: float | None = None) -> Any:
        """Resets. `timeout` cannot be kept: there is nobody to wait for."""
        return self._collect("reset")

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Notes the arguments of the next `call_wait`."""
        self._defer("call", lambda: self._env.call(name, *args, **kwargs))  # type: ignore[attr-defined]

    def call_some_async(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Notes the arguments of the next `call_wait`, which calls some sub-environments."""
        self._defer("call", lambda: LoopCalls(self._env).call_some(indices, name, args, kwargs))  # type: ignore[arg-type]

    def call_wait(self, timeout: float | None = None) -> Any:
        """Calls. `timeout` cannot be kept: there is nobody to wait for."""
        return self._collect("call")

    def _defer(self, kind: str, work: Callable[[], Any]) -> None:
        if self._pending is not None:
            raise AlreadyPendingCallError(
                f"Calling `{kind}_async` while waiting for a pending call to "
                f"`{self._pending[0]}` to complete.",
                self._pending[0],
            )
        self._pending = (kind, work)

    def _collect(self, kind: str) -> Any:
        if self._pending is None or self._pending[0] != kind:
            raise NoAsyncCallError(
                f"Calling `{kind}_wait` without any prior call to `{kind}_async`.", kind
            )
        work = self._pending[1]
        self._pending = None
        return work()
