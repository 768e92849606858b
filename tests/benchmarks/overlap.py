"""Learner and environments at the same time: buffers and first finished against lockstep.

Run from the repository's root: python -m tests.benchmarks.overlap [--rounds 7] [ENV:NUM_ENVS ...]

The learner is a stand-in for one on a GPU: it sleeps, for a share of what the lockstep pool needs
for a vector step, and half as long for half of the batch. `predicted` is what the plan of such a
learner says beforehand, `unknown` what it says where that was not timed with half a batch. For
first finished, steps wait: 1 ms, one in twenty 20 ms.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from vecselect import auto_make_vec, recommend
from vecselect.machine import read_machine
from vecselect.modes import Mode
from vecselect.selection.overlap import overlap

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


class Stragglers(gym.Env):
    """Waits in each step: 1 ms, in one of twenty 20 ms."""

    observation_space = spaces.Box(-1, 1, (4,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action):
        time.sleep(0.02 if self.np_random.random() < 0.05 else 0.001)
        return np.zeros(4, np.float32), 0.0, False, False, {}


def first_finished_s(envs, batches):
    """Seconds for each sub-environment that was received and sent."""
    actions = np.zeros(envs.batch_size, np.int64)
    start_s = time.perf_counter()
    for _ in range(batches):
        envs.send(actions, envs.recv()[4]["env_id"])
    return (time.perf_counter() - start_s) / batches / envs.batch_size


def lockstep_s(envs, steps):
    actions = np.zeros(envs.num_envs, np.int64)
    start_s = time.perf_counter()
    for _ in range(steps):
        envs.step(actions)
    return (time.perf_counter() - start_s) / steps / envs.num_envs


def compare_first_finished(env, mode, num_envs, batch_size, rounds, steps):
    """Seconds per env step in lockstep and first finished, medians of interleaved blocks."""
    with (
        auto_make_vec(env, num_envs, mode=mode) as whole,
        auto_make_vec(env, num_envs, mode=mode, batch_size=batch_size) as single,
    ):
        whole.reset(seed=1)
        single.async_reset(seed=1)
        batches = steps * num_envs // batch_size
        times_s = [
            (lockstep_s(whole, steps), first_finished_s(single, batches)) for _ in range(rounds)
        ]
        return np.median(times_s, axis=0)


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
        learner = lambda batch: time.sleep(learner_s * len(batch) / num_envs)  # noqa: B023, E731
        plan = recommend(id, num_envs, learner=learner, use_store=False)
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        untimed = dataclasses.replace(plan.evidence.learners[0], half_share=1.0)
        unknown = overlap(plan.evidence, Mode.parse(plan.mode), plan.overlap.lockstep_s, untimed)
        bound = 1 / max(step_s, learner_s) * (step_s + learner_s)
        print(
            f"{f'{id} x {num_envs}':>20} {name:>8} {step_s * 1e3:8.2f} "
            f"{learner_s * 1e3:8.2f} {middle:7.2f} ({low:.2f}-{high:.2f}) "
            f"{plan.overlap.buffers:9.2f} {unknown.buffers:7.2f} {bound:7.2f}",
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
        f"{'':>20} {'learner':>8} {'step ms':>8} {'learner':>8} {'gain':>7} {'':>11} "
        f"{'predicted':>9} {'unknown':>7} {'bound':>7}"
    )
    for name in asked.cells:
        id, _, num_envs = name.partition(":")
        cell(id, int(num_envs), asked.rounds, asked.block)
    for mode in ("thread:31", "pool:7", "pool:31"):
        whole_s, single_s = compare_first_finished(Stragglers, mode, 32, 8, asked.rounds, 12)
        print(f"stragglers x 32, batches of 8, {mode:>9}: {whole_s / single_s:.1f} x lockstep")
    for mode in ("pool:1", "thread:1"):
        whole_s, single_s = compare_first_finished("CartPole-v1", mode, 8, 4, asked.rounds, 500)
        print(
            f"CartPole x 8, {mode:>8}: {single_s * 1e6:.1f} us for each sub-environment, "
            f"{whole_s * 1e6:.1f} in lockstep"
        )


if __name__ == "__main__":
    main()
