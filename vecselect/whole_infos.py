"""Infos that pass through a vector environment unchanged.

Gymnasium batches infos: a float becomes an element of an array, an int beside floats is cast,
arrays of different lengths are an error. A library that wants the dicts themselves gets them with
`WholeInfos` around each sub-environment. This module runs in workers, so it imports little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from vecselect.backends.pool.infos import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

WHOLE = "vecselect_whole_info"
FINAL = ("final_obs", "final_info")


class Whole:
    """An info in one piece: to a vector environment it is an object, which is not batched."""

    __slots__ = ("info",)

    def __init__(self, info: dict[str, Any]) -> None:
        """Keeps a copy: environments may use their dicts again."""
        self.info: dict[str, Any] = snapshot(dict(info))

    def __deepcopy__(self, memo: Any) -> Whole:
        """Itself: nobody else holds what is in it."""
        return self


class WholeInfos(gym.Wrapper, RecordConstructorArgs):
    """Around one sub-environment: its infos, each in one piece.

    `options_once` are the options of its next reset, in place of those that all of them get.
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self.options_once: dict[str, Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the environment."""
        own, self.options_once = self.options_once, None
        if own is not None:
            options = own or None
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {WHOLE: Whole(info)} if info else info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {WHOLE: Whole(info)} if info else info

    def seed_actions(self, seed: int) -> None:
        """Seeds the environment's action space, for what draws from that in the environment."""
        self.unwrapped.action_space.seed(seed)

    def is_wrapped_by(self, name: str) -> bool:
        """Whether the environment has a wrapper of a class, by name, or of one derived from it.

        Sending the class itself would import its module in the worker.
        """
        env = self.env
        while isinstance(env, gym.Wrapper):
            if any(name_of(one) == name for one in type(env).__mro__):
                return True
            env = env.env
        return False


def name_of(given: type) -> str:
    """The name of a class, the same in every process."""
    return f"{given.__module__}:{given.__qualname__}"


def one_by_one(infos: Mapping[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """The info of each sub-environment, over `WholeInfos` or not, without those of ended episodes.

    What is batched has a mask `_key` beside each `key`.
    """
    found: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for key, values in infos.items():
        mask = infos.get(f"_{key}")
        if mask is None or key in FINAL:  # a mask itself
            continue
        if isinstance(values, dict):
            values = one_by_one(values, num_envs)
        for index in mask.nonzero()[0].tolist():
            if key == WHOLE:
                found[index].update(values[index].info)
            else:
                found[index][key] = values[index]
    return found
