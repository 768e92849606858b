"""What the choice does to a training run: PPO to a fixed number of steps, planning included.

A loop in the style of CleanRL (one file, torch) and Stable-Baselines3's PPO, each over what people
have today and over vecselect's choice: in a first run, which plans, and in the next one, which
recalls the plan. Every run is a process of its own; the makers take turns, so that a busy machine
is busy for all of them.

Run from the repository's root: python -m tests.benchmarks.training [--rounds N] [ENV ...]
Needs torch, and stable-baselines3 for its rows.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

import gymnasium as gym
import numpy as np

from tests.benchmarks.planning import WRITES_BYTECODE

STEPS = {
    "CartPole-v1": 51_200,
    "HalfCheetah-v5": 51_200,
    "Ant-v5": 51_200,
    "CarRacing-v3": 4_096,
}
NUM_ENVS = 8
ROLLOUT = 128
IMAGES = ("CarRacing-v3",)
AS_SET, AUTO = "vecselect", "vecselect, auto threads"
MAKERS = {
    "cleanrl": ("gym.make_vec", "gym.make_vec sync", "gym.make_vec async", AS_SET, AUTO),
    "sb3": ("sb3 default", "sb3 subproc", AS_SET, AUTO),
}
AGAIN = {AS_SET: f"{AS_SET}, again", AUTO: f"{AUTO}, again"}
"""The second run with the same plan cache, by the first one."""


class Seen(gym.ObservationWrapper):
    """Images as a few numbers, so that the policy can be the same small network everywhere."""

    def __init__(self, env):
        super().__init__(env)
        shape = self.observation(env.observation_space.sample()).shape
        self.observation_space = gym.spaces.Box(0.0, 1.0, shape, np.float32)

    def observation(self, observation):
        return (observation[::12, ::12].mean(axis=2) / 255.0).astype(np.float32).ravel()


def make(maker, id):
    """The vector environment of a maker; for Stable-Baselines3 its `VecEnv`."""
    wrappers = [Seen] if id in IMAGES else None
    if maker.startswith("gym.make_vec"):
        mode = maker.removeprefix("gym.make_vec").strip() or None
        return gym.make_vec(id, NUM_ENVS, vectorization_mode=mode, wrappers=wrappers)
    if maker.startswith("sb3"):
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

        kind = SubprocVecEnv if maker == "sb3 subproc" else DummyVecEnv
        return make_vec_env(id, NUM_ENVS, wrapper_class=wrappers and Seen, vec_env_cls=kind)
    from vecselect import auto_make_vec

    threads = "auto" if maker == AUTO else None
    return auto_make_vec(id, NUM_ENVS, wrappers=wrappers, learner_threads=threads)


def cleanrl(maker, id, total_steps):
    """Proximal policy optimization, and how its time was spent."""
    import torch
    from torch import nn
    from torch.distributions import Categorical, Normal

    torch.manual_seed(1)
    envs = make(maker, id)
    made_s = time.perf_counter()
    space = envs.single_action_space
    discrete = isinstance(space, gym.spaces.Discrete)
    inputs = int(np.prod(envs.single_observation_space.shape))
    outputs = int(space.n) if discrete else int(np.prod(space.shape))

    def network(size):
        return nn.Sequential(
            nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, size)
        )

    actor, critic, spread = network(outputs), network(1), nn.Parameter(torch.zeros(outputs))
    parameters = [*actor.parameters(), *critic.parameters(), spread]
    optimizer = torch.optim.Adam(parameters, lr=3e-4, eps=1e-5)

    def policy(observations):
        found = actor(observations)
        return Categorical(logits=found) if discrete else Normal(found, spread.exp())

    def log_prob(found, actions):
        return found.log_prob(actions) if discrete else found.log_prob(actions).sum(-1)

    def seen(observations):
        return torch.as_tensor(np.asarray(observations, np.float32)).reshape(NUM_ENVS, -1)

    collecting = envs.collecting if maker in AGAIN else contextlib.nullcontext
    inside_s = rollout_s = 0.0
    observations = seen(envs.reset(seed=1)[0])
    for _ in range(total_steps // (NUM_ENVS * ROLLOUT)):
        batch = []
        begun_s = time.perf_counter()
        with collecting():
            for _ in range(ROLLOUT):
                with torch.no_grad():
                    found = policy(observations)
                    actions = found.sample()
                    old = log_prob(found, actions)
                    values = critic(observations).squeeze(-1)
                given = actions.numpy()
                if not discrete:
                    given = np.clip(given, space.low, space.high).astype(space.dtype)
                start_s = time.perf_counter()
                following, rewards, terminated, truncated, _ = envs.step(given)
                inside_s += time.perf_counter() - start_s
                ended = torch.as_tensor(terminated | truncated, dtype=torch.float32)
                rewards = torch.as_tensor(rewards, dtype=torch.float32)
                batch.append((observations, actions, old, values, rewards, ended))
                observations = seen(following)
        rollout_s += time.perf_counter() - begun_s
        learn(batch, policy, log_prob, critic, observations, optimizer, parameters)
    done_s = time.perf_counter()
    plan = getattr(envs, "plan", None)
    envs.close()
    return {
        "made_s": made_s,
        "done_s": done_s,
        "inside_s": inside_s,
        "rollout_s": rollout_s,
        "mode": plan.mode if plan else None,
        "predicted_share": plan.collection_share if plan else None,
    }


def learn(batch, policy, log_prob, critic, last, optimizer, parameters):
    """Four epochs of four minibatches over a rollout."""
    import torch

    columns = [torch.stack(column) for column in zip(*batch, strict=True)]
    observations, actions, old, values, rewards, ended = columns
    with torch.no_grad():
        following, advantage = critic(last).squeeze(-1), torch.zeros(NUM_ENVS)
        advantages = torch.zeros_like(rewards)
        for index in reversed(range(len(batch))):
            goes_on = 1.0 - ended[index]
            delta = rewards[index] + 0.99 * following * goes_on - values[index]
            advantage = delta + 0.99 * 0.95 * goes_on * advantage
            advantages[index], following = advantage, values[index]
    flat = [
        column.reshape(-1, *column.shape[2:])
        for column in (observations, actions, old, advantages, advantages + values)
    ]
    for _ in range(4):
        for rows in torch.randperm(len(flat[0])).chunk(4):
            seen, taken, before, gain, target = (column[rows] for column in flat)
            found = policy(seen)
            ratio = (log_prob(found, taken) - before).exp()
            gain = (gain - gain.mean()) / (gain.std() + 1e-8)
            clipped = torch.min(gain * ratio, gain * ratio.clamp(0.8, 1.2)).mean()
            loss = (critic(seen).squeeze(-1) - target).square().mean()
            optimizer.zero_grad()
            (0.5 * loss - clipped).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
            optimizer.step()


def sb3(maker, id, total_steps):
    """Stable-Baselines3's PPO, and how its time was spent."""
    from stable_baselines3 import PPO

    callback = None
    if maker in AGAIN:
        from vecselect.sb3 import CollectingCallback, make_vec_env

        envs = make_vec_env(
            id,
            NUM_ENVS,
            wrappers=[Seen] if id in IMAGES else None,
            learner_threads="auto" if maker == AUTO else None,
        )
        callback = CollectingCallback()
    else:
        envs = make(maker, id)
    made_s = time.perf_counter()
    model = PPO(
        "MlpPolicy", envs, n_steps=ROLLOUT, batch_size=256, n_epochs=4, seed=1, device="cpu"
    )
    model.learn(total_steps, callback=callback)
    done_s = time.perf_counter()
    plan = envs.plan if maker in AGAIN else None
    envs.close()
    return {"made_s": made_s, "done_s": done_s, "mode": plan.mode if plan else None}


