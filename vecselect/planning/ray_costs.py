"""What the actors of Ray cost beside the environments: measured over stubs of them."""

from __future__ import annotations

import functools
import math
from statistics import median
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from vecselect.backends.base import backend_of
from vecselect.backends.ray import cluster
from vecselect.measure.trial import Trial
from vecselect.modes import Mode
from vecselect.request import RAY_OPTIONS, Request
from vecselect.selection.evidence import RayCosts

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe

WARM_UP_STEPS = 20
STEPS = 60
START_LIMIT_S = 30.0


class StubEnv(gym.Env):
    """Returns the same observation over and over."""

    def __init__(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], observation: Any
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.metadata: dict[str, Any] = {}  # of its own, since older Gymnasiums write into it
        self._observation = observation

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The observation."""
        return self._observation, {}

    def step(self, action: Any) -> Any:
        """The observation again."""
        return self._observation, 0.0, False, False, {}


def ray_costs(request: Request, machine: Machine, found: Probe) -> RayCosts:
    """Measures what Ray actors cost, in the seconds that connecting, or starting a Ray, takes.

    Raises `VecselectError` if there is no Ray to be had.
    """
    options = {k: v for k, v in request.vector_kwargs.items() if k in RAY_OPTIONS}
    stub = functools.partial(
        StubEnv, found.observation_space, found.action_space, found.observation
    )
    each = float(options.get("num_cpus", 1)) or 1.0
    here = max(int(machine.cores), 1)
    with cluster.connected(options.get("address"), here):
        free = cluster.ray().available_resources().get("CPU", 0.0)
        lanes = max(int(options.get("num_workers", free / each)), 1)
        nodes = [node for node in cluster.ray().nodes() if node["Alive"]]
        # Lanes as full as they would be: what is large goes another way through Ray.
        per_lane = math.ceil(request.num_envs / lanes)
        one_s = _step_s(options, stub, lanes=1, per_lane=per_lane)
        two_s = _step_s(options, stub, lanes=2, per_lane=per_lane) if lanes > 1 else one_s
        double_s = _step_s(options, stub, lanes=1, per_lane=2 * per_lane)
    another_s = max(two_s - one_s, 0.0)
    env_s = min(max(double_s - one_s, 0.0), another_s) / per_lane
    return RayCosts(
        fixed_s=max(one_s - another_s, 0.0),
        lane_s=another_s - per_lane * env_s,
        lanes=lanes,
        cores=float(here) if len(nodes) < 2 else free,
        env_s=env_s,
    )


def _step_s(
    options: dict[str, object], stub: Callable[[], gym.Env], lanes: int, per_lane: int
) -> float:
    """Seconds of a vector step over stubs."""
    options = {"start_timeout_s": START_LIMIT_S, **options}
    options |= {"num_workers": lanes, "lane_mode": "sync"}
    request = Request("stub", (stub,) * (lanes * per_lane), vector_kwargs=options)
    with Trial(backend_of("ray").build(request, Mode("ray"))) as trial:
        trial.reset()
        trial.block(WARM_UP_STEPS)
        return median(trial.block(1).loop_s for _ in range(STEPS))
