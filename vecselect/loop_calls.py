"""Calls of some of the sub-environments of Gymnasium's loop, which itself only calls all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecselect.backends.attributes import Attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gymnasium.vector import SyncVectorEnv


class LoopCalls:
    """The calls of some sub-environments that the vector environments in lanes have themselves."""

    def __init__(self, env: SyncVectorEnv) -> None:
        self._env = env

    def call_some(
        self,
        indices: Sequence[int],
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ...]:
        """Calls a method of some sub-environments; the results are in the order of `indices`."""
        results = []
        for index in indices:
            found = self._env.envs[index].get_wrapper_attr(name)
            results.append(found(*args, **(kwargs or {})) if callable(found) else found)
        return tuple(results)

    def set_attr_some(self, indices: Sequence[int], name: str, values: Sequence[Any]) -> None:
        """Sets an attribute of some sub-environments, or of none if one of them refuses."""
        attributes = Attributes()
        try:
            for index, value in zip(indices, values, strict=True):
                attributes.set(self._env.envs[index], name, value)
        except Exception:
            attributes.undo()
            raise