def run(trainer, maker, id, steps, store):
    """One training run, in a process of its own."""
    words = [sys.executable, "-W", "ignore", "-m", __spec__.name, "--one", trainer, maker, id]
    words.append(str(steps))
    environment = {**os.environ, **WRITES_BYTECODE, "VECSELECT_CACHE_DIR": store}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def one(trainer, maker, id, steps):
    """What such a process does: the imports that every run needs do not count."""
    import torch  # noqa: F401

    if trainer == "sb3":
        import stable_baselines3  # noqa: F401
    start_s = time.perf_counter()
    found = {"cleanrl": cleanrl, "sb3": sb3}[trainer](maker, id, int(steps))
    found["total_s"] = found.pop("done_s") - start_s
    found["making_s"] = found.pop("made_s") - start_s
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("envs", nargs="*", default=list(STEPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trainer", choices=MAKERS)
    parser.add_argument("--steps", type=int, help="env steps of each run")
    parser.add_argument("--one", nargs=4)
    asked = parser.parse_args(sys.argv[1:])
    if asked.one:
        one(*asked.one)
        return
    trainers = [asked.trainer] if asked.trainer else list(MAKERS)
    if importlib.util.find_spec("stable_baselines3") is None:
        trainers = [trainer for trainer in trainers if trainer != "sb3"]
    for id in asked.envs:
        for trainer in trainers:
            compare(trainer, id, asked.rounds, asked.steps or STEPS[id])


def compare(trainer, id, rounds, steps):
    """Runs what there is for an environment, in changing order, and writes the medians."""
    makers = list(MAKERS[trainer])
    if gym.spec(id).vector_entry_point is None and "gym.make_vec sync" in makers:
        makers.remove("gym.make_vec sync")  # it is the default
    found = {maker: [] for maker in (*makers, *AGAIN.values())}
    for number in range(rounds):
        for maker in makers[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory() as store:
                found[maker].append(run(trainer, maker, id, steps, store))
                if maker in AGAIN:
                    found[AGAIN[maker]].append(run(trainer, maker, id, steps, store))
    print(f"\n{id} x {NUM_ENVS}, {trainer}'s PPO, {steps} env steps, {rounds} rounds")
    base_s = median(one["total_s"] for one in found[makers[0]])
    for maker, runs in found.items():
        print_row(maker, runs, base_s)


def print_row(maker, runs, base_s):
    """Writes the medians of one maker's runs."""
    totals_s = [one["total_s"] for one in runs]
    making_s = median(one["making_s"] for one in runs)
    text = (
        f"  {maker:>30} {median(totals_s):7.1f} s ({min(totals_s):.1f}-{max(totals_s):.1f}; "
        f"{making_s:4.1f} s to make)  {base_s / median(totals_s):5.2f}x"
    )
    if "inside_s" in runs[0]:
        inside = median(one["inside_s"] / one["rollout_s"] for one in runs)
        whole = median(one["inside_s"] / (one["total_s"] - one["making_s"]) for one in runs)
        text += f"  in step: {inside:4.0%} of rollouts, {whole:4.0%} of all"
    modes = [one["mode"] for one in runs if one["mode"]]
    if modes:
        text += f"  {', '.join(dict.fromkeys(modes))}"
    shares = [one["predicted_share"] for one in runs if one.get("predicted_share")]
    if shares:
        text += f", {median(shares):.0%} predicted"
    print(text, flush=True)


if __name__ == "__main__":
    main()
