"""What modes cost beside the environments: vector environments over a replayed recording.

`measure_loops` times the loops in the calling process, `ray_costs` the actors of Ray.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.vector.utils import create_empty_array

from vecselect.backends.base import LOOP_OPTIONS, options_for
from vecselect.backends.ray import cluster
from vecselect.backends.registry import BACKENDS
from vecselect.measure.trial import Trial
from vecselect.modes import Mode
from vecselect.request import RAY_OPTIONS, Request
from vecselect.selection.evidence import LoopCosts, RayCosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe

ROUNDS = 3
BLOCK_S = 1e-3
WARM_UP_STEPS = 3
MOST_ENVS = 32
"""With more sub-environments than this the loops are measured with this many, and scaled."""

COST_STEPS = 500
"""Steps of a replay that are timed to know what it costs by itself."""

COPIES = 20
COPY_LIMIT_S = 2e-3

POOL_LOOP = "thread:0"
"""The loop of `pool:0` in memory that need not be shared: it runs everywhere."""

RAY_WARM_UP_STEPS = 20
RAY_STEPS = 60
RAY_START_LIMIT_S = 30.0


class ReplayEnv(gym.Env):
    """Plays a recording over and over, whatever the actions."""

    def __init__(
        self, observation_space: gym.Space, action_space: gym.Space, transitions: Sequence[Any]
    ) -> None:
        """Takes a recording.

        Args:
            observation_space: Of the environment that was recorded.
            action_space: Of the same.
            transitions: What a reset returned, then what each step did; at least one step.
        """
        self.observation_space = observation_space
        self.action_space = action_space
        self.metadata = {}  # of its own, since older Gymnasiums write into it
        self._started = tuple(transitions[0])
        self._play = itertools.cycle([tuple(result) for result in transitions[1:]]).__next__

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """What the recorded reset returned."""
        return self._started

    def step(self, action: Any) -> Any:
        """What the next recorded step returned."""
        return self._play()


def replay_cost_s(env: ReplayEnv) -> float:
    """Seconds of one step of a replay, as a profile would measure them."""
    step = env.step
    start_s = time.perf_counter()
    for _ in range(COST_STEPS):
        step(None)
    return (time.perf_counter() - start_s) / COST_STEPS


def _replay_of(found: Probe) -> Callable[[], ReplayEnv]:
    """The factory of environments that replay a recording."""
    return functools.partial(
        ReplayEnv, found.observation_space, found.action_space, found.transitions
    )


@contextlib.contextmanager
def _trial(
    mode: str, replay: Callable[[], ReplayEnv], count: int, options: dict[str, object]
) -> Iterator[Trial]:
    """A vector environment of replays, reset, and closed on leaving."""
    request = Request("replay", (replay,) * count, vector_kwargs=options)
    which = Mode.parse(mode)
    with Trial(BACKENDS[which.kind].build(request, which)) as trial:
        trial.reset()
        yield trial


def measure_loops(request: Request, found: Probe) -> LoopCosts:
    """Measures the loops of `sync` and `pool:0` with this environment's spaces and infos.

    Takes about 15 ms, interleaved; the choice hardly depends on it (wrong by 2x costs 0.1 %).

    Args:
        request: What was asked for.
        found: The recording of a sub-environment.
    """
    options = options_for(request, LOOP_OPTIONS)
    count = min(request.num_envs, MOST_ENVS)
    replay = _replay_of(found)
    with contextlib.ExitStack() as stack:
        trials = [
            stack.enter_context(_trial(mode, replay, number, options))
            for mode, number in (("sync", count), (POOL_LOOP, count), (POOL_LOOP, 1))
        ]
        sync_s, pool_s, one_s = _step_times(trials)
    replay_s = replay_cost_s(replay())
    each_s = (pool_s - one_s) / (count - 1) if count > 1 else 0.0
    fixed_s = max(one_s - max(each_s, replay_s), 0.0)
    sync_s, pool_s = (max(step_s - count * replay_s, 0.0) for step_s in (sync_s, pool_s))
    copying_s = 0.0
    if options.get("copy", True):
        batch = create_empty_array(found.observation_space, count)
        copying_s = _seconds_of(lambda: copy.deepcopy(batch))
    factor = request.num_envs / count
    return LoopCosts(
        sync_s=sync_s * factor,
        pool_s=fixed_s + max(pool_s - fixed_s, 0.0) * factor,
        pool_fixed_s=fixed_s,
        copying_s=min(copying_s, sync_s) * factor,
    )


def _step_times(trials: list[Trial]) -> list[float]:
    """Seconds of a vector step of each, the least of a few interleaved blocks.

    Other programs only ever add time, and what they add is no property of the loop.
    """
    steps = [
        max(int(BLOCK_S * WARM_UP_STEPS / trial.block(WARM_UP_STEPS).total_s), 2)
        for trial in trials
    ]
    least_s = [float("inf")] * len(trials)
    for _ in range(ROUNDS):
        for place, trial in enumerate(trials):
            least_s[place] = min(least_s[place], trial.block(steps[place]).loop_s)
    return least_s


def _seconds_of(call: Callable[[], object]) -> float:
    """Seconds of a call, the median of some."""
    times_s: list[float] = []
    until_s = time.perf_counter() + COPY_LIMIT_S
    while not times_s or (len(times_s) < COPIES and time.perf_counter() < until_s):
        start_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start_s)
    return median(times_s)


def ray_costs(request: Request, machine: Machine, found: Probe) -> RayCosts:
    """Measures what Ray actors cost, in the seconds that connecting, or starting a Ray, takes.

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
    options = {"start_timeout_s": RAY_START_LIMIT_S, **options}
    options |= {"num_workers": lanes, "lane_mode": "sync"}
    with _trial("ray", _replay_of(found), lanes * per_lane, options) as trial:
        trial.block(RAY_WARM_UP_STEPS)
        return median(trial.block(1).loop_s for _ in range(RAY_STEPS))
