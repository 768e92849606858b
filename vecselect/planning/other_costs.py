"""What the steps of one sub-environment do not tell: other implementations, and actors of Ray.

`native` and `envpool` run other code. They are built here with all their sub-environments and
timed, and what random actions lead to is held against the user's own environment: not bits, but
rewards and the length of episodes. What Ray's actors add to the steps is measured over stubs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from statistics import fmean, median, pstdev
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from vecselect.backends.base import backend_of
from vecselect.backends.ray import cluster
from vecselect.errors import VecselectError
from vecselect.measure.probe import bypassed_recorders
from vecselect.measure.trial import Trial
from vecselect.modes import Mode
from vecselect.process.generators import untouched_generators
from vecselect.request import RAY_OPTIONS, Request
from vecselect.selection.evidence import Behaviour, ImplementationCost, RayCosts

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe

TIMED_S, BLOCK_S, FEWEST_BLOCKS = 0.05, 2e-3, 5
"""Seconds for which an implementation is timed, and that a block of it takes, a vector step at
least; and blocks at least."""

QUIET = 0.2
"""The quantile of the blocks that counts. Where other programs take turns on the cores some blocks
are spared, as are the steps of a profile that count; where nobody does it is near the median."""

SAMPLES = 16
"""Sub-environments whose rewards are added up, at least; fewer of them are reset several times."""

OWN_ENVS = 4
"""The user's own sub-environments that are built to compare with, at most."""

MOST_STEPS, FEWEST_STEPS = 1000, 20
COMPARE_S = 0.1
COMPARE_LIMIT_S = 1.0
"""Vector steps that are compared: what the user's own environment makes in so many seconds. One
that takes longer than the limit to build, or to make the fewest, is not compared."""

LOOP_S = 1e-5
"""What a loop adds to a step, about."""

RAY_WARM_UP_STEPS, RAY_STEPS = 20, 60
RAY_START_LIMIT_S = 30.0


def implementation_costs(
    request: Request, kind: str, found: Probe, machine: Machine
) -> list[ImplementationCost]:
    """Times an implementation of a kind, and compares its behaviour with the user's environment.

    One that has threads is timed with one of them too: short steps pay for no more. Raises
    `VecselectError` if its spaces or autoreset mode are not those of the environment, and what
    building or stepping it raises.
    """
    exact = backend_of(kind).exact(request, Mode(kind), machine)
    if exact.workers in (None, 1):
        return [_cost(request, exact, found, _steps_to_compare(found))]
    one = _cost(request, Mode(kind, 1), found, _steps_to_compare(found))
    more = _cost(request, exact, found, 0)
    return [one, dataclasses.replace(more, behaviour=one.behaviour, reference=one.reference)]


def _cost(request: Request, mode: Mode, found: Probe, steps: int) -> ImplementationCost:
    """What one mode takes, its behaviour compared over so many steps, if any."""
    with untouched_generators():
        theirs = backend_of(mode.kind).build(request, mode)
        with Trial(theirs) as trial:
            _need_alike(theirs, found)
            behaviour = _behaviour(trial, steps) if steps else None
            trial.reset()
            trial.warm_up(BLOCK_S)
            count = max(int(BLOCK_S / trial.step_s), 1)
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            times_s: list[float] = []
            wall_s = 0.0
            while len(times_s) < FEWEST_BLOCKS or wall_s < TIMED_S:
                times_s.append(trial.block(count).loop_s)
                wall_s = time.perf_counter() - start_s
            cpu_s = time.process_time() - start_cpu_s
        reference = _own_behaviour(request, steps) if behaviour is not None else None
    return ImplementationCost(
        mode=str(mode),
        vector_step_s=float(np.quantile(times_s, QUIET)),
        cores_used=cpu_s / wall_s,
        behaviour=behaviour,
        reference=reference,
    )


def _need_alike(envs: VectorEnv, found: Probe) -> None:
    """Refuses what a loop written for the user's own environment could not be run with."""
    for what, own, other in (
        ("observation", found.observation_space, envs.single_observation_space),
        ("action", found.action_space, envs.single_action_space),
    ):
        if own != other:
            raise VecselectError(f"its {what} space is {other}, not {own}")
    autoreset_mode = envs.metadata.get("autoreset_mode")
    if autoreset_mode != AutoresetMode.NEXT_STEP:
        raise VecselectError(f"its autoreset mode is {autoreset_mode}, and the loop's is NEXT_STEP")


def _steps_to_compare(found: Probe) -> int:
    """Vector steps that behaviours are compared over; 0 where that would take too long."""
    each_s = found.profile.mean_step_with_resets_s + LOOP_S
    steps = min(int(COMPARE_S / (SAMPLES * each_s)), MOST_STEPS)
    steps = max(steps, FEWEST_STEPS)
    takes_s = max(SAMPLES * steps * each_s, found.construct_s)
    return 0 if found.holds or takes_s > COMPARE_LIMIT_S else steps


def _own_behaviour(request: Request, steps: int) -> Behaviour:
    """What random actions lead to in the user's own environment."""
    few = dataclasses.replace(request, env_fns=request.env_fns[:OWN_ENVS])
    with bypassed_recorders(), Trial(backend_of("sync").build(few, Mode("sync"))) as trial:
        return _behaviour(trial, steps)


def _behaviour(trial: Trial, steps: int) -> Behaviour:
    """What the same random actions lead to in the first vector steps after a reset."""
    returns: list[float] = []
    ends: list[float] = []
    count = trial.envs.num_envs
    while len(returns) < SAMPLES:
        if returns:
            trial.envs.reset()
        else:
            trial.reset()
        added, ended = np.zeros(count), np.zeros(count)
        for _ in range(steps):
            _, rewards, terminated, truncated, _ = trial.step()
            added += rewards
            ended += np.logical_or(terminated, truncated)
        returns += added.tolist()
        ends += ended.tolist()
    return Behaviour(
        samples=len(returns),
        steps=steps,
        return_mean=fmean(returns),
        return_sd=pstdev(returns),
        ends_mean=fmean(ends),
        ends_sd=pstdev(ends),
    )


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
        lanes = max(int(free / each), 1)
        nodes = [node for node in cluster.ray().nodes() if node["Alive"]]
        # Lanes as full as they would be: what is large goes another way through Ray.
        per_lane = math.ceil(request.num_envs / lanes)
        one_s = _ray_step_s(options, stub, lanes=1, per_lane=per_lane)
        two_s = _ray_step_s(options, stub, lanes=2, per_lane=per_lane) if lanes > 1 else one_s
        double_s = _ray_step_s(options, stub, lanes=1, per_lane=2 * per_lane)
    another_s = max(two_s - one_s, 0.0)
    env_s = min(max(double_s - one_s, 0.0), another_s) / per_lane
    return RayCosts(
        fixed_s=max(one_s - another_s, 0.0),
        lane_s=another_s - per_lane * env_s,
        lanes=lanes,
        cores=float(here) if len(nodes) < 2 else free,
        env_s=env_s,
    )


def _ray_step_s(
    options: dict[str, object], stub: Callable[[], gym.Env], lanes: int, per_lane: int
) -> float:
    """Seconds of a vector step over stubs."""
    options = {"start_timeout_s": RAY_START_LIMIT_S, **options}
    options["lane_mode"] = "sync"
    request = Request("stub", (stub,) * (lanes * per_lane), vector_kwargs=options)
    with Trial(backend_of("ray").build(request, Mode("ray", lanes))) as trial:
        trial.reset()
        trial.block(RAY_WARM_UP_STEPS)
        return median(trial.block(1).loop_s for _ in range(RAY_STEPS))
