"""What choosing costs: the throughput lost against an oracle that ran every candidate at length.

Run from the repository's root:

    python -m tests.benchmarks.regret [--quick] [--learner NAME ...] [ENV ...]

Every cell (environment, number of sub-environments, learner) is planned without the cache. Then all
candidates run interleaved, with the learner's threads as they are set and, beside torch, with one
thread too; the oracle is the best of one half of the rounds, and everything is judged by the other
half. `measure` is judged among the modes with the threads as they are set, `auto threads`
(`learner_threads="auto"`) among all. Each learner has a process of its own, since whether torch is
loaded changes what is planned; those with torch are left out where torch is not installed.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np

from tests import zoo
from vecselect import auto_make_vec, recommend
from vecselect.learner_threads import end_idle_threads
from vecselect.measure.learner import Learner
from vecselect.measure.trial import Trial

LEARNERS = ("none", "100 us", "1 ms", "torch 1", "torch 2")
ROUNDS = 10
BLOCK_S = 0.06
LEAD_IN_S = 0.012
"""Blocks take as long in every mode. Before each one it runs untimed, until threads that spin have
stopped and the scheduler has given processes that woke up on one core a core each."""


class HeavyTailEnv(zoo.BusyEnv):
    """Steps of 100 us on average, some of them many times as long."""

    def step(self, action):
        self.step_time_s = 100e-6 * float(self.np_random.lognormal(-0.5, 1.0))
        return super().step(action)


class ResetHeavyEnv(zoo.BusyEnv):
    """Short steps, and a reset of a hundred times as long every thirty of them or so."""

    def __init__(self):
        super().__init__(30e-6)

    def reset(self, *, seed=None, options=None):
        end_s = time.thread_time() + 3e-3
        while time.thread_time() < end_s:
            pass
        return super().reset(seed=seed, options=options)

    def step(self, action):
        result = super().step(action)
        return (*result[:2], bool(self.np_random.random() < 1 / 30), False, {})


class WaitingEnv(zoo.BusyEnv):
    """Sleeps for a millisecond and computes a little."""

    def __init__(self):
        super().__init__(20e-6)

    def step(self, action):
        time.sleep(1e-3)
        return super().step(action)


class BlasEnv(zoo.BusyEnv):
    """Multiplies matrices, in as many threads as the library takes."""

    def __init__(self):
        super().__init__(0.0)
        self.matrix = np.random.default_rng(0).random((320, 320))

    def step(self, action):
        self.matrix @ self.matrix
        return super().step(action)


def busy(step_time_s):
    return lambda: zoo.BusyEnv(step_time_s)


ENVS = {
    "FrozenLake-v1": "FrozenLake-v1",
    "CartPole-v1": "CartPole-v1",
    "Pendulum-v1": "Pendulum-v1",
    "LunarLander-v3": "LunarLander-v3",
    "HalfCheetah-v5": "HalfCheetah-v5",
    "Ant-v5": "Ant-v5",
    "CarRacing-v3": "CarRacing-v3",
    "busy 20 us": busy(20e-6),
    "busy 200 us": busy(200e-6),
    "busy 2 ms": busy(2e-3),
    "heavy tail": HeavyTailEnv,
    "reset heavy": ResetHeavyEnv,
    "waiting": WaitingEnv,
    "blas": BlasEnv,
}
SLOW = ("CarRacing-v3", "busy 2 ms")


def cells(learner, quick, envs):
    for name in envs:
        for num_envs in (2, 8, 32):
            if num_envs == 32 and name in SLOW:
                continue
            if (learner != "none" or quick) and num_envs != 8:
                continue
            yield name, num_envs


def learner_of(name):
    """What the planner is given, and what the oracle runs."""
    if name == "none":
        return None, None
    if name.startswith("torch"):
        import torch

        torch.set_num_threads(int(name.split()[1]))
        network = None

        def policy(observations):
            nonlocal network
            with torch.no_grad():
                batch = torch.from_numpy(
                    observations.reshape(len(observations), -1)[:, :4096].astype(np.float32)
                )
                if network is None or network[0].in_features != batch.shape[1]:
                    layers = torch.nn.Linear(batch.shape[1], 64), torch.nn.Linear(64, 64)
                    network = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])
                network(batch)

        return policy, policy
    seconds = {"100 us": 1e-4, "1 ms": 1e-3}[name]

    def burn(observations):
        end_s = time.thread_time() + seconds
        while time.thread_time() < end_s:
            pass

    return seconds, burn


def candidates(name, num_envs):
    modes = ["sync", "async", "pool:0", "pool:1"]
    if name == "waiting":
        modes += [f"pool:{lanes - 1}" for lanes in (4, 8, 16, 32) if 2 < lanes <= num_envs]
    return modes


def oracle(env, num_envs, modes, learner, threads):
    """Env steps/s of every mode and number of threads in each half of the rounds."""
    trials = {}
    run = None if learner is None else Learner("callable", learner)
    try:
        for mode in modes:
            envs = auto_make_vec(env, num_envs, mode=mode).unwrapped
            trial = trials[f"{mode}/{threads[0]}"] = Trial(envs, run)
            trial.reset()
            for more in threads[1:]:
                again = trials[f"{mode}/{more}"] = copy.copy(trial)
                again.blocks = []
        for name, trial in trials.items():
            set_threads(name)
            trial.block(3)
            step_s = trial.block(3).loop_s
            trial.vector_steps = max(3, int(BLOCK_S / step_s))
            trial.lead_in = max(2, int(LEAD_IN_S / step_s))
        for number in range(ROUNDS):
            for name in list(trials) if number % 2 else list(trials)[::-1]:
                set_threads(name)
                trial = trials[name]
                trial.blocks.append(trial.block(trial.vector_steps, trial.lead_in))
    finally:
        for trial in trials.values():
            trial.close()
    halves = [slice(0, None, 2), slice(1, None, 2)]
    return [
        {name: num_envs / float(np.median(trial.loops_s[half])) for name, trial in trials.items()}
        for half in halves
    ]


def run_learner(name, quick, envs):
    """Plans and judges every cell with one learner; one JSON line each."""
    given, run = learner_of(name)
    threads = ["-"]
    if name.startswith("torch"):
        threads = list(dict.fromkeys([name.split()[1], "1"]))
    for env_name, num_envs in cells(name, quick, envs):
        env = ENVS[env_name]
        set_threads(threads[0])
        strategies = {
            "rule": {"effort": "rule"},
            "measure": {},
            "auto threads": {"learner_threads": "auto"},
        }
        plans, times = {}, {}
        for strategy, options in strategies.items():
            start_s = time.perf_counter()
            plans[strategy] = recommend(env, num_envs, learner=given, use_store=False, **options)
            times[strategy] = time.perf_counter() - start_s
        modes = list(
            dict.fromkeys([*candidates(env_name, num_envs), *(p.mode for p in plans.values())])
        )
        first, second = oracle(env, num_envs, modes, run, threads)
        as_set = {name: rate for name, rate in first.items() if name.endswith(f"/{threads[0]}")}
        print(
            json.dumps(
                {
                    "env": env_name,
                    "n": num_envs,
                    "learner": name,
                    "threads": threads[0],
                    "best": max(as_set, key=as_set.get),
                    "best of all": max(first, key=first.get),
                    "rates": second,
                    "chosen": {
                        strategy: f"{plan.mode}/{plan.learner_threads or threads[0]}"
                        for strategy, plan in plans.items()
                    },
                    "planning_s": times["measure"],
                }
            ),
            flush=True,
        )


def set_threads(name):
    """Gives torch the threads that stand behind the slash of a racer's name."""
    number = name.rpartition("/")[2]
    if number != "-":
        import torch

        torch.set_num_threads(int(number))
        end_idle_threads()  # those of the one before would spin beside this one


