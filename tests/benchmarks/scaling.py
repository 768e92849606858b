"""How the pool's throughput grows with its workers.

Run from the repository's root:

    python -m tests.benchmarks.scaling measured [--workers 1,3] [ENV ...]   environments, here
    python -m tests.benchmarks.scaling empty [--workers 1,3,15]             hand-offs alone, here
    python -m tests.benchmarks.scaling model [--cores 16,64]                by the cost model
"""

from __future__ import annotations

import argparse
import functools

import gymnasium as gym
import numpy as np

from tests.benchmarks.blocks import median_rates
from tests.benchmarks.facade import Still
from tests.benchmarks.pool import bare_rate
from tests.records import a_profile, evidence
from vecselect import auto_make_vec
from vecselect.machine import read_machine
from vecselect.modes import Mode
from vecselect.selection.evidence import HandOff, LoopCosts
from vecselect.selection.model import predict

NUM_ENVS = 64


def measured(ids, workers):
    """Env steps/s of real environments, and which share of linear growth that is."""
    for id in ids:
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


def empty(workers):
    """Microseconds of a vector step whose environments do nothing, one in each slice."""
    for k in workers:
        builders = {
            mode: functools.partial(auto_make_vec, Still, k + 1, mode=mode)
            for mode in ("pool:0", f"pool:{k}")
        }
        rates = median_rates(builders, rounds=9, block_s=0.05)
        alone_us, pool_us = ((k + 1) / rate * 1e6 for rate in rates.values())
        print(
            f"  {k:2d} workers: {pool_us:7.1f} us, pool:0 {alone_us:.1f} us; "
            f"{(pool_us - alone_us) / k:.1f} us for each worker",
            flush=True,
        )


def model(machines):
    """Predicted share of linear growth: a slice for each core, 4 sub-environments in each."""
    steps_s = (3e-6, 1e-5, 1e-4, 1e-3)
    hand_off = HandOff()
    print(f"  a further worker costs {hand_off.worker_s * 1e6:.2g} us of the caller's time")
    print("   cores" + "".join(f"{step_s * 1e6:>11g} us" for step_s in steps_s))
    for cores in machines:
        cells = []
        for step_s in steps_s:
            count, loops = 4 * cores, LoopCosts.of(a_profile(step_s), 4 * cores)
            more = {"cores": float(cores), "loops": loops, "hand_off": hand_off}
            seen = evidence(step_s, count, **more)
            rate = count / predict(Mode("pool", cores - 1), seen).loop_s
            cells.append(f"{rate * step_s / cores:14.2f}")
        print(f"  {cores:6d}" + "".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["measured", "empty", "model"])
    parser.add_argument("envs", nargs="*", default=["Ant-v5", "Humanoid-v5"])
    parser.add_argument("--workers", default="1,3,7,15")
    parser.add_argument("--cores", default="2,16,64")
    asked = parser.parse_args()
    workers = [int(word) for word in asked.workers.split(",")]
    print(f"{read_machine().cores:g} usable cores here")
    if asked.what == "measured":
        measured(asked.envs, workers)
    elif asked.what == "empty":
        empty(workers)
    else:
        model([int(word) for word in asked.cores.split(",")])


if __name__ == "__main__":
    main()
