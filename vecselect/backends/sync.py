"""`sync`: Gymnasium's loop in the calling process, with the calls that it lacks.

The facade counts on calls that Gymnasium's loop and most native vector environments do not have:
split ones, such as `step_async` and `step_wait`, and those of some sub-environments only.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from gymnasium.vector import SyncVectorEnv, VectorWrapper

from vecselect.backends import base
from vecselect.backends.base import already_pending, nothing_pending
from vecselect.backends.buffered import build_in_buffers
from vecselect.backends.pool.lane import Attributes
from vecselect.backends.pool.settings import Settings
from vecselect.backends.thread import ThreadVectorEnv
from vecselect.process.remote_errors import exit_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gymnasium.vector import VectorEnv

    from vecselect.modes import Mode
    from vecselect.request import Request


class Sync(base.Backend):
    """Runs the sub-environments one after another in the calling process."""

    buffers = True

    def build(self, request: Request, mode: Mode) -> VectorEnv:
        """Builds Gymnasium's `SyncVectorEnv`, with the calls that it lacks.

        Buffers are the pool's loop without workers: each steps when it is waited for.

        Raises:
            RequestError: If two factories return the same instance.
        """
        if request.buffers > 1:
            return build_in_buffers(
                request, lambda part, _: ThreadVectorEnv(part.env_fns, Settings.of(part, 0))
            )
        env = SyncVectorEnv(request.env_fns, **base.options_for(request, self.takes))
        try:
            base.check_distinct(env.envs)
        except BaseException:
            env.close()
            raise
        base.set_spec(env, request, "sync")
        return InProcess(env)


class InProcess(VectorWrapper):
    """Gymnasium's loop, or one derived from it, with split calls and calls of some.

    The `wait` of a split call does the work. The order of calls is checked as `AsyncVectorEnv`
    checks it: while one is pending, all others raise `AlreadyPendingCallError`, and a `wait` for
    what is not pending raises `NoAsyncCallError`. A `timeout` has no effect: there is nobody to
    wait for.
    """

    env: Any
    """What is stepped: `SyncVectorEnv`, or what has its `envs`, `call`, `get_attr`, `set_attr`."""

    _pending: tuple[str, Callable[[], Any]] | None = None
    """The split call that was begun, `step`, `reset` or `call`, and what its `wait` does."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every sub-environment."""
        if self._pending is not None:
            self._need_idle("step")
        try:
            return self.env.step(actions)  # type: ignore[no-any-return]
        except SystemExit as error:
            raise exit_error(error, "A sub-environment", "step")  # noqa: B904 (it has one)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets every sub-environment, or those in the mask."""
        self._need_idle("reset")
        try:
            return self.env.reset(seed=seed, options=options)  # type: ignore[no-any-return]
        except SystemExit as error:
            raise exit_error(error, "A sub-environment", "reset")  # noqa: B904 (it has one)

    def render(self) -> Any:
        """A frame of every sub-environment."""
        self._need_idle("render")
        return self.env.render()

    def close(self, **kwargs: Any) -> None:
        """Closes the sub-environments, once: what raised is not asked again."""
        try:
            self.env.close(**kwargs)
        finally:
            self.env.closed = True  # Gymnasium 1.1 closes what is collected, if it is not

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of every sub-environment, or reads an attribute that is not callable."""
        if "name" in kwargs:  # which is a parameter of Gymnasium's own `call`
            return self.call_some(range(self.num_envs), name, args, kwargs)
        self._need("call")
        return self.env.call(name, *args, **kwargs)  # type: ignore[no-any-return]

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every sub-environment."""
        self._need("get_attr")
        return self.env.get_attr(name)  # type: ignore[no-any-return]

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every sub-environment."""
        self._need("set_attr")
        self.env.set_attr(name, values)

    def call_some(
        self,
        indices: Sequence[int],
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ...]:
        """Calls a method of some sub-environments; the results are in the order of `indices`."""
        self._need("call", some=True)
        results = []
        for index in indices:
            found = self.env.envs[index].get_wrapper_attr(name)
            results.append(found(*args, **(kwargs or {})) if callable(found) else found)
        return tuple(results)

    def set_attr_some(self, indices: Sequence[int], name: str, values: Sequence[Any]) -> None:
        """Sets an attribute of some sub-environments, or of none if one of them refuses."""
        self._need("set_attr", some=True)
        attributes = Attributes()
        try:
            for index, value in zip(indices, values, strict=True):
                attributes.set(self.env.envs[index], name, value)
        except Exception:
            attributes.undo()
            raise

    def step_async(self, actions: Any) -> None:
        """Keeps a copy of the actions for `step_wait`."""
        kept = copy.deepcopy(actions)
        self._begin("step", lambda: self.step(kept))

    def step_wait(self, timeout: float | None = None) -> Any:
        """Steps."""
        return self._finish("step")

    def reset_async(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Keeps the arguments for `reset_wait`."""
        self._begin("reset", lambda: self.reset(seed=seed, options=options))

    def reset_wait(self, timeout: float | None = None) -> Any:
        """Resets."""
        return self._finish("reset")

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Keeps the arguments of `call` for `call_wait`."""
        self._need("call")
        self._begin("call", lambda: self.call(name, *args, **kwargs))

    def call_some_async(
        self, indices: Sequence[int], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Keeps the arguments of `call_some` for `call_wait`."""
        self._need("call", some=True)
        self._begin("call", lambda: self.call_some(indices, name, args, kwargs))

    def call_wait(self, timeout: float | None = None) -> Any:
        """Calls."""
        return self._finish("call")

    def __repr__(self) -> str:
        """That of what is stepped."""
        return repr(self.env)

    def _need(self, call: str, *, some: bool = False) -> None:
        """Raises unless a call of all or of some sub-environments can be made now.

        A subclass also refuses what it cannot do at all.
        """
        self._need_idle(call)

    def _begin(self, call: str, work: Callable[[], Any]) -> None:
        self._need_idle(f"{call}_async")
        self._pending = (call, work)

    def _finish(self, call: str) -> Any:
        if self._pending is None or self._pending[0] != call:
            raise nothing_pending(call)
        work = self._pending[1]
        self._pending = None
        return work()

    def _need_idle(self, call: str) -> None:
        if self._pending is not None:
            raise already_pending(call, self._pending[0])
