"""Small environments whose every number can be told in advance, and spaces of every kind."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class EchoEnv(gym.Env):
    """Observation, reward and info tell index, seed, episode, step and action.

    The episode ends by itself or is truncated in turn, after a number of steps that differs from
    index to index, so that autoresets fall on different vector steps.
    """

    observation_space: gym.Space[Any] = spaces.Box(-np.inf, np.inf, (5,), np.float64)
    action_space: gym.Space[Any] = spaces.Discrete(10)

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.seed: int = -1
        self.episode: int = 0
        self.steps: int = 0
        self.label: str = f"echo {index}"

    def _observation(self, action: float) -> np.ndarray:
        return np.array([self.index, self.seed, self.episode, self.steps, action], np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.seed = seed
        self.episode += 1
        self.steps = 0
        info: dict[str, Any] = {"index": self.index, "started": True}
        if options:
            info["options"] = sorted(options)
        return self._observation(-1), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps >= 3 + self.index % 4
        terminated = over and self.episode % 2 == 0
        truncated = over and self.episode % 2 == 1
        reward = 1000.0 * self.index + 10.0 * self.steps + float(action) / 10
        info = {"index": self.index, "step": self.steps, "action": int(action)}
        return self._observation(float(action)), reward, terminated, truncated, info

    def double(self, value: int, plus: int = 0) -> int:
        return 2 * value + plus + self.index

    def named(self, name: str) -> str:
        return f"{name} {self.index}"

    def render(self) -> np.ndarray:
        return np.full((2, 2, 3), self.index, np.uint8)


class PickyEnv(EchoEnv):
    """Refuses some values of an attribute."""

    _limit = 10

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"{value} is refused")
        self._limit = value


class SampleEnv(gym.Env):
    """Draws its observations from any space, with a generator that follows from the seed.

    Its infos tell the action it got, type and all.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any] | None = None,
        length: int = 4,
    ) -> None:
        self.observation_space: gym.Space[Any] = copy.deepcopy(observation_space)
        self.action_space: gym.Space[Any] = (
            spaces.Discrete(3) if action_space is None else action_space
        )
        self.length = length
        self.steps: int = 0

    def _draw(self) -> Any:
        return self.observation_space.sample()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.steps = 0
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        ended = self.steps >= self.length + int(self.np_random.integers(3))
        info = {"action": repr(action), "type": type(action).__name__}
        return self._draw(), float(self.np_random.random()), ended, False, info


class InfoEnv(EchoEnv):
    """Infos that come and go, of every kind `VectorEnv._add_info` tells apart."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = super().step(action)
        return observation, reward, terminated, truncated, self._info(int(action))

    def _info(self, action: int) -> dict[str, Any]:
        kinds: list[dict[str, Any]] = [
            {},
            {"integer": self.steps, "float": self.steps / 3, "bool": self.steps % 2 == 0},
            {"float32": np.float32(self.steps / 3), "int8": np.int8(self.steps)},
            {"array": np.arange(3) + self.steps, "image": np.full((2, 2), self.index, np.uint8)},
            {"nested": {"x": self.steps, "deep": {"y": float(self.index), "text": "abc"}}},
            {"text": f"step {self.steps}", "none": None, "list": [self.steps, "a"]},
            {"nested": {"z": np.float64(1.5)}, "float": 0.25},
            {"array": np.arange(3) * 2, "float": np.pi, "text": "x" * action},
        ]
        return kinds[(self.steps + self.index + action) % len(kinds)]


SPACES: dict[str, gym.Space[Any]] = {
    "dict": spaces.Dict(
        {
            "position": spaces.Box(-1, 1, (3,), np.float32),
            "image": spaces.Box(0, 255, (4, 4, 2), np.uint8),
            "count": spaces.Discrete(7, start=-3),
        }
    ),
    "tuple": spaces.Tuple(
        (
            spaces.Discrete(5),
            spaces.Tuple((spaces.MultiBinary(3), spaces.Box(0, 1, (), np.float64))),
        )
    ),
    "text": spaces.Text(8),
    "dict of text": spaces.Dict({"say": spaces.Text(5), "x": spaces.Box(0, 1, (2,), np.float32)}),
    "oneof": spaces.OneOf((spaces.Discrete(3), spaces.Box(0, 1, (2,), np.float32))),
    "discrete": spaces.Discrete(6, start=2),
    "number": spaces.Box(0, 1, (), np.float64),
    "multibinary": spaces.MultiBinary((2, 3)),
    "multidiscrete": spaces.MultiDiscrete([3, 4]),
    "graph": spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)),
    "sequence": spaces.Sequence(spaces.Box(0, 1, (2,), np.float32)),
    "text and oneof": spaces.Tuple(
        (spaces.Text(6), spaces.OneOf((spaces.Discrete(3), spaces.MultiBinary(2))))
    ),
    "dict of graph and sequence": spaces.Dict(
        {
            "g": spaces.Graph(spaces.Box(0, 1, (2,)), None),
            "s": spaces.Sequence(spaces.Discrete(4)),
            "x": spaces.Box(0, 1, (2,), np.float32),
        }
    ),
}

ACTION_SPACES: dict[str, gym.Space[Any]] = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "multidiscrete": spaces.MultiDiscrete([3, 4]),
    "multibinary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0, 1, (2,), np.float32)}),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.MultiDiscrete([2, 2]))),
    "text": spaces.Text(4),
    "sequence": spaces.Sequence(spaces.Discrete(4)),
    "discrete from 5": spaces.Discrete(4, start=5),
}
