"""What the loops around the environments cost: vector environments over a replayed recording."""

from __future__ import annotations

import copy
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from gymnasium.vector.utils import create_empty_array

from vecselect.backends.base import LOOP_OPTIONS, options_for
from vecselect.backends.registry import BACKENDS
from vecselect.measure.stub import ReplayEnv, replay_cost_s
from vecselect.measure.trial import Trial
from vecselect.modes import Mode
from vecselect.request import Request
from vecselect.selection.evidence import LoopCosts

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecselect.measure.probe import Probe

ROUNDS = 3
BLOCK_S = 1e-3
WARM_UP_STEPS = 3
MOST_ENVS = 32
"""With more sub-environments than this the loops are measured with this many, and scaled."""

COPIES = 20
COPY_LIMIT_S = 2e-3

POOL_LOOP = Mode("thread", 0)
"""The loop of `pool:0` in memory that need not be shared: it runs everywhere."""


def measure_loops(request: Request, found: Probe) -> LoopCosts:
    """Measures the loops of `sync` and `pool:0` with this environment's spaces and infos.

    Takes about 15 ms, interleaved; the choice hardly depends on it (wrong by 2x costs 0.1 %).

    Args:
        request: What was asked for.
        found: The recording of a sub-environment.
    """

    def replay() -> ReplayEnv:
        return ReplayEnv(found.observation_space, found.action_space, found.transitions)

    options = options_for(request, LOOP_OPTIONS)
    count = min(request.num_envs, MOST_ENVS)
    several = Request("replay", (replay,) * count, vector_kwargs=options)
    one = Request("replay", (replay,), vector_kwargs=options)
    with ExitStack() as stack:
        trials = [
            stack.enter_context(_trial(mode, stubs))
            for mode, stubs in ((Mode("sync"), several), (POOL_LOOP, several), (POOL_LOOP, one))
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


def _trial(mode: Mode, request: Request) -> Trial:
    trial = Trial(BACKENDS[mode.kind].build(request, mode))
    trial.reset()
    return trial


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
