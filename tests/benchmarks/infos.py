"""Infos of every kind: the pool against Gymnasium's sync, every cell in one interleaved run.

Run from the repository's root: python -m tests.benchmarks.infos [KIND ...]

The environment does next to nothing, so that its infos are most of a step.
"""

from __future__ import annotations

import argparse
import functools
import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics

from vecselect import auto_make_vec

FLOATS = {"x": 0.5, "velocity": 1.5, "forward": 2.5, "control": -0.1}
BOOL = np.bool_(True)


def changing(step):
    return np.zeros(1 + step % 100)


KINDS = {
    "nothing": lambda step: {},
    "4 floats": lambda step: dict(FLOATS),
    "4 float64": lambda step: {key: np.float64(value) for key, value in FLOATS.items()},
    "floats, np.bool_": lambda step: {**FLOATS, "success": BOOL},
    "floats, string": lambda step: {**FLOATS, "phase": "walking"},
    "floats, nested": lambda step: {**FLOATS, "cost": {"energy": 0.5, "contact": 1}},
    "floats, None": lambda step: {**FLOATS, "goal": None},
    "floats, list": lambda step: {**FLOATS, "visited": [1, 2]},
    "array": lambda step: {"x": 0.5, "state": np.zeros(8)},
    "changing arrays": lambda step: {"x": 0.5, "state": changing(step)},
    "key that comes and goes": lambda step: {**FLOATS, "hit": 1} if step % 3 else dict(FLOATS),
    "type that changes": lambda step: {**FLOATS, "score": 0.5 if step % 3 else 0},
    "episode statistics": lambda step: {},
}


class InfoEnv(gym.Env):
    """Episodes of 40 to 60 steps, whose infos a function of the step gives."""

    observation_space = spaces.Box(-1, 1, (4,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, kind, index):
        self.info = KINDS[kind]
        self.steps = self.vector_steps = 0
        self.length = 40 + index % 20
        self.observation = np.zeros(4, np.float32)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        self.vector_steps += 1
        return self.observation, self.info(self.vector_steps)

    def step(self, action):
        self.steps += 1
        self.vector_steps += 1
        return self.observation, 1.0, self.steps >= self.length, False, self.info(self.vector_steps)


def make(kind, index):
    env = InfoEnv(kind, index)
    return RecordEpisodeStatistics(env) if kind == "episode statistics" else env


def block_s(envs, actions, vector_steps, clock):
    """Seconds that some vector steps take, with the resets that DISABLED leaves to the caller."""
    disabled = envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    start_s = clock()
    for _ in range(vector_steps):
        _, _, terminated, truncated, _ = envs.step(actions)
        if disabled and (ended := terminated | truncated).any():
            envs.reset(options={"reset_mask": ended})
    return clock() - start_s


def ratios(kind, num_envs, autoreset_mode, modes, rounds, clock):
    """What a vector step of sync takes, in us, and how often each mode makes one meanwhile."""
    # In DISABLED each reset is an info of its own: arrays must not differ in the same call.
    env_fns = [
        functools.partial(make, kind, 0 if kind == "changing arrays" else index)
        for index in range(num_envs)
    ]
    options = {"autoreset_mode": autoreset_mode}
    sync = SyncVectorEnv(env_fns, autoreset_mode=autoreset_mode)
    running = [sync, *(auto_make_vec(env_fns, mode=mode, vector_kwargs=options) for mode in modes)]
    actions = np.zeros(num_envs, np.int64)
    times_s = [[] for _ in running]
    for envs in running:
        envs.reset(seed=1)
        block_s(envs, actions, 50, clock)
    for _ in range(rounds):
        for envs, found in zip(running, times_s, strict=True):
            found.append(block_s(envs, actions, 65, clock) / 65)
    for envs in running:
        envs.close()
    first, *others = (float(np.median(found)) for found in times_s)
    return first * 1e6, [first / other for other in others]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--num-envs", default="16,64")
    parser.add_argument("--modes", default="pool:0,pool:1")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="this thread's CPU time: for pool:0")
    asked = parser.parse_args()
    clock = time.thread_time if asked.cpu else time.perf_counter
    modes = asked.modes.split(",")
    print(
        f"{'':>24} {'':>9} {'sync, us':>9} " + " ".join(f"{mode + '/sync':>11}" for mode in modes)
    )
    every = []
    for kind in asked.kinds:
        for num_envs in map(int, asked.num_envs.split(",")):
            for autoreset_mode in AutoresetMode:
                sync_us, found = ratios(kind, num_envs, autoreset_mode, modes, asked.rounds, clock)
                every.append(found)
                cells = " ".join(f"{ratio:11.2f}" for ratio in found)
                name = f"{kind} x {num_envs}"
                short = autoreset_mode.name.partition("_")[0].lower()
                print(f"{name:>24} {short:>9} {sync_us:9.0f} {cells}", flush=True)
    for mode, found in zip(modes, np.array(every).T, strict=True):
        mean = float(np.exp(np.mean(np.log(found))))
        print(f"{mode}/sync: geometric mean {mean:.2f}, least {found.min():.2f}")


if __name__ == "__main__":
    main()
