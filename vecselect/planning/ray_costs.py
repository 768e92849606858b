"""What Ray actors cost: vector environments over stubs, one lane and two."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from vecselect.backends.ray import cluster
from vecselect.backends.registry import find
from vecselect.measure.stub import tiny_stub
from vecselect.request import RAY_OPTIONS, Request
from vecselect.selection.costs import RayCosts

if TYPE_CHECKING:
    from vecselect.machine import Machine

ROUNDS = 60
WARM_UP = 20
START_LIMIT_S = 30.0


def ray_costs(request: Request, machine: Machine) -> RayCosts:
    """Measures them, in the seconds that connecting, or starting a Ray, takes.

    Args:
        request: What was asked for; its options say where the cluster is.
        machine: The cores of this one, for a Ray that is started here.

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
        one_s = _step_s(options, 1)
        two_s = _step_s(options, 2) if lanes > 1 else one_s
    finally:
        cluster.give_lease_back()
    lane_s = max(two_s - one_s, 0.0)
    cores = float(here) if len(nodes) < 2 else free
    return RayCosts(max(one_s - lane_s, 0.0), lane_s, lanes, cores)


def _step_s(options: dict[str, object], lanes: int) -> float:
    """Seconds of a vector step over stubs, one in each lane."""
    asked = {**options, "num_workers": lanes, "lane_mode": "sync"}
    asked.setdefault("start_timeout_s", START_LIMIT_S)
    stubs = Request("stub", (tiny_stub,) * lanes, vector_kwargs=asked)
    env = find("ray")[0].build(stubs)
    try:
        env.reset(seed=1)
        actions = np.zeros(lanes, np.int64)
        times_s = []
        for _ in range(WARM_UP + ROUNDS):
            start_s = time.perf_counter()
            env.step(actions)
            times_s.append(time.perf_counter() - start_s)
        return median(times_s[WARM_UP:])
    finally:
        env.close()
