"""A sub-environment as a worker of `AsyncVectorEnv` sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from vecselect.backends.pool.layout import leaves, writer
from vecselect.failures import how_far, report_closing

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecselect.backends.guard import Channel


class Watched(gym.Wrapper):
    """Sees to it that what a sub-environment returns is what its space says.

    Attributes that are called, read or set are those of the environment inside.

    Attributes:
        phase: What it does or did last: `step` or `reset`.
    """

    def __init__(
        self, env: gym.Env, channel: Channel, autoreset_mode: AutoresetMode, through_pipes: bool
    ) -> None:
        """Wraps a sub-environment.

        Args:
            env: The sub-environment.
            channel: Whose commands are being done.
            autoreset_mode: What the worker does with an episode that has ended.
            through_pipes: Whether the worker is one that keeps observations and sends them.
        """
        super().__init__(env)
        self.phase = "reset"
        self._channel = channel
        self._mode = autoreset_mode
        self._through_pipes = through_pipes
        self._check = _check_of(env.observation_space, channel.row)
        self._over = False
        self._last: tuple[Any] | None = None
        self._steps = 0
        self._seed: Any = None

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps."""
        if self._channel.again is not None:
            assert self._last is not None
            return self._last[0], 0.0, True, False, {}
        self.phase = "step"
        self._steps += 1
        observation, reward, terminated, truncated, info = self.env.step(action)
        if type(reward) not in _NUMBERS:
            reward = _one(reward, np.float64, "reward")
        if type(terminated) is not bool:
            terminated = _one(terminated, np.bool_, "terminated")
        if type(truncated) is not bool:
            truncated = _one(truncated, np.bool_, "truncated")
        over = terminated or truncated
        if not over or self._mode != AutoresetMode.SAME_STEP:  # else it goes into the infos
            self._check(observation)
        self._over = over
        self._last = (observation,)
        return observation, reward, terminated, truncated, info

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Resets."""
        if self._channel.again is not None:
            assert self._last is not None
            return self._last[0], {}
        self.phase = "reset"
        self._steps = 0
        if kwargs.get("seed") is not None:
            self._seed = kwargs["seed"]
        observation, info = self.env.reset(**kwargs)
        self._check(observation)
        # Without shared memory Gymnasium's worker forgets that a reset which the user asked for
        # makes the one that is due after the end of an episode needless.
        if self._over and self._through_pipes and self._channel.command == "reset":
            self._channel.outdated = self._mode == AutoresetMode.NEXT_STEP
        self._over = False
        self._last = (observation,)
        return observation, info

    def repeated(self) -> tuple[str, Any] | None:
        """The command that brings a worker, begun anew, to where it was; the answer is known."""
        if self._last is None:
            return None
        if self._over and self._mode == AutoresetMode.NEXT_STEP:
            return "step", None
        return ("reset", {}) if self._through_pipes else None

    def when(self) -> str:
        """How far the episode is."""
        return how_far(self._steps, self._seed)

    def close(self) -> None:
        """Nothing: a worker that ends may be begun anew."""

    def really_close(self) -> None:
        """Closes the environment."""
        try:
            self.env.close()
        except Exception as error:
            report_closing(self._channel.row, error)

    @property
    def spec(self) -> Any:  # type: ignore[override]
        """That of the environment inside."""
        return self.env.spec

    def has_wrapper_attr(self, name: str) -> bool:
        """Whether the environment has an attribute."""
        return self.env.has_wrapper_attr(name)

    def get_wrapper_attr(self, name: str) -> Any:
        """An attribute of the environment."""
        return self.env.get_wrapper_attr(name)

    def set_wrapper_attr(self, name: str, value: Any, **kwargs: Any) -> Any:
        """Sets an attribute of the environment."""
        return self.env.set_wrapper_attr(name, value, **kwargs)


_NUMBERS = frozenset({float, int, np.float64, np.float32, np.int64})


def _one(value: Any, dtype: Any, name: str) -> Any:
    """The one number that is in an array."""
    array = np.asarray(value, dtype)
    if array.size != 1:
        raise ValueError(f"{name} is an array of shape {array.shape}, not one number.")
    return array.item()


def _check_of(space: gym.Space, row: int) -> Callable[[Any], None]:
    """A function that raises if an observation is not what its space says; as strict as the pool.

    It writes into rows that are all the same memory, and that nobody reads.
    """
    parts = list(leaves(space))
    batches: dict[Any, Any] = {}
    for leaf in parts:
        if leaf.dtype is None:
            batches[leaf.path] = [None] * (row + 1)
        elif not leaf.shape:
            batches[leaf.path] = np.zeros(row + 1, leaf.dtype)
        else:
            one = np.zeros(leaf.shape, leaf.dtype)
            rows = np.lib.stride_tricks.as_strided
            batches[leaf.path] = rows(one, (row + 1, *one.shape), (0, *one.strides))
    write = writer(space, batches)
    dtype, shape = (parts[0].dtype, parts[0].shape) if len(parts) == 1 else (None, ())

    def check(observation: Any) -> None:
        if type(observation) is np.ndarray and observation.dtype == dtype:
            if observation.shape != shape:
                write(row, observation)
        else:
            write(row, observation)

    return check
