"""vecselect beside the vector environments that people use today, each cell an interleaved run.

Same environments, same actions, results in the form that each of them gives, resets included.
Peers that are not installed are left out; the extra `vecselect[peers]` brings all of them. In the
column "vecselect, allowed" other implementations may be chosen: `allow=("native", "envpool")`.

Run from the repository's root: python -m tests.benchmarks.peers [--json F] [--plot F] [ENV ...]
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from tests.benchmarks.blocks import rates
from vecselect import auto_make_vec
from vecselect.machine import read_machine
from vecselect.selection import race

ENVS = [
    "CartPole-v1",
    "Pendulum-v1",
    "LunarLander-v3",
    "HalfCheetah-v5",
    "Ant-v5",
    "Humanoid-v5",
    "CarRacing-v3",
]
GYMNASIUM = ("gymnasium sync", "gymnasium async")
SB3 = ("sb3 dummy", "sb3 subproc")
TIANSHOU = ("tianshou dummy", "tianshou shmem", "tianshou subproc")
ALLOWED = "vecselect, allowed"
RIVALS = {
    "the better of Gymnasium's": GYMNASIUM,
    "the best Python vectorizer": (*GYMNASIUM, *SB3, *TIANSHOU),
    "EnvPool": ("envpool",),
}
ALL = (*GYMNASIUM, *SB3, *TIANSHOU, "envpool", "vecselect")
"""What `vecselect, allowed` is held against: the best of all."""


class Peer:
    """A vector environment that resets ended episodes by itself, as `rates` takes it."""

    metadata = {}

    def __init__(self, envs, action_space, num_envs):
        self.envs = envs
        self.action_space = action_space
        self.num_envs = num_envs

    def reset(self, seed):
        self.envs.reset(seed=seed)

    def step(self, actions):
        return self.envs.step(actions)

    def close(self):
        self.envs.close()


class Sb3(Peer):
    """Stable-Baselines3 takes its seed apart."""

    def reset(self, seed):
        self.envs.seed(seed)
        self.envs.reset()


class Tianshou(Peer):
    """Tianshou leaves it to its user to reset ended episodes."""

    def reset(self, seed):
        self.envs.seed(seed)
        self.envs.reset()

    def step(self, actions):
        result = self.envs.step(actions)
        ended = np.flatnonzero(result[2] | result[3])
        if len(ended):
            self.envs.reset(ended)
        return result


class EnvPool(Peer):
    """EnvPool's C++ environments have their seed from the beginning."""

    def reset(self, seed):
        self.envs.reset()


def has(*packages):
    return all(importlib.util.find_spec(package) is not None for package in packages)


def peers_of(id, num_envs, mode, allowed):
    """By name, each peer's class and what builds its vector environment.

    Args:
        id: The environment.
        num_envs: The number of sub-environments.
        mode: The mode that vecselect chooses.
        allowed: The mode that it chooses where other implementations are allowed.
    """
    make = functools.partial(gym.make, id)
    env_fns = [make] * num_envs
    found = {
        "vecselect": (Peer, lambda: auto_make_vec(id, num_envs, mode=mode)),
        ALLOWED: (Peer, lambda: auto_make_vec(id, num_envs, mode=allowed)),
        "gymnasium sync": (Peer, lambda: SyncVectorEnv(env_fns)),
        "gymnasium async": (Peer, lambda: AsyncVectorEnv(env_fns, context="forkserver")),
    }
    if has("stable_baselines3"):
        from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

        found["sb3 dummy"] = (Sb3, lambda: DummyVecEnv(env_fns))
        found["sb3 subproc"] = (Sb3, lambda: SubprocVecEnv(env_fns, start_method="forkserver"))
    if has("tianshou"):
        from tianshou.env import DummyVectorEnv, ShmemVectorEnv, SubprocVectorEnv

        found["tianshou dummy"] = (Tianshou, lambda: DummyVectorEnv(env_fns))
        found["tianshou shmem"] = (Tianshou, lambda: ShmemVectorEnv(env_fns))
        found["tianshou subproc"] = (Tianshou, lambda: SubprocVectorEnv(env_fns))
    if has("envpool"):
        import envpool

        if id in envpool.list_all_envs():
            build = functools.partial(envpool.make_gymnasium, id, num_envs=num_envs, seed=1)
            found["envpool"] = (EnvPool, build)
    return found


def chosen(id, num_envs, allow=()):
    """What vecselect chooses for a loop without a learner.

    In a process of its own: the peers load torch into this one, and that would be a learner.
    """
    words = ["recommend", id, "-n", str(num_envs), "--no-store", "--json"]
    words += [word for mode in allow for word in ("--allow", mode)]
    done = subprocess.run(
        [sys.executable, "-m", "vecselect", *words], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)["mode"]


