"""The pool against Gymnasium's sync and async, every cell in one interleaved run.

Run from the repository's root: python -m tests.benchmarks.pool [--quick] [ENV ...]
"""

from __future__ import annotations

import argparse
import functools
import time

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from tests.benchmarks.blocks import median_rates
from vecselect import auto_make_vec
from vecselect.machine import read_machine

ENVS = [
    "FrozenLake-v1",
    "Taxi-v4",
    "CartPole-v1",
    "Acrobot-v1",
    "Pendulum-v1",
    "LunarLander-v3",
    "BipedalWalker-v3",
    "Hopper-v5",
    "HalfCheetah-v5",
    "Ant-v5",
    "Humanoid-v5",
    "CarRacing-v3",
]


def bare_rate(make, seconds=0.4):
    """Env steps per second of one environment in a bare loop, actions drawn before."""
    env = make()
    env.action_space.seed(1)
    actions = [env.action_space.sample() for _ in range(64)]
    env.reset(seed=1)
    steps, start = 0, time.perf_counter()
    while True:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        steps += len(actions)
        if (elapsed := time.perf_counter() - start) > seconds:
            env.close()
            return steps / elapsed


def cell(id, num_envs, rounds, block_s):
    make = functools.partial(gym.make, id)
    slow = id == "CarRacing-v3"
    builders = {
        "sync": lambda: SyncVectorEnv([make] * num_envs),
        "async": lambda: AsyncVectorEnv([make] * num_envs, context="forkserver"),
        "pool:0": lambda: auto_make_vec(id, num_envs, mode="pool:0"),
        "pool": lambda: auto_make_vec(id, num_envs, mode="pool"),
    }
    bare = [bare_rate(make)]
    rates = median_rates(builders, 4 if slow else rounds, block_s)
    bare.append(bare_rate(make))
    return rates, float(np.median(bare))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("envs", nargs="*", default=ENVS)
    parser.add_argument("--num-envs", default="2,8,32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--block", type=float, default=0.04)
    asked = parser.parse_args()
    cores = read_machine().cores
    print(f"{cores:g} usable cores; env steps/s, medians of {asked.rounds} interleaved blocks")
    print(
        f"{'':>20} {'sync':>9} {'async':>9} {'pool:0':>9} {'pool':>9} "
        f"{'pool/best':>9} {'pool:0/sync':>11} {'of linear':>9}"
    )
    gains, in_process = [], []
    for id in asked.envs:
        for num_envs in map(int, asked.num_envs.split(",")):
            rates, bare = cell(id, num_envs, asked.rounds, asked.block)
            gain = rates["pool"] / max(rates["sync"], rates["async"])
            alone = rates["pool:0"] / rates["sync"]
            linear = rates["pool"] / (bare * min(cores, num_envs))
            gains.append(gain)
            in_process.append(alone)
            cells = " ".join(f"{rates[name]:9.0f}" for name in ("sync", "async", "pool:0", "pool"))
            name = f"{id} x {num_envs}"
            print(f"{name:>20} {cells} {gain:9.2f} {alone:11.2f} {linear:9.2f}", flush=True)
    mean = [float(np.exp(np.mean(np.log(ratios)))) for ratios in (gains, in_process)]
    print(f"geometric means: pool/best {mean[0]:.2f} (least {min(gains):.2f}), ", end="")
    print(f"pool:0/sync {mean[1]:.2f} (least {min(in_process):.2f})")


if __name__ == "__main__":
    main()
