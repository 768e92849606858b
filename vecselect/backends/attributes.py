"""Attributes of sub-environments, set on all that are asked for or on none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium as gym


class Attributes:
    """What was set, in order, and how to take it back."""

    def __init__(self) -> None:
        self._done: list[tuple[gym.Env, str, Any]] = []

    def set(self, env: gym.Env, name: str, value: Any) -> None:
        """Sets an attribute of an environment."""
        before = env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else _ABSENT
        env.set_wrapper_attr(name, value)
        self._done.append((env, name, before))

    def undo(self) -> None:
        """Takes back all that was set."""
        done, self._done = self._done, []
        for env, name, before in reversed(done):
            if before is _ABSENT:
                delattr(env, name)
            else:
                env.set_wrapper_attr(name, before)


_ABSENT = object()
