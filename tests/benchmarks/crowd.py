"""Many sub-environments: what 256 CartPoles cost in the pool, in time and memory.

Run from the repository's root: python -m tests.benchmarks.crowd
"""

from __future__ import annotations

import time

import numpy as np
import psutil

from vecselect import auto_make_vec
from vecselect.measure.trial import Trial


def memory_bytes():
    """Proportional set size of this process and all below it, the fork server included."""
    process = psutil.Process()
    return sum(one.memory_full_info().pss for one in [process, *process.children(recursive=True)])


def main() -> None:
    with auto_make_vec("CartPole-v1", 2, mode="pool") as envs:
        envs.reset()  # imports and the fork server, which the first pool of a program pays for
    starts, growths = [], []
    for _ in range(5):
        before = memory_bytes()
        start = time.perf_counter()
        envs = auto_make_vec("CartPole-v1", 256, mode="pool")
        envs.reset(seed=1)
        starts.append(time.perf_counter() - start)
        envs.step(np.zeros(256, np.int64))
        growths.append(memory_bytes() - before)
        envs.close()
    print(f"256 CartPoles: ready in {np.median(starts):.2f} s, ", end="")
    print(f"{np.median(growths) / 1e6:.0f} MB added over all processes (PSS)")
    trials = [Trial(auto_make_vec("CartPole-v1", num_envs, mode="pool")) for num_envs in (32, 256)]
    for trial in trials:
        trial.reset()
        trial.block(20)
    for _ in range(15):
        for trial in trials:  # the same number of env steps per block
            trial.blocks.append(trial.block(25_600 // trial.envs.num_envs))
    for trial in trials:
        num_envs = trial.envs.num_envs
        each_us = np.median(trial.loops_s) / num_envs * 1e6
        print(f"{num_envs:4d} sub-environments: {each_us:.2f} us per env step")
        trial.close()


if __name__ == "__main__":
    main()