def regret(row, name, best="best"):
    """The share of the throughput that is lost against the oracle."""
    return 1 - row["rates"][name] / row["rates"][row[best]]


def summary(rows):
    """The table of regrets, and the other figures."""

    def always(mode):
        return lambda row: f"{mode}/{row['threads']}"

    strategies = {
        "measure": lambda row: row["chosen"]["measure"],
        "rule": lambda row: row["chosen"]["rule"],
        "always sync": always("sync"),
        "always async": always("async"),
        "always pool:1": always("pool:1"),
        "auto threads": lambda row: row["chosen"]["auto threads"],
    }
    print(f"\n{'strategy':>20} {'mean':>7} {'median':>7} {'p95':>7} {'most':>7}  worst cell")
    for name, chosen in strategies.items():
        best = "best of all" if name == "auto threads" else "best"
        values = [max(regret(row, chosen(row), best), 0.0) for row in rows]
        worst = rows[int(np.argmax(values))]
        print(
            f"{name:>20} {np.mean(values):7.1%} {np.median(values):7.1%} "
            f"{np.percentile(values, 95):7.1%} {max(values):7.1%}  "
            f"{worst['env']} x {worst['n']}, {worst['learner']}"
        )
    gymnasiums = [
        row["rates"][row["chosen"]["measure"]]
        / max(row["rates"][always(mode)(row)] for mode in ("sync", "async"))
        for row in rows
    ]
    times = [row["planning_s"] for row in rows]
    print(f"against the better of sync and async: least {min(gymnasiums):.2f}, ", end="")
    print(
        f"below 0.95 in {sum(ratio < 0.95 for ratio in gymnasiums)} of {len(rows)} cells, ", end=""
    )
    print(f"geometric mean {np.exp(np.mean(np.log(gymnasiums))):.2f}")
    print(f"planning, cold: median {np.median(times):.2f} s, p95 {np.percentile(times, 95):.2f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("envs", nargs="*", default=list(ENVS), metavar="ENV")
    parser.add_argument("--quick", action="store_true", help="8 sub-environments only")
    parser.add_argument("--learner", action="append", choices=LEARNERS)
    parser.add_argument("--cells", action="store_true", help="print JSON lines, one learner")
    asked = parser.parse_args()
    if asked.cells:
        run_learner(asked.learner[0], asked.quick, asked.envs)
        return
    rows = []
    print(
        f"{'environment':>16} {'n':>3} {'learner':>8} {'best':>10} {'measure':>10} {'regret':>7} "
        f"{'of all':>10} {'auto threads':>12} {'regret':>7} {'planned':>8}"
    )
    for learner in asked.learner or LEARNERS:
        if learner.startswith("torch") and importlib.util.find_spec("torch") is None:
            continue
        command = [sys.executable, "-m", "tests.benchmarks.regret", "--cells", "--learner", learner]
        command += [*(["--quick"] if asked.quick else []), *asked.envs]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                row = json.loads(line)
                rows.append(row)
                chosen, free = row["chosen"]["measure"], row["chosen"]["auto threads"]
                print(
                    f"{row['env']:>16} {row['n']:>3} {row['learner']:>8} {row['best']:>10} "
                    f"{chosen:>10} {regret(row, chosen):7.1%} {row['best of all']:>10} "
                    f"{free:>12} {regret(row, free, 'best of all'):7.1%} "
                    f"{row['planning_s']:6.2f} s",
                    flush=True,
                )
    summary(rows)


if __name__ == "__main__":
    gym.logger.min_level = gym.logger.ERROR
    main()
