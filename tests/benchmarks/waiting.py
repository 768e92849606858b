"""Environments that wait: threads against processes and the loop, in one interleaved run.

Run from the repository's root, on one core:
    taskset -c 0 python -m tests.benchmarks.waiting [--num-envs 64] [--wait 0.005] [MODE ...]
"""

from __future__ import annotations

import argparse
import functools
import time

import gymnasium as gym
import numpy as np
import psutil
from gymnasium import spaces

from tests.benchmarks.blocks import median_rates
from vecselect import auto_make_vec
from vecselect.machine import read_machine


class Waiting(gym.Env):
    """Waits in each step as for a socket; its episodes never end."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, wait_s):
        self.wait_s = wait_s

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action):
        time.sleep(self.wait_s)
        return np.full(4, action, np.float32), 1.0, False, False, {}


def memory_bytes():
    """What this process and its children take; pages that they share count once."""
    me = psutil.Process()
    return sum(process.memory_full_info().pss for process in [me, *me.children(recursive=True)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("modes", nargs="*")
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--wait", type=float, default=0.005)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    count = asked.num_envs
    modes = asked.modes or [
        "sync",
        "thread",
        f"thread:{count // 2 - 1}",
        f"thread:{count // 4 - 1}",
        f"pool:{count - 1}",
        f"pool:{count // 4 - 1}",
        "async",
    ]
    cores = read_machine().cores
    print(f"{count} sub-environments that wait {asked.wait * 1e3:g} ms; {cores:g} usable cores")
    env_fns = [functools.partial(Waiting, asked.wait)] * count
    costs = {}

    def build(mode):
        before_bytes, start_s = memory_bytes(), time.perf_counter()
        envs = auto_make_vec(env_fns, mode=mode)
        costs[mode] = time.perf_counter() - start_s, memory_bytes() - before_bytes
        return envs

    builders = {mode: functools.partial(build, mode) for mode in modes}
    rates = median_rates(builders, asked.rounds, block_s=0.05)
    print(
        f"{'mode':>12} {'built in s':>10} {'MB':>7} {'vector step ms':>14} {'env steps/s':>11} ",
        end="",
    )
    print(f"{'x ' + modes[0]:>7}")
    for mode in modes:
        start_s, taken_bytes = costs[mode]
        each_ms, times = count / rates[mode] * 1e3, rates[mode] / rates[modes[0]]
        print(f"{mode:>12} {start_s:10.2f} {taken_bytes / 1e6:7.1f} ", end="")
        print(f"{each_ms:14.2f} {rates[mode]:11.0f} {times:7.1f}", flush=True)
    with auto_make_vec(env_fns, use_store=False) as envs:
        print(f"auto chose {envs.mode} in {envs.plan.planning_s:.1f} s: {envs.plan.reason}")


if __name__ == "__main__":
    main()
