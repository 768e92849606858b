"""How the pool's throughput grows with its workers.

Run from the repository's root: python -m tests.benchmarks.scaling [WORKERS,...] [ENV ...]
"""

from __future__ import annotations

import functools
import sys

import gymnasium as gym
import numpy as np

from tests.benchmarks.blocks import median_rates
from tests.benchmarks.pool import bare_rate
from vecselect import auto_make_vec
from vecselect.machine import read_machine

NUM_ENVS = 64


def main() -> None:
    workers = [int(word) for word in (sys.argv[1] if sys.argv[1:] else "1,2,4,8,15").split(",")]
    print(f"{read_machine().cores:g} usable cores, {NUM_ENVS} sub-environments")
    for id in sys.argv[2:] or ["Ant-v5", "Humanoid-v5"]:
        bare = np.median([bare_rate(functools.partial(gym.make, id), 1.0) for _ in range(3)])
        modes = {0: "sync", **{k: f"pool:{k}" for k in workers}}
        builders = {
            k: functools.partial(auto_make_vec, id, NUM_ENVS, mode=mode)
            for k, mode in modes.items()
        }
        rates = median_rates(builders, rounds=9, block_s=0.2)
        print(f"{id}: one environment in a bare loop {bare:.0f} env steps/s, sync {rates[0]:.0f}")
        for k in workers:
            share = rates[k] / (bare * (k + 1))
            print(
                f"  {k:2d} workers: {rates[k]:8.0f} env steps/s, {share:.2f} of linear", flush=True
            )


if __name__ == "__main__":
    main()
