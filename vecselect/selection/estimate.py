"""The cost model: what a vector step takes in each mode, from one sub-environment's record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecselect.lanes import count_lanes, slices
from vecselect.selection.candidates import simplicity
from vecselect.selection.compare import Interval
from vecselect.selection.costs import LoopShare
from vecselect.selection.race import TIE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vecselect.measure.step import StepProfile
    from vecselect.selection.costs import Calibration, LoopCosts, RayCosts

RECORDS = 24
"""Times the whole record is drawn anew: their spread is what the record leaves open."""

VECTOR_STEPS = 64
MAX_DRAWS = 1 << 20
RUN = 16
"""Step times are drawn in runs of this many, since a slow step is seldom alone."""

OVERHEAD_ERROR = 0.25
"""How far off a mode's own cost may be; it was measured over stubs."""

LANES_ERROR = 0.10
"""How far off the time of lanes side by side may be: they share caches and memory."""

SPIN_S = 1e-3
"""A worker of the pool that waits longer than this has gone to sleep."""


@dataclass(frozen=True)
class Parts:
    """One vector step taken apart: seconds that add up to the whole.

    Attributes:
        stepping_s: The sub-environments, resets among them, if the lanes shared the work evenly.
        stragglers_s: What the longest lane takes beyond that.
        hand_off_s: Handing actions to workers, and knowing that they are done.
        infos_s: Gathering infos in the calling process.
        copying_s: Copying the batch of observations for the caller.
        loop_s: What else the loop around the sub-environments takes.
    """

    stepping_s: float
    stragglers_s: float
    hand_off_s: float
    infos_s: float
    copying_s: float
    loop_s: float


@dataclass(frozen=True)
class Forecast:
    """What a candidate is predicted to take.

    Attributes:
        mode: The candidate.
        vector_step_s: Seconds of one vector step, the learner not included; the interval holds the
            error of the model and of the record.
        parts: What these seconds are made of; None where an older version did not say.
    """

    mode: str
    vector_step_s: Interval
    parts: Parts | None = None


@dataclass(frozen=True)
class Estimate:
    """What the cost model says.

    Attributes:
        mode: The simplest candidate within 5 % of the best, the learner's time included.
        forecasts: Every candidate, the simpler ones first.
        close: Candidates that may be as good as the chosen one or better, itself among them, the
            simpler ones first. The estimate is clear where there is no other.
        break_even_s: By mode, the step time from which on it beats `sync` here; None where it never
            does. For `pool` and `async`, as far as they and `sync` can run.
        learner_s: Seconds between two vector steps that it was made for.
    """

    mode: str
    forecasts: tuple[Forecast, ...]
    close: tuple[str, ...]
    break_even_s: dict[str, float | None]
    learner_s: float

    @property
    def caller_steps(self) -> bool:
        """Whether the calling process may step: then stepping everything is a candidate."""
        return any(forecast.mode in ("sync", "pool:0") for forecast in self.forecasts)

    @property
    def clear(self) -> bool:
        """Whether no other candidate comes into question."""
        return len(self.close) == 1

    def forecast(self, mode: str) -> Forecast | None:
        """The forecast of a candidate, if there is one."""
        return next((forecast for forecast in self.forecasts if forecast.mode == mode), None)

    def of(self, mode: str) -> Interval | None:
        """The seconds of a candidate's vector step, if it is one."""
        found = self.forecast(mode)
        return None if found is None else found.vector_step_s


