"""What a vector environment takes to start: the first of a process, and those after it.

    python -m tests.benchmarks.starts [--envs 8] [--times 20]

Milliseconds of wall time: of the first, of the second, the fastest and the median of those after.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from vecselect import auto_make_vec

IDS = ("CartPole-v1", "HalfCheetah-v5", "LunarLander-v3")
MODES = ("sync", "pool:1", "pool:3", "async", "auto")


def start_times_ms(id, mode, num_envs, times):
    """Milliseconds of each of some starts in this process."""
    taken_ms = []
    for _ in range(times):
        start_s = time.perf_counter()
        envs = auto_make_vec(id, num_envs, mode)
        taken_ms.append((time.perf_counter() - start_s) * 1e3)
        envs.reset(seed=1)
        envs.close()
    return taken_ms


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        first, second, *others = start_times_ms(*options.cell, options.envs, options.times)
        print(f"{first:8.0f} {second:8.1f} {min(others):8.1f} {statistics.median(others):8.1f}")
        return
    print(f"load {os.getloadavg()[0]:.1f}; {options.envs} sub-environments")
    print(f"{'':24} {'first':>8} {'second':>8} {'fastest':>8} {'median':>8}")
    for id in IDS:
        for mode in MODES:
            command = [sys.executable, "-m", "tests.benchmarks.starts", "--cell", id, mode]
            sizes = ["--envs", str(options.envs), "--times", str(options.times)]
            done = subprocess.run([*command, *sizes], capture_output=True, text=True, check=True)
            print(f"{id:15} {mode:8} {done.stdout.rstrip()}", flush=True)


if __name__ == "__main__":
    main()