def cell(id, num_envs, rounds, block_s):
    """The modes that were chosen, and env steps/s of each peer, block by block."""
    mode = chosen(id, num_envs)
    others = ["native"] + ["envpool"] * has("envpool")
    allowed = chosen(id, num_envs, others)
    env = gym.make(id)
    batch_space = gym.vector.utils.batch_space(env.action_space, num_envs)
    env.close()
    builders = {
        name: lambda adapter=adapter, build=build: adapter(build(), batch_space, num_envs)
        for name, (adapter, build) in peers_of(id, num_envs, mode, allowed).items()
    }
    return mode, allowed, rates(builders, rounds, block_s)


def ratio(found, names, ours="vecselect"):
    """Throughput of one over that of the best of some, with its 95 % interval."""
    present = [name for name in names if name in found]
    if not present:
        return None
    best = max(present, key=lambda name: np.median(found[name]))
    # Of rates, where a time's ratio is the other way round.
    return best, race.time_ratio(found[ours], found[best])


def print_cell(row):
    """Writes one cell: every peer, the fastest first, and what vecselect is over the best."""
    measured = row["env_steps_per_s"]
    print(f"\n{row['env']} x {row['num_envs']}: {row['mode']}; {ALLOWED}: {row['allowed']}")
    for name, values in sorted(measured.items(), key=lambda item: -np.median(item[1])):
        found = race.median_interval(values)
        print(f"  {name:>16} {found.mid:10.0f}  ({found.low:.0f}-{found.high:.0f})")
    for label, names in RIVALS.items():
        if (found := ratio(measured, names)) is not None:
            best, ours = found
            print(f"  {ours.mid:.2f}x ({ours.low:.2f}-{ours.high:.2f}) {label}: {best}", flush=True)
    best, allowed = ratio(measured, ALL, ALLOWED)
    print(f"  {ALLOWED}: {allowed.mid:.2f}x ({allowed.low:.2f}-{allowed.high:.2f}) {best}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("envs", nargs="*", default=ENVS)
    parser.add_argument("--num-envs", default="8,32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--block", type=float, default=0.05)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--plot", metavar="FILE")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    print(f"{read_machine().cores:g} usable cores; env steps/s, medians of {asked.rounds} blocks")
    rows = []
    for id in asked.envs:
        for num_envs in map(int, asked.num_envs.split(",")):
            mode, allowed, measured = cell(id, num_envs, asked.rounds, asked.block)
            cell_of = {"env": id, "num_envs": num_envs, "mode": mode, "allowed": allowed}
            rows.append({**cell_of, "env_steps_per_s": measured})
            print_cell(rows[-1])
    for label, names in RIVALS.items():
        found = [ratio(row["env_steps_per_s"], names) for row in rows]
        gains = [one[1].mid for one in found if one is not None]
        if gains:
            mean = float(np.exp(np.mean(np.log(gains))))
            print(f"against {label}: geometric mean {mean:.2f}, least {min(gains):.2f}")
    gains = [ratio(row["env_steps_per_s"], ALL, ALLOWED)[1].mid for row in rows]
    mean = float(np.exp(np.mean(np.log(gains))))
    print(f"{ALLOWED}, against the best of all: geometric mean {mean:.2f}, least {min(gains):.2f}")
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
    if asked.plot:
        plot(rows, asked.plot)


def plot(rows, path):
    """Bars of env steps/s over those of Gymnasium's sync, a group for each cell."""
    from vecselect.report.plots import MUTED, Plot, new_figure, styled, svg

    names = list(dict.fromkeys(name for row in rows for name in row["env_steps_per_s"]))
    colours = dict(zip(names, COLOURS, strict=False))
    with styled():
        figure = new_figure(9.0, 0.5 + 0.62 * len(rows))
        axes = figure.subplots()
        height = 0.82 / len(names)
        for place, row in enumerate(rows):
            base = np.median(row["env_steps_per_s"]["gymnasium sync"])
            for number, name in enumerate(names):
                if name in row["env_steps_per_s"]:
                    gain = np.median(row["env_steps_per_s"][name]) / base
                    where = place + (number - len(names) / 2) * height
                    label = name if place == 0 else None
                    axes.barh(where, gain, height, color=colours[name], label=label)
        axes.axvline(1.0, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [f"{row['env']} x {row['num_envs']}" for row in rows])
        axes.invert_yaxis()
        axes.set_xlabel("env steps/s, as a multiple of Gymnasium's sync")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5)
        with open(path, "w", encoding="utf-8") as file:
            file.write(svg(Plot("vecselect beside its peers", "", lambda: figure)))


COLOURS = (
    "#d55e00",
    "#f0a070",
    "#0072b2",
    "#009e73",
    "#56b4e9",
    "#a6cee3",
    "#cc79a7",
    "#e8a020",
    "#8c6bb1",
    "#999933",
)


if __name__ == "__main__":
    main()
