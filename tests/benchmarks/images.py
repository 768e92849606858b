"""Large observations: an image, and a Dict with one, each step about 1 ms of CPU.

Run from the repository's root: python -m tests.benchmarks.images
"""

from __future__ import annotations

import functools

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from tests import zoo
from tests.benchmarks.blocks import median_rates
from vecselect import auto_make_vec

IMAGE = spaces.Box(0, 255, (84, 84, 4), np.uint8)
NUM_ENVS = 16


class ImageEnv(zoo.BusyEnv):
    """Burns 1 ms and returns an image, alone or beside a vector."""

    def __init__(self, nested):
        super().__init__(step_time_s=0.001)
        self.nested = nested
        self.observation_space = (
            spaces.Dict({"image": IMAGE, "state": spaces.Box(-1, 1, (8,), np.float32)})
            if nested
            else IMAGE
        )
        self.image = np.random.default_rng(0).integers(0, 255, IMAGE.shape, np.uint8)

    def _observation(self):
        return (
            {"image": self.image, "state": np.zeros(8, np.float32)} if self.nested else self.image
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action):
        super().step(action)
        return self._observation(), 0.0, False, False, {}


def main() -> None:
    for name, nested in (("(84, 84, 4) uint8", False), ("Dict with it", True)):
        make = functools.partial(ImageEnv, nested)
        env_fns = [make] * NUM_ENVS
        builders = {
            "sync": functools.partial(SyncVectorEnv, env_fns),
            "async": functools.partial(AsyncVectorEnv, env_fns, context="forkserver"),
            "pool": functools.partial(auto_make_vec, env_fns, mode="pool"),
        }
        rates = median_rates(builders, rounds=11, block_s=0.15)
        row = ", ".join(f"{mode} {rate:.0f}" for mode, rate in rates.items())
        print(f"{name}: {row} env steps/s; pool / sync {rates['pool'] / rates['sync']:.2f}")


if __name__ == "__main__":
    main()
