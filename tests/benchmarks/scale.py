"""Checks the formula of "Across machines" against actors that only wait: predicted and measured.

    python -m tests.benchmarks.scale

With L lanes, M sub-environments stepped one after another in each, a step time s and observations
of B bytes each, a vector step takes M s + F + L (C + M B b). F, C and b are measured with steps
that take no time; then steps wait, so that actors beyond the cores of one machine do not compete.
"""

from __future__ import annotations

import functools
import time
from statistics import median

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from vecselect import auto_make_vec

STEPS = 40
LARGE = 4_000_000


class WaitingStub(gym.Env):
    """Waits, and returns the same observation each time."""

    action_space = spaces.Discrete(2)

    def __init__(self, step_time_s=0.0, size_bytes=4):
        self.observation_space = spaces.Box(0, 255, (size_bytes,), np.uint8)
        self.step_time_s = step_time_s
        self.observation = np.zeros(size_bytes, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation, {}

    def step(self, action):
        if self.step_time_s:
            time.sleep(self.step_time_s)
        return self.observation, 0.0, False, False, {}


def vector_step_s(lanes, per_lane=1, step_time_s=0.0, size_bytes=4, steps=STEPS):
    """The median time of a vector step."""
    stub = functools.partial(WaitingStub, step_time_s, size_bytes)
    options = {"num_cpus": 0, "copy": False}
    with auto_make_vec(stub, lanes * per_lane, mode=f"ray:{lanes}", vector_kwargs=options) as envs:
        envs.reset(seed=1)
        actions = np.zeros(envs.num_envs, np.int64)
        times_s = []
        for _ in range(steps):
            start_s = time.perf_counter()
            envs.step(actions)
            times_s.append(time.perf_counter() - start_s)
    return median(times_s[steps // 4 :])


def main():
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    one_s, eight_s = vector_step_s(1), vector_step_s(8)
    lane_s = (eight_s - one_s) / 7
    fixed_s = one_s - lane_s
    byte_s = max(vector_step_s(1, size_bytes=LARGE) - one_s, 0.0) / LARGE
    print(
        f"F {fixed_s * 1e3:.2f} ms, C {lane_s * 1e3:.3f} ms a lane, b {byte_s * 1e9:.2f} ns a byte"
    )
    print("lanes  per lane  step time  bytes     predicted  measured")
    for lanes, per_lane, step_time_s, size in (
        (4, 1, 0.001, 4),
        (4, 4, 0.001, 4),
        (4, 1, 0.010, 4),
        (8, 2, 0.010, 4),
        (4, 2, 0.010, 100_000),
        (2, 1, 0.100, 4),
    ):
        predicted_s = per_lane * step_time_s + fixed_s + lanes * (lane_s + per_lane * size * byte_s)
        measured_s = vector_step_s(lanes, per_lane, step_time_s, size)
        times = f"{predicted_s * 1e3:8.2f} ms  {measured_s * 1e3:8.2f} ms"
        ratio = measured_s / predicted_s
        print(
            f"{lanes:5}  {per_lane:8}  {step_time_s * 1e3:6.1f} ms  {size:6}  {times}  {ratio:.2f}"
        )
    print("env steps/s of nodes with 16 cores, lane_mode='pool:15', 4 per core:")
    print("nodes  " + "".join(f"{s:>12g} ms" for s in (0.1, 1, 10, 100)) + "   and of ideal")
    for nodes in (1, 4, 16, 64):
        cells = []
        for step_ms in (0.1, 1, 10, 100):
            work_s = 4 * step_ms * 1e-3
            ideal = nodes * 64 / work_s
            rate = nodes * 64 / (work_s + fixed_s + nodes * lane_s)
            cells.append(f"{rate / 1e3:8.3g} k {rate / ideal:4.0%}")
        print(f"{nodes:5}  " + " ".join(cells))
    ray.shutdown()


if __name__ == "__main__":
    main()