@dataclass(frozen=True)
class _Terms:
    """A candidate's vector step: stepping, once per redrawn record, and what the mode adds.

    In lanes stepping takes the cores' time at least, `least_s`; elsewhere there is no such bound.
    Shared evenly among the lanes it would take `even_s`. Stepping covers a part of the hand-off's
    `messages_s`.
    """

    stepping_s: np.ndarray
    even_s: float
    hand_off_s: float
    loop: LoopShare
    least_s: np.ndarray | None = None
    messages_s: float = 0.0

    @property
    def overhead_s(self) -> float:
        """What the mode adds."""
        return self.hand_off_s + self.loop.total_s

    @property
    def parallel(self) -> bool:
        """Whether it runs in lanes."""
        return self.least_s is not None

    def bound(self, sign: int) -> np.ndarray:
        """The vector step with all errors of the model on one side."""
        stepping_s = self.stepping_s
        if self.least_s is not None:
            stepping_s = np.maximum(stepping_s * (1 + sign * LANES_ERROR), self.least_s)
        result: np.ndarray = stepping_s + self.overhead_s * (1 + sign * OVERHEAD_ERROR)
        return result

    def parts(self) -> Parts:
        """The middle of it, taken apart."""
        stepping_s = float(np.mean(self.bound(0))) - self.overhead_s
        even_s = min(self.even_s, stepping_s)
        loop = self.loop
        return Parts(
            stepping_s=even_s,
            stragglers_s=stepping_s - even_s,
            hand_off_s=self.hand_off_s,
            infos_s=loop.infos_s,
            copying_s=loop.copying_s,
            loop_s=loop.total_s - loop.infos_s - loop.copying_s,
        )


def estimate(
    modes: Sequence[str],
    profile: StepProfile,
    calibration: Calibration,
    loops: LoopCosts,
    num_envs: int,
    learner_s: float = 0.0,
    cores: float = math.inf,
    ray: RayCosts | None = None,
    caller_steps: bool = True,
) -> Estimate:
    """Predicts every candidate.

    With s the times of a vector step's sub-environments, resets among them, C the effective cores
    and lanes of sub-environments that differ by one at the most:
    `sync` and `pool:0`: `sum(s)` and the loop; `pool:K`: the hand-offs and
    `max(longest lane, computing / C)`; `async`: between the messages overlapping that wholly and
    not at all; `thread:K`: as the pool, but what computes with the interpreter's lock held takes
    turns, as do the hand-offs. The expectation is taken by drawing from the record, not from a
    distribution, so that tails and resets count as they came.

    Args:
        modes: The candidates.
        profile: The record of one sub-environment.
        calibration: What a hand-off and a message cost here.
        loops: What the loops cost with this environment's spaces.
        num_envs: The number of sub-environments.
        learner_s: Seconds of the learner between two vector steps.
        cores: The cores there are; which of several equals is the simplest depends on them.
        ray: What actors cost; needed where candidates run in some.
        caller_steps: Whether the calling process steps a slice of its own.
    """
    draws_s = _draws(profile, num_envs)
    computing = 1.0 - profile.wait_share
    # Sub-environments side by side wait at the same time, but share the cores to compute.
    shared_s = draws_s.sum(axis=2) * computing / calibration.effective_cores
    # Threads of one process compute one at a time, but for what does without its lock.
    free = profile.free_share or 0.0
    turns_s = draws_s.sum(axis=2) * computing * (1.0 - free) + shared_s * free
    asleep = learner_s > SPIN_S
    modes = sorted(modes, key=lambda mode: simplicity(mode, cores))
    terms = {
        mode: _ray_terms(mode, draws_s, computing, ray, loops)
        if mode.startswith("ray:") and ray is not None
        else _terms(
            mode,
            draws_s,
            turns_s if mode.startswith("thread:") else shared_s,
            calibration,
            loops,
            asleep,
            caller_steps,
        )
        for mode in modes
    }
    mids = {mode: float(np.mean(terms[mode].bound(0))) + learner_s for mode in modes}
    best_s = min(mids.values())
    chosen = next(mode for mode in modes if mids[mode] <= best_s * (1 + TIE))

    def is_open(mode: str) -> bool:
        simpler = modes.index(mode) < modes.index(chosen)
        return _is_open(terms[mode], terms[chosen], simpler, learner_s)

    paying = {mode.partition(":")[0] for mode in modes if mode != "pool:0"}
    return Estimate(
        mode=chosen,
        forecasts=tuple(
            Forecast(mode, _interval(terms[mode]), terms[mode].parts()) for mode in modes
        ),
        close=tuple(m for m in modes if m == chosen or is_open(m)),
        break_even_s={
            mode: _break_even_s(mode, modes, terms, num_envs)
            for mode in ("pool", "async", "ray")
            if "sync" in modes and mode in paying
        },
        learner_s=learner_s,
    )


