"""What Ray actors cost: vector environments over stubs, in one lane, in two, in a fuller one."""

from __future__ import annotations

import math
import time
from statistics import median
from typing import TYPE_CHECKING

from vecselect.backends.ray import cluster
from vecselect.backends.registry import BACKENDS
from vecselect.measure.stub import ReplayEnv
from vecselect.modes import Mode
from vecselect.request import RAY_OPTIONS, Request
from vecselect.selection.evidence import RayCosts

if TYPE_CHECKING:
    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe

ROUNDS = 60
WARM_UP = 20
START_LIMIT_S = 30.0


def ray_costs(request: Request, machine: Machine, found: Probe) -> RayCosts:
    """Measures them, in the seconds that connecting, or starting a Ray, takes.

    Args:
        request: What was asked for; its options say where the cluster is.
        machine: The cores of this one, for a Ray that is started here.
        found: The recording of a sub-environment, whose observations travel.

    Raises:
        VecselectError: If there is no Ray to be had.
    """
    options = {k: v for k, v in request.vector_kwargs.items() if k in RAY_OPTIONS}
    each = float(options.get("num_cpus", 1)) or 1.0
    here = max(int(machine.cores), 1)
    cluster.connect(options.get("address"), here)
    try:
        free = cluster.ray().available_resources().get("CPU", 0.0)
        lanes = max(int(options.get("num_workers", free / each)), 1)
        nodes = [node for node in cluster.ray().nodes() if node["Alive"]]
        # Lanes as full as they would be: what is large goes another way through Ray.
        per_lane = math.ceil(request.num_envs / lanes)
        one_s = _step_s(options, found, lanes=1, per_lane=per_lane)
        two_s = _step_s(options, found, lanes=2, per_lane=per_lane) if lanes > 1 else one_s
        double_s = _step_s(options, found, lanes=1, per_lane=2 * per_lane)
    finally:
        cluster.give_lease_back()
    another_s = max(two_s - one_s, 0.0)
    env_s = min(max(double_s - one_s, 0.0), another_s) / per_lane
    return RayCosts(
        fixed_s=max(one_s - another_s, 0.0),
        lane_s=another_s - per_lane * env_s,
        lanes=lanes,
        cores=float(here) if len(nodes) < 2 else free,
        env_s=env_s,
    )


def _step_s(options: dict[str, object], found: Probe, lanes: int, per_lane: int) -> float:
    """Seconds of a vector step over stubs that replay the recording."""

    def stub() -> ReplayEnv:
        return ReplayEnv(found.observation_space, found.action_space, found.transitions)

    asked = {**options, "num_workers": lanes, "lane_mode": "sync"}
    asked.setdefault("start_timeout_s", START_LIMIT_S)
    stubs = Request("stub", (stub,) * (lanes * per_lane), vector_kwargs=asked)
    env = BACKENDS["ray"].build(stubs, Mode("ray"))
    try:
        env.reset(seed=1)
        actions = env.action_space.sample()
        times_s = []
        for _ in range(WARM_UP + ROUNDS):
            start_s = time.perf_counter()
            env.step(actions)
            times_s.append(time.perf_counter() - start_s)
        return median(times_s[WARM_UP:])
    finally:
        env.close()
