"""What planning costs at the start: cold, recalled, and the same mode pinned, in turns.

Run from the repository's root: python -m tests.benchmarks.planning [--rounds N] [--torch] [ENV ...]

Every start is a program of its own, as a user starts one, with an empty plan cache for the cold
starts, so that the first use of a machine is included. Times are from the call of `auto_make_vec`
to its return, and to the end of the first reset; medians over the rounds, and of the differences
within a round. It also counts what planning does to the environment: builds and steps before the
first reset, beyond one build for each sub-environment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from statistics import median

ENVS = ("CartPole-v1", "Pendulum-v1", "HalfCheetah-v5", "CarRacing-v3")
NUM_ENVS = 8

WRITES_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""What is installed has compiled modules; without them each start compiles ours, for 0.1 s."""

PROGRAM = """
import json, sys, time
import gymnasium as gym
{torch}
import vecselect
mode = sys.argv[1]
start_s = time.perf_counter()
envs = vecselect.auto_make_vec({env!r}, {num_envs}, mode=mode)
made_s = time.perf_counter() - start_s
envs.reset(seed=1)
reset_s = time.perf_counter() - start_s
plan = envs.plan
profile = plan.evidence.profile
print(json.dumps({{
    "made_s": made_s, "reset_s": reset_s, "mode": envs.mode, "recalled": plan.recalled,
    "planning_s": plan.planning_s, "by": plan.decided_by,
    "profile_steps": profile.steps if profile else 0,
    "profile_s": profile.steps * profile.step_time_s if profile else 0.0,
}}))
envs.close()
"""

COUNTER = """
import gymnasium as gym, os
class Counting(gym.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        self._note("build")
    def _note(self, what):
        file = os.open({file!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, (what + "\\n").encode()); os.close(file)
    def step(self, action):
        self._note("step")
        return self.env.step(action)
    def reset(self, **kwargs):
        self._note("reset")
        return self.env.reset(**kwargs)
import vecselect
envs = vecselect.auto_make_vec(lambda: Counting(gym.make({env!r})), {num_envs}, use_store=False)
envs.close()
"""


def start(env: str, mode: str, cache: str, torch: bool) -> dict:
    program = PROGRAM.format(
        env=env, num_envs=NUM_ENVS, torch="import torch; torch.zeros(1)" if torch else ""
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, mode],
        env={**os.environ, **WRITES_BYTECODE, "VECSELECT_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def touched(env: str) -> Counter:
    """What planning does to an environment: builds, resets and steps."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "calls")
        program = COUNTER.format(env=env, num_envs=NUM_ENVS, file=file)
        subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
        with open(file) as lines:
            return Counter(line.strip() for line in lines)


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("envs", nargs="*", default=ENVS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch", action="store_true", help="load torch first")
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {NUM_ENVS} sub-environments, ms, medians")
    print(
        f"{'environment':>15} {'mode':>8} {'pinned':>7} {'cold':>6} {'recalled':>9} "
        f"{'cold beyond':>12} {'recalled beyond':>16} {'same mode':>10}  extra builds, steps"
    )
    for env in asked.envs:
        rows = []
        for _ in range(asked.rounds):
            with tempfile.TemporaryDirectory() as cache:
                cold = start(env, "auto", cache, asked.torch)
                recalled = start(env, "auto", cache, asked.torch)
                pinned = start(env, cold["mode"], cache, asked.torch)
                rows.append((cold, recalled, pinned))
        modes = Counter(cold["mode"] for cold, _, _ in rows)
        mode, count = modes.most_common(1)[0]
        calls = touched(env)
        print(
            f"{env:>15} {mode:>8} {ms(median(p['reset_s'] for _, _, p in rows)):>7} "
            f"{ms(median(c['reset_s'] for c, _, _ in rows)):>6} "
            f"{ms(median(r['reset_s'] for _, r, _ in rows)):>9} "
            f"{ms(median(c['reset_s'] - p['reset_s'] for c, _, p in rows)):>12} "
            f"{ms(median(r['reset_s'] - p['reset_s'] for _, r, p in rows)):>16} "
            f"{f'{count}/{len(rows)}':>10}  {calls['build'] - NUM_ENVS}, {calls['step']}"
            f" ({ms(median(c['profile_s'] for c, _, _ in rows))} ms timed)"
            f"{'' if all(r['recalled'] for _, r, _ in rows) else '  NOT RECALLED'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