def _draws(profile: StepProfile, num_envs: int) -> np.ndarray:
    """Times of sub-environments: shape (records, vector steps, sub-environments)."""
    generator = np.random.default_rng(0)
    vector_steps = max(min(VECTOR_STEPS, MAX_DRAWS // (RECORDS * num_envs)), 4)
    steps_s = np.array(profile.step_times_s)
    resets_s = np.array(profile.reset_times_s)
    shape = (RECORDS, vector_steps, num_envs)
    # Each record is redrawn in runs from what was recorded.
    starts = generator.integers(len(steps_s), size=(RECORDS, -(-len(steps_s) // RUN)))
    runs = (starts[:, :, None] + np.arange(RUN)) % len(steps_s)
    records = steps_s[runs.reshape(RECORDS, -1)]
    times_s: np.ndarray = np.take_along_axis(
        records, generator.integers(records.shape[1], size=(RECORDS, shape[1] * shape[2])), axis=1
    ).reshape(shape)
    if profile.episode_steps is not None and len(resets_s):
        share = 1.0 / (profile.episode_steps + 1.0)
        together = (profile.episode_steps_sd or 0.0) < 0.01 * profile.episode_steps
        chances = generator.random((*shape[:2], 1) if together else shape)
        resetting = np.broadcast_to(chances < share, shape)
        mean_s = times_s.mean()
        times_s = np.where(resetting, generator.choice(resets_s, size=shape), times_s)
        if together:  # such steps are rare: what the draw missed of them is put right
            wanted_s = (1 - share) * mean_s + share * resets_s.mean()
            times_s *= wanted_s / times_s.mean()
    return times_s


def _terms(
    mode: str,
    draws_s: np.ndarray,
    shared_s: np.ndarray,
    calibration: Calibration,
    loops: LoopCosts,
    asleep: bool,
    caller_steps: bool,
) -> _Terms:
    num_envs = draws_s.shape[2]
    alone_s = draws_s.sum(axis=2).mean(axis=1)
    whole_s, least_s = float(np.mean(alone_s)), shared_s.mean(axis=1)
    if mode == "sync":
        return _Terms(alone_s, whole_s, 0.0, loops.sync)
    if mode == "async":
        together_s = np.maximum(draws_s.max(axis=2), shared_s).mean(axis=1)
        messages_s = num_envs * calibration.async_message_s
        hand_off_s = calibration.async_fixed_s + _uncovered_s(messages_s, together_s)
        even_s = max(whole_s / num_envs, float(np.mean(least_s)))
        return _Terms(together_s, even_s, hand_off_s, LoopShare(), least_s, messages_s)
    _, workers, sleeps = simplicity(mode)
    threads = mode.startswith("thread:")
    if workers == 0:
        return _Terms(alone_s, whole_s, 0.0, loops.pool())
    lanes = min(count_lanes(workers, caller_steps), num_envs)
    longest_s = _longest_s(draws_s, lanes)
    hand_off_s = calibration.hand_off_s + (workers - 1) * calibration.worker_s
    # More lanes than cores do not spin: see the pool's own default.
    if sleeps or asleep or workers >= calibration.effective_cores + 1:
        hand_off_s += calibration.wake_s
    # Beyond the cores, waking a process takes no less than waking a thread.
    beyond = max(workers - calibration.effective_cores, 0.0)
    hand_off_s += beyond * max(calibration.thread_s - calibration.worker_s, 0.0)
    if threads:
        hand_off_s = workers * calibration.thread_s
    return _Terms(
        stepping_s=np.maximum(longest_s, shared_s).mean(axis=1),
        even_s=max(whole_s / lanes, float(np.mean(least_s))),
        hand_off_s=hand_off_s,
        loop=loops.pool(1 if threads else min(lanes, calibration.effective_cores)),
        least_s=least_s,
    )


def _longest_s(draws_s: np.ndarray, lanes: int) -> np.ndarray:
    """What the longest lane takes, for each record and vector step."""
    rows = slices(draws_s.shape[2], lanes, caller_steps=False)[1:]
    parts = [draws_s[:, :, lane.start : lane.stop].sum(axis=2) for lane in rows]
    longest_s: np.ndarray = np.max(parts, axis=0)
    return longest_s


def _ray_terms(
    mode: str, draws_s: np.ndarray, computing: float, ray: RayCosts, loops: LoopCosts
) -> _Terms:
    """Lanes that are actors: the caller steps none, and they have the cluster's cores."""
    lanes = max(simplicity(mode)[1], 1)
    longest_s = _longest_s(draws_s, lanes)
    shared_s = draws_s.sum(axis=2) * computing / max(min(ray.cores, lanes), 1.0)
    least_s = shared_s.mean(axis=1)
    whole_s = float(np.mean(draws_s.sum(axis=2)))
    return _Terms(
        stepping_s=np.maximum(longest_s, shared_s).mean(axis=1),
        even_s=max(whole_s / lanes, float(np.mean(least_s))),
        hand_off_s=ray.fixed_s + lanes * ray.lane_s + draws_s.shape[2] * ray.env_s,
        loop=loops.pool(lanes),
        least_s=least_s,
    )


def _interval(terms: _Terms) -> Interval:
    mid = float(np.mean(terms.bound(0)))
    low, high = np.quantile(terms.bound(-1), 0.05), np.quantile(terms.bound(1), 0.95)
    return Interval(mid, min(float(low), mid), max(float(high), mid))


def _is_open(other: _Terms, ours: _Terms, simpler: bool, learner_s: float) -> bool:
    """Whether a candidate may have to be chosen instead, within the errors of the model.

    Both are taken from the same redrawn records, so what is uncertain about the environment alone
    does not count. The error of lanes counts once where both run in lanes.
    """
    if simpler:
        # It is chosen if it is no more than 5 % slower.
        ratios = (other.bound(-1) + learner_s) / (_hedged(ours, other) + learner_s)
        return float(np.quantile(ratios, 0.05)) <= 1 + TIE
    # It is chosen only if it is more than 5 % faster.
    ratios = (_hedged(ours, other) + learner_s) / (other.bound(-1) + learner_s)
    return float(np.quantile(ratios, 0.95)) > 1 + TIE


def _hedged(ours: _Terms, other: _Terms) -> np.ndarray:
    """The vector step of the chosen one at its worst, except for what is as bad in the other."""
    if ours.parallel and other.parallel:
        # Lanes that slow each other down do so in both; the other was taken at its best.
        return ours.bound(-1) + ours.overhead_s * 2 * OVERHEAD_ERROR
    return ours.bound(1)


def _break_even_s(
    mode: str, modes: Sequence[str], terms: Mapping[str, _Terms], num_envs: int
) -> float | None:
    """The mean step time at which the best of a mode takes as long as `sync`.

    Both grow in proportion to the step time, in the shape that the record has.
    """
    loop = terms["sync"]
    candidates = [m for m in modes if m.partition(":")[0] == mode and m != "pool:0"]
    found = []
    loop_s = float(np.mean(loop.stepping_s))
    for name in candidates:
        ours = terms[name]
        ours_s = float(np.mean(ours.stepping_s))
        if ours_s < loop_s:
            extra_s = ours.overhead_s - loop.overhead_s
            extra_s -= _uncovered_s(ours.messages_s, ours.stepping_s)
            # So many times the present step time; longer steps cover half of the messages.
            times = (extra_s + ours.messages_s / 2) / (loop_s - ours_s)
            if times * ours_s < ours.messages_s:
                times = (extra_s + ours.messages_s) / (loop_s - ours_s / 2)
            found.append(max(times, 0.0) * loop_s / num_envs)
    return min(found, default=None)


def _uncovered_s(messages_s: float, together_s: np.ndarray) -> float:
    """What messages add to stepping: between covering it wholly and not at all."""
    return float(np.mean(messages_s + np.maximum(messages_s - together_s, 0.0))) / 2
