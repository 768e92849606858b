"""Curves of the cost model and of what was measured: numbers for plots, without any drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecselect.lanes import why_not_workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.measure.step import StepProfile
    from vecselect.selection.race import RaceRecord
    from vecselect.selection.situation import Situation

STEP_TIMES_S = (2e-6, 1e-2)
"""Step times that are always looked at; wider where the environment's own lies near an end."""

POINTS, FEWER_POINTS = 29, 11
MANY_ENVS = 64
"""From so many sub-environments on a prediction takes long enough to make fewer of them."""

MOST_ENVS = 128
ENVS_FACTOR = 4
"""Sub-environments are looked at up to the larger of 128 and four times as many as asked for."""

BINS = 36


@dataclass(frozen=True)
class Line:
    """The throughput of a mode along an axis.

    Attributes:
        mode: The mode.
        at: Where on the axis.
        env_steps_per_s: Throughput there, learner included.
    """

    mode: str
    at: tuple[float, ...]
    env_steps_per_s: tuple[float, ...]


@dataclass(frozen=True)
class Crossing:
    """Where a mode begins to beat `sync`.

    Attributes:
        mode: The mode.
        step_time_s: The step time.
        env_steps_per_s: The throughput of both there.
    """

    mode: str
    step_time_s: float
    env_steps_per_s: float


@dataclass(frozen=True)
class OverStepTime:
    """Throughput against step time.

    Attributes:
        lines: `sync`, the best pool with workers at each step time under the name of the one that
            is best here, `async`, and the mode asked for where it is none of these.
        crossings: Where pool and `async` begin to beat `sync`, as far as that is in sight.
        step_time_s: This environment's mean step time, its share of resets included.
    """

    lines: tuple[Line, ...]
    crossings: tuple[Crossing, ...]
    step_time_s: float

    def of(self, mode: str) -> Line | None:
        """The line of a mode, if there is one."""
        return next((line for line in self.lines if line.mode == mode), None)


@dataclass(frozen=True)
class Histogram:
    """How long steps and resets took, in bins of equal ratio.

    Attributes:
        edges_s: Limits of the bins, one more than there are bins.
        steps: Share of the steps in each bin.
        resets: Share of the resets in each bin; all 0.0 where there were none.
    """

    edges_s: tuple[float, ...]
    steps: tuple[float, ...]
    resets: tuple[float, ...]


def over_step_time(situation: Situation, mode: str) -> OverStepTime:
    """Throughput against step time by the cost model, all else as it is.

    Args:
        situation: As it is now.
        mode: The mode that must have a line.
    """
    now_s = situation.profile.mean_step_with_resets_s
    low_s, high_s = min(STEP_TIMES_S[0], now_s / 5), max(STEP_TIMES_S[1], now_s * 5)
    points = POINTS if situation.num_envs < MANY_ENVS else FEWER_POINTS
    steps_s = sorted({*np.geomspace(low_s, high_s, points).tolist(), now_s})
    modes = situation.modes()
    pools = [name for name in modes if name.startswith("pool:") and name != "pool:0"]
    alone = [name for name in modes if name in ("sync", "async")]
    if mode not in (*pools, *alone):
        alone.append(mode)
    loops_s: dict[str, list[float]] = {name: [] for name in (*alone, *pools)}
    for step_s in steps_s:
        found = situation.with_step_time(step_s).estimate(list(loops_s))
        for forecast in found.forecasts:
            loop_s = forecast.vector_step_s.mid + situation.learner_s
            loops_s[forecast.mode].append(loop_s)
    if pools:
        place = steps_s.index(now_s)
        best = min(pools, key=lambda name: (name != mode, loops_s[name][place]))
        columns = zip(*(loops_s[name] for name in pools), strict=True)
        loops_s = {name: loops_s[name] for name in alone} | {best: [min(one) for one in columns]}
    lines = tuple(
        Line(name, tuple(steps_s), tuple(situation.num_envs / loop_s for loop_s in loops))
        for name, loops in loops_s.items()
    )
    sync = next((line for line in lines if line.mode == "sync"), None)
    crossings = [
        _crossing(sync, line)
        for line in lines
        if sync is not None and line.mode not in ("sync", "pool:0")
    ]
    return OverStepTime(lines, tuple(one for one in crossings if one is not None), now_s)


