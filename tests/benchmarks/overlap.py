"""Learner and environments at the same time: buffers against the whole batch in lockstep.

Run from the repository's root: python -m tests.benchmarks.overlap [--rounds 7] [ENV:NUM_ENVS ...]

The learner is a stand-in for one on a GPU: it sleeps, for a share of what the lockstep pool needs
for a vector step, and half as long for half of the batch.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from vecselect import auto_make_vec
from vecselect.machine import read_machine

CELLS = ["HalfCheetah-v5:16", "Ant-v5:16", "CarRacing-v3:8"]
LEARNERS = {"as long": 1.0, "a third": 1 / 3}


class Lockstep:
    """Steps the whole batch, then learns from it."""

    def __init__(self, id, num_envs):
        self.envs = auto_make_vec(id, num_envs, mode="pool")
        self.envs.reset(seed=1)
        self.actions = self.envs.action_space.sample()

    def run(self, vector_steps, learner_s):
        start_s = time.perf_counter()
        for _ in range(vector_steps):
            self.envs.step(self.actions)
            time.sleep(learner_s)
        return (time.perf_counter() - start_s) / vector_steps


class Buffered:
    """Learns from one half of the batch while the other one steps."""

    def __init__(self, id, num_envs):
        self.envs = auto_make_vec(id, num_envs, mode="pool", buffers=2)
        self.envs.reset(seed=1)
        self.halves = [(half, half.action_space.sample()) for half in self.envs.buffers]

    def run(self, vector_steps, learner_s):
        for half, actions in self.halves:
            half.step_async(actions)
        start_s = time.perf_counter()
        for _ in range(vector_steps):
            for half, actions in self.halves:
                half.step_wait()
                time.sleep(learner_s / 2)
                half.step_async(actions)
        elapsed_s = time.perf_counter() - start_s
        for half, _ in self.halves:
            half.step_wait()
        return elapsed_s / vector_steps


def cell(id, num_envs, rounds, block_s):
    lockstep, buffered = Lockstep(id, num_envs), Buffered(id, num_envs)
    step_s = float(np.median([lockstep.run(5, 0.0) for _ in range(5)]))
    for name, share in LEARNERS.items():
        learner_s = share * step_s
        steps = max(int(block_s / (step_s + learner_s)), 2)
        ratios = []
        for number in range(rounds):
            pair = (lockstep, buffered)[:: 1 if number % 2 else -1]
            times_s = {one: one.run(steps, learner_s) for one in pair}
            ratios.append(times_s[lockstep] / times_s[buffered])
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        bound = 1 / max(step_s, learner_s) * (step_s + learner_s)
        print(
            f"{f'{id} x {num_envs}':>20} {name:>8} {step_s * 1e3:8.2f} "
            f"{learner_s * 1e3:8.2f} {middle:7.2f} ({low:.2f}-{high:.2f}) {bound:7.2f}",
            flush=True,
        )
    lockstep.envs.close(), buffered.envs.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cells", nargs="*", default=CELLS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=float, default=0.25)
    asked = parser.parse_args()
    print(f"{read_machine().cores:g} usable cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'':>20} {'learner':>8} {'step ms':>8} {'learner':>8} {'gain':>7} {'':>11} {'bound':>7}"
    )
    for name in asked.cells:
        id, _, num_envs = name.partition(":")
        cell(id, int(num_envs), asked.rounds, asked.block)


if __name__ == "__main__":
    main()
