"""What the model says if steps were longer, or sub-environments more: curves for the plots."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecselect.selection.candidates import candidate_modes
from vecselect.selection.model import mean_step_s, predict, with_step_time

if TYPE_CHECKING:
    from vecselect.selection.evidence import Evidence

POINTS = 29
STEP_TIMES_S = (2e-6, 1e-2)
"""Step times that a curve always covers; wider where the environment's own lies near an end."""

MORE_ENVS = 4
NUM_ENVS = 128
"""A curve over the number of sub-environments reaches this, or four times as many as there are."""


@dataclass(frozen=True)
class Curve:
    """The predicted throughput of one mode along an axis.

    Attributes:
        mode: The mode; `pool` for the best number of workers at each point.
        at: Where on the axis: seconds, or a number of sub-environments.
        env_steps_per_s: Throughput there, learner included.
    """

    mode: str
    at: tuple[float, ...]
    env_steps_per_s: tuple[float, ...]


def _predictable(evidence: Evidence) -> Evidence:
    """The evidence without what was measured of whole vector steps as they are."""
    return dataclasses.replace(evidence, runs=(), implementations=())


def with_num_envs(evidence: Evidence, num_envs: int) -> Evidence:
    """The same evidence with another number of sub-environments."""
    loops = evidence.loops
    assert loops is not None
    factor = num_envs / evidence.num_envs
    fixed_s = min(loops.pool_fixed_s, loops.pool_s)
    loops = dataclasses.replace(
        loops,
        sync_s=loops.sync_s * factor,
        pool_s=fixed_s + (loops.pool_s - fixed_s) * factor,
        pool_fixed_s=fixed_s,
    )
    return dataclasses.replace(evidence, num_envs=num_envs, loops=loops, runs=())


def over_step_time(evidence: Evidence) -> tuple[Curve, ...]:
    """Predicted throughput against the step time, all else as it is, a curve for each kind."""
    plain = _predictable(evidence)
    now_s = mean_step_s(plain)
    low_s, high_s = STEP_TIMES_S
    steps_s = np.geomspace(min(low_s, now_s / 5), max(high_s, now_s * 5), POINTS).tolist()
    return _curves([(step_s, with_step_time(plain, step_s)) for step_s in steps_s])


def over_num_envs(evidence: Evidence) -> tuple[Curve, ...]:
    """Predicted throughput against the number of sub-environments, a curve for each kind."""
    plain = _predictable(evidence)
    most = max(NUM_ENVS, evidence.num_envs * MORE_ENVS)
    counts = sorted({*(2**n for n in range(int(math.log2(most)) + 1)), evidence.num_envs, most})
    return _curves([(count, with_num_envs(plain, count)) for count in counts])


def _curves(points: list[tuple[float, Evidence]]) -> tuple[Curve, ...]:
    """The best mode of each kind at each point; `pool:0` counts as a kind of its own."""
    found: dict[str, list[tuple[float, float]]] = {}
    for at, evidence in points:
        best: dict[str, float] = {}
        for mode in candidate_modes(evidence):
            name = str(mode) if mode.in_caller_alone else mode.kind
            loop_s = predict(mode, evidence).loop_s
            best[name] = min(best.get(name, math.inf), loop_s)
        for name, loop_s in best.items():
            found.setdefault(name, []).append((at, evidence.num_envs / loop_s))
    return tuple(
        Curve(name, tuple(x for x, _ in line), tuple(y for _, y in line))
        for name, line in found.items()
    )
