"""Other implementations of the environment, where they are allowed: their time and behaviour.

`native` and `envpool` run other code, so nothing that was measured of a sub-environment predicts
them. They are built here with all their sub-environments and timed, and what random actions lead to
is held against the user's own environment: not bits, but rewards and the length of episodes.
"""

from __future__ import annotations

import dataclasses
import time
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.vector import AutoresetMode

from vecselect.backends.base import backend_of
from vecselect.errors import VecselectError
from vecselect.measure.probe import bypassed_recorders
from vecselect.measure.trial import Trial
from vecselect.modes import Mode
from vecselect.process.generators import untouched_generators
from vecselect.selection.evidence import Behaviour, ImplementationCost
from vecselect.values import Signed

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe
    from vecselect.request import Request

BLOCK_S = 2e-3
BLOCKS, FEWEST_BLOCKS = 25, 5
TIMING_LIMIT_S = 0.1
"""Blocks of an implementation that are timed, fewer after the limit, and seconds that each takes, a
vector step at least."""

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
            while len(times_s) < BLOCKS:
                times_s.append(trial.block(count).loop_s)
                wall_s = time.perf_counter() - start_s
                if wall_s > TIMING_LIMIT_S and len(times_s) >= FEWEST_BLOCKS:
                    break
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
        return_mean=Signed(fmean(returns)),
        return_sd=pstdev(returns),
        ends_mean=fmean(ends),
        ends_sd=pstdev(ends),
    )