def _crossing(sync: Line | None, line: Line) -> Crossing | None:
    """Where a line rises above that of `sync`; None where it does so nowhere, or from the start."""
    assert sync is not None
    gains = [
        math.log(ours / theirs)
        for ours, theirs in zip(line.env_steps_per_s, sync.env_steps_per_s, strict=True)
    ]
    for place in range(1, len(gains)):
        before, after = gains[place - 1], gains[place]
        if before <= 0 < after:
            share = -before / (after - before)
            return Crossing(
                line.mode,
                _between(line.at[place - 1], line.at[place], share),
                _between(sync.env_steps_per_s[place - 1], sync.env_steps_per_s[place], share),
            )
    return None


def _between(low: float, high: float, share: float) -> float:
    """The point of a line on logarithmic axes."""
    return math.exp(math.log(low) * (1 - share) + math.log(high) * share)


def over_num_envs(situation: Situation, mode: str) -> tuple[Line, ...]:
    """Throughput against the number of sub-environments by the cost model, all else as it is.

    Memory is not thought of.

    Args:
        situation: As it is now.
        mode: The mode that must have a line.

    Returns:
        A line each for `sync`, `async`, the mode asked for, pools without a worker and with one,
        and the best pool, threads and Ray actors now and at the far end. A line of lanes begins
        where each has a sub-environment.
    """
    most = max(MOST_ENVS, situation.num_envs * ENVS_FACTOR)
    counts = sorted({*(2**power for power in range(most.bit_length())), situation.num_envs, most})
    far = situation.with_num_envs(most)
    modes = dict.fromkeys(
        [name for name in situation.names if name in ("sync", "async")]
        + [mode]
        + [name for name in ("pool:0", "pool:1") if name in far.modes()]
        + [
            best
            for kind in ("pool", "thread", "ray")
            for best in (_best(situation, kind), _best(far, kind))
            if best is not None
        ]
    )
    at: dict[str, list[tuple[int, float]]] = {name: [] for name in modes}
    for count in counts:
        able = [name for name in modes if _has_work(name, count, situation.caller_steps)]
        other = situation.with_num_envs(count)
        for forecast in other.estimate(able).forecasts:
            loop_s = forecast.vector_step_s.mid + situation.learner_s
            at[forecast.mode].append((count, count / loop_s))
    return tuple(
        Line(name, tuple(float(x) for x, _ in found), tuple(y for _, y in found))
        for name, found in at.items()
        if found
    )


def _best(situation: Situation, kind: str) -> str | None:
    """The best candidate of those that differ in the number of lanes alone, if there are any."""
    modes = [name for name in situation.modes() if name.startswith(f"{kind}:")]
    if not modes:
        return None
    forecasts = situation.estimate(modes).forecasts
    return min(forecasts, key=lambda forecast: forecast.vector_step_s.mid).mode


def _has_work(mode: str, num_envs: int, caller_steps: bool) -> bool:
    """Whether each lane of a mode has a sub-environment."""
    name, _, rest = mode.partition(":")
    workers = int(rest.partition(":")[0]) if rest else None
    return why_not_workers(name, workers, num_envs, caller_steps) is None


def histogram(profile: StepProfile, bins: int = BINS) -> Histogram:
    """How long steps and resets took.

    Args:
        profile: The record of one sub-environment.
        bins: How many bins the whole range has.
    """
    steps_s, resets_s = np.array(profile.step_times_s), np.array(profile.reset_times_s)
    both = np.concatenate([steps_s, resets_s])
    both = both[both > 0] if (both > 0).any() else np.array([1e-9])
    low_s, high_s = float(both.min()) / 1.05, float(both.max()) * 1.05
    edges_s = np.geomspace(low_s, high_s, bins + 1)
    return Histogram(
        edges_s=tuple(edges_s.tolist()),
        steps=_shares(steps_s, edges_s),
        resets=_shares(resets_s, edges_s),
    )


def _shares(times_s: np.ndarray, edges_s: np.ndarray) -> tuple[float, ...]:
    counts, _ = np.histogram(np.clip(times_s, edges_s[0], edges_s[-1]), edges_s)
    shares: list[float] = (counts / max(len(times_s), 1)).tolist()
    return tuple(shares)


def race_ratios(race: RaceRecord) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """The race round by round: the time of each block over the leader's of the same round.

    Args:
        race: A race that was run.

    Returns:
        By entrant, as many as it ran; nothing where the leader's blocks are not known.
    """
    leader = race.of(race.leader)
    if leader is None:
        return ()
    return tuple((one.mode, _ratios(one.blocks_s, leader.blocks_s)) for one in race.entrants)


def _ratios(blocks_s: Sequence[float], leaders_s: Sequence[float]) -> tuple[float, ...]:
    return tuple(ours / leaders for ours, leaders in zip(blocks_s, leaders_s, strict=False))
