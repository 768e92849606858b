"""The cost model: what a vector step takes in each mode, in closed form from the evidence.

With N sub-environments of mean step time t (resets included), of which they compute for u of CPU
time (less than t where steps wait, more where they compute in threads of their own), C cores, L the
longest slice, and threads of the learner that spin for a while after it, on cores that slices need:

    sync, pool:0    N t + loop, and the spin where steps compute in several threads
    pool:K          max(L t + stragglers + spin, L (t - u) + N u / C) + hand-off + loop
    thread:K        the same, but what holds the interpreter's lock takes turns
    async           messages, and max(t + stragglers, t - u + N u / C); u longer where N > C
    native, envpool as timed: they are other code

The mean decides, not a distribution: over 504 modelled cells its regret was 0.06-0.14 %. How far
off a prediction may be is for the report.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from statistics import NormalDist, geometric_mean
from typing import TYPE_CHECKING

from vecselect.modes import KINDS, Mode, load
from vecselect.selection.candidates import candidate_modes
from vecselect.selection.evidence import Evidence, HandOff, LearnerCost, LoopCosts
from vecselect.selection.race import Interval

if TYPE_CHECKING:
    from vecselect.measure.step import StepProfile

OVERHEAD_ERROR = 0.25
"""How far off what a mode adds may be: it was measured over stubs, or assumed."""

PARALLEL_ERROR = 0.10
"""How far off the time of slices side by side may be: they share caches and memory."""

SPIN_S = 1e-3
"""A worker of the pool that waits longer than this has gone to sleep."""

CONTENTION_S = 2.5e-5
CONTENTION_SHARE = 0.22
"""What a loop takes longer where the learner's spinning threads and the slices together are more
than the cores, in seconds and as a share of the stepping while they spin: hand-offs wait for time
slices, and so do the learner's threads. Fitted beside torch with 2 threads on 2 cores to
HalfCheetah, Ant, Pendulum, CartPole and CarRacing, 4 to 32 of them: the throughput of `pool:1` over
`sync` was 0.73 to 0.91 there, and is predicted within 0.1 of that."""

CROWDED = 0.3
"""What steps take longer, as a share, where the processes of `async` that compute are more than
the cores. Fitted on 2 cores to 8 of CartPole, HalfCheetah, Ant and CarRacing, whose vector steps
took 578, 853, 1,868 and 25,500 us: predicted within 20 %."""

OVERSUBSCRIBED = 0.25
"""What stepping takes longer, as a share, where threads of the environments' own in the caller's
slice and the workers together are more than the cores: threads that wait for each other then wait
for their turn of a core as well."""

MOVED_S = 7e-4
"""What the learner takes longer that computes in several threads, where threads step in the same
process and all are more than the cores: the system puts two of them on one core, and the call waits
for a time slice. Beside torch with 2 threads on 2 cores, its calls took 735 to 4,500 us with
`thread` where they took 150 to 320 with `pool`, for 8 to 32 that sleep for 1 ms."""

SPINNING = 0.25
"""Spinning below so many cores is noise of the measurement."""

RUN_S = 60.0
"""Length of the run that start-up seconds are weighed against."""

SWITCH_GAIN = 0.10
"""A mode that real use has measured is left only for one predicted to be this much faster."""

MEASURED_SWITCH_GAIN = 0.03
"""The same where the other mode was measured by real use too."""


@dataclass(frozen=True)
class Parts:
    """One vector step taken apart: seconds that add up to the whole.

    Attributes:
        stepping_s: The sub-environments, resets among them, if the slices shared the work evenly.
        stragglers_s: What the longest slice takes beyond that.
        hand_off_s: Exchanges with workers, and waiting for cores that others hold.
        overhead_s: The Python around the sub-environments: the loop, and merging what they return.
    """

    stepping_s: float
    stragglers_s: float
    hand_off_s: float
    overhead_s: float

    @property
    def total_s(self) -> float:
        """Seconds of the vector step."""
        return self.stepping_s + self.stragglers_s + self.hand_off_s + self.overhead_s

    def times(self, factor: float) -> Parts:
        """Every part so many times as long."""
        return Parts(*(part_s * factor for part_s in dataclasses.astuple(self)))


@dataclass(frozen=True)
class Forecast:
    """What a mode is expected to take.

    Attributes:
        mode: The mode.
        threads: The learner's threads that it is expected for; None where torch is not loaded.
        parts: What one vector step is made of, the learner not included.
        learner_s: Seconds of the learner between two vector steps.
        error: How far off the vector step may be, relative.
        observed: Whether real use measured it; else it is the model's.
    """

    mode: str
    threads: int | None
    parts: Parts
    learner_s: float
    error: float = 0.0
    observed: bool = False

    @property
    def loop_s(self) -> float:
        """Seconds from one vector step to the next."""
        return self.parts.total_s + self.learner_s

    @property
    def loop(self) -> Interval:
        """The same with how far off it may be."""
        error_s = self.error * self.parts.total_s
        return Interval(self.loop_s, self.loop_s - error_s, self.loop_s + error_s)


@dataclass(frozen=True)
class Choice:
    """What the model chooses, and what it chose from.

    Attributes:
        best: The forecast of the choice.
        forecasts: Every candidate with the learner's threads as they are set, and with one thread
            where that was measured; the simpler modes first.
    """

    best: Forecast
    forecasts: tuple[Forecast, ...]

    def of(self, mode: str, threads: int | None) -> Forecast | None:
        """The forecast of a mode under a setting of threads, if it is a candidate."""
        return next((f for f in self.forecasts if (f.mode, f.threads) == (mode, threads)), None)


def choose(
    evidence: Evidence,
    *,
    any_threads: bool = False,
    modes: tuple[Mode, ...] | None = None,
    incumbent: str | None = None,
) -> Choice:
    """Predicts every candidate and takes the fastest, start-up included.

    Args:
        evidence: With a profile, a hand-off and the loops.
        any_threads: Whether the learner may be given one thread while it collects; else the
            choice is made among its threads as they are set.
        modes: The candidates; by default those that `candidate_modes` finds.
        incumbent: A mode that real use has measured; it is left only for a clearly faster one.
    """
    modes = candidate_modes(evidence) if modes is None else modes
    forecasts = _forecasts(evidence, modes)
    as_set = evidence.learners[0].threads
    able = [one for one in forecasts if any_threads or one.threads == as_set]
    best = min(able, key=lambda one: _cost_s(one, evidence))
    kept = next((one for one in able if one.mode == incumbent and one.observed), None)
    if kept is not None:
        gain = MEASURED_SWITCH_GAIN if best.observed else SWITCH_GAIN
        if _cost_s(best, evidence) * (1 + gain) > _cost_s(kept, evidence):
            best = kept
    return Choice(best, tuple(forecasts))


def _cost_s(forecast: Forecast, evidence: Evidence) -> float:
    """Seconds from one vector step to the next, with a share of the start-up."""
    mode, cores = Mode.parse(forecast.mode), evidence.machine.cores
    start_s = start_up_s(mode, evidence.num_envs, cores)
    return forecast.loop_s * (1.0 + start_s / RUN_S)


def start_up_s(mode: Mode, num_envs: int, cores: float) -> float:
    """Seconds that starting the workers of a mode takes, building environments not included."""
    kind = KINDS[mode.kind]
    if kind.each:
        return kind.start_s * max(num_envs / max(cores, 1.0), 1.0)
    workers = mode.workers or 0
    return kind.start_s + (workers - 1) * kind.further_start_s if workers else 0.0


def _forecasts(evidence: Evidence, modes: tuple[Mode, ...]) -> list[Forecast]:
    """Every candidate under every setting of the threads, held against what runs showed."""
    seen = {(one.mode, one.threads): one for one in evidence.runs if not one.busy}
    predicted = {
        (str(mode), learner.threads): predict(mode, evidence, learner)
        for learner in learners_as_seen(evidence)
        for mode in modes
    }
    ratios = {
        which: seen[which].inside_s / forecast.parts.total_s
        for which, forecast in predicted.items()
        if which in seen
    }
    # What the model got wrong about the measured ones it got wrong about the others alike.
    bounded = [min(max(ratio, 0.25), 4.0) for ratio in ratios.values()]
    scale = geometric_mean(bounded) if bounded else 1.0
    found = []
    for which, forecast in predicted.items():
        if which in seen:
            forecast = dataclasses.replace(forecast, observed=True, error=0.0)
        parts = forecast.parts.times(ratios.get(which, scale))
        found.append(dataclasses.replace(forecast, parts=parts))
    return found


def learners_as_seen(evidence: Evidence) -> list[LearnerCost]:
    """The learner under each setting of its threads, as long as runs have shown it to be.

    Under a setting that no run has had, it is longer by the same factor as in the latest run.
    """
    seen = [one for one in evidence.runs if not one.busy]
    if not seen:
        return list(evidence.learners)
    latest = seen[-1]
    outside_s = {one.threads: one.outside_s for one in seen}
    measured_s = {one.threads: one.seconds for one in evidence.learners}.get(latest.threads)
    return [
        dataclasses.replace(
            one,
            source="observed",
            seconds=outside_s.get(
                one.threads,
                one.seconds / measured_s * latest.outside_s if measured_s else latest.outside_s,
            ),
        )
        for one in evidence.learners
    ]


def predict(mode: Mode, evidence: Evidence, learner: LearnerCost | None = None) -> Forecast:
    """What a vector step takes in one mode, by the model alone.

    The evidence has a profile, a hand-off and the loops; its first learner is the default.
    """
    learner = evidence.learners[0] if learner is None else learner
    cost = KINDS[mode.kind].cost
    assert cost is not None, f"nothing tells what {mode} costs"
    parts: Parts = load(cost)(mode, evidence, learner)
    profile = _profile(evidence)
    # Of the mean step time: twice its standard error.
    error = min(2.0 * profile.step_spread_s / profile.step_time_s / math.sqrt(profile.steps), 0.5)
    if not mode.in_caller_alone:
        error += PARALLEL_ERROR
    stepping = (parts.stepping_s + parts.stragglers_s) / parts.total_s
    return Forecast(
        mode=str(mode),
        threads=learner.threads,
        parts=parts,
        learner_s=learner.seconds,
        error=stepping * error + (1.0 - stepping) * OVERHEAD_ERROR,
    )


def _profile(evidence: Evidence) -> StepProfile:
    assert evidence.profile is not None
    return evidence.profile


def _costs(evidence: Evidence) -> tuple[HandOff, LoopCosts]:
    assert evidence.hand_off is not None and evidence.loops is not None
    return evidence.hand_off, evidence.loops


def sync_parts(mode: Mode, evidence: Evidence, learner: LearnerCost) -> Parts:
    """The cost function of `sync`."""
    return _in_caller(evidence, learner, _costs(evidence)[1].sync_s)


def pool_parts(mode: Mode, evidence: Evidence, learner: LearnerCost) -> Parts:
    """The cost function of `pool`."""
    hand_off, loops = _costs(evidence)
    if mode.in_caller_alone:
        return _in_caller(evidence, learner, loops.pool_s)
    lanes, workers, cores = _lanes(mode, evidence), mode.workers or 0, evidence.cores
    shared_s = evidence.num_envs * cpu_step_s(evidence) / cores
    stepping = _side_by_side(lanes, evidence, learner, shared_s)
    exchange_s = hand_off.spun_s + (workers - 1) * hand_off.worker_s
    waits_s = learner.seconds + loops.pool_s
    if waits_s > SPIN_S or lanes >= cores + 1:  # the workers sleep: each is woken
        exchange_s += hand_off.woken_s - hand_off.spun_s
        exchange_s += (workers - 1) * max(hand_off.thread_s - hand_off.worker_s, 0.0)
    exchange_s += _contention_s(lanes, evidence, learner, sum(stepping))
    return _with_loop(stepping, exchange_s, loops, min(float(lanes), cores))


def thread_parts(mode: Mode, evidence: Evidence, learner: LearnerCost) -> Parts:
    """The cost function of `thread`: what holds the interpreter's lock takes turns."""
    hand_off, loops = _costs(evidence)
    if mode.in_caller_alone:
        return _in_caller(evidence, learner, loops.pool_s)
    lanes, cores = _lanes(mode, evidence), evidence.cores if _profile(evidence).gil_free else 1.0
    shared_s = evidence.num_envs * cpu_step_s(evidence) / cores
    stepping = _side_by_side(lanes, evidence, learner, shared_s)
    exchange_s = (mode.workers or 0) * hand_off.thread_s
    exchange_s += _contention_s(lanes, evidence, learner, sum(stepping))
    threads = learner.threads or 1
    if learner.seconds and threads > 1 and lanes + threads - 1 > evidence.cores:
        exchange_s += MOVED_S
    return _with_loop(stepping, exchange_s, loops, 1.0)


def async_parts(mode: Mode, evidence: Evidence, learner: LearnerCost) -> Parts:
    """The cost function of `async`: a process and a message for each sub-environment."""
    (hand_off, _), cores, count = _costs(evidence), evidence.cores, evidence.num_envs
    crowded = count > cores
    shared_s = count * cpu_step_s(evidence) / cores * (1.0 + CROWDED * crowded)
    stepping = _side_by_side(count, evidence, learner, shared_s)
    messages_s = count * hand_off.message_s
    if not crowded:
        # Stepping hides the messages of the other sub-environments wholly, partly or not at all.
        messages_s = (messages_s + max(messages_s - sum(stepping), 0.0)) / 2
    exchange_s = hand_off.woken_s + messages_s
    if not crowded:
        exchange_s += _contention_s(count, evidence, learner, sum(stepping))
    elif _contended(count, evidence, learner):
        # All take turns with the spinning threads, for as long as those spin.
        spun_s = min(sum(stepping) + exchange_s, learner.spin_s)
        exchange_s += min(learner.spinning_cores / cores, 1.0) * spun_s
    return Parts(*stepping, exchange_s, 0.0)


def ray_parts(mode: Mode, evidence: Evidence, learner: LearnerCost) -> Parts:
    """The cost function of `ray`, whose actors have cores of their own."""
    ray, (_, loops), count = evidence.ray, _costs(evidence), evidence.num_envs
    assert ray is not None
    lanes = _lanes(mode, evidence)
    shared_s = count * cpu_step_s(evidence) / max(min(ray.cores, lanes), 1.0)
    stepping = _side_by_side(lanes, evidence, LearnerCost(), shared_s)
    exchange_s = ray.fixed_s + (mode.workers or 0) * ray.lane_s + count * ray.env_s
    return _with_loop(stepping, exchange_s, loops, min(float(lanes), evidence.cores))


def implementation_parts(mode: Mode, evidence: Evidence, learner: LearnerCost) -> Parts:
    """The cost function of other implementations, which were timed as they are."""
    cost = next(one for one in evidence.implementations if one.mode == str(mode))
    lanes = round(cost.cores_used)
    contention_s = 0.0
    if lanes > 1:
        contention_s = _contention_s(lanes, evidence, learner, cost.vector_step_s)
    return Parts(cost.vector_step_s, 0.0, contention_s, 0.0)


def _lanes(mode: Mode, evidence: Evidence) -> int:
    return mode.lanes(evidence.num_envs, evidence.caller_steps)


def _in_caller(evidence: Evidence, learner: LearnerCost, overhead_s: float) -> Parts:
    """All sub-environments one after another in the calling thread, in a loop of that length."""
    profile = _profile(evidence)
    stepping_s = evidence.num_envs * profile.mean_step_with_resets_s
    stragglers_s = 0.0
    if profile.threaded and _contended(profile.cores_used, evidence, learner):
        # Threads of one step wait for the one that shares its core with a spinning thread.
        stragglers_s = min(learner.spin_s, stepping_s)
    return Parts(stepping_s, stragglers_s, 0.0, overhead_s)


def _side_by_side(
    lanes: int, evidence: Evidence, learner: LearnerCost, shared_s: float
) -> tuple[float, float]:
    """Seconds of stepping in so many slices, and what the longest takes beyond an even share.

    The cores need `shared_s` for the computing of all of them.
    """
    profile, count = _profile(evidence), evidence.num_envs
    mean_s = profile.mean_step_with_resets_s
    longest = -(-count // lanes)
    spread_s = profile.step_spread_s * math.sqrt(longest)
    longest_s = longest * mean_s + min(
        spread_s * NormalDist().inv_cdf((lanes - 0.375) / (lanes + 0.25)),
        longest * max(profile.slowest_step_s - mean_s, 0.0),
    )
    if profile.threaded and lanes > 1:
        longest_s *= profile.cores_used  # a worker has one thread
        if lanes - 1 + profile.cores_used > evidence.cores:
            longest_s *= 1.0 + OVERSUBSCRIBED
            shared_s *= 1.0 + OVERSUBSCRIBED
    if _contended(lanes, evidence, learner):
        # A spinning thread stops after so much CPU time of its own.
        longest_s += min(learner.spin_s, longest_s)
    # All slices begin together: where they wait, they compute after that, and so at the same time.
    waiting_s = longest * mean_s * (0.0 if profile.threaded else profile.off_cpu_fraction)
    together_s = waiting_s + shared_s
    stepping_s = max(longest_s, together_s)
    even_s = min(max(count * mean_s / lanes, together_s), stepping_s)
    return even_s, stepping_s - even_s


def _with_loop(
    stepping: tuple[float, float], exchange_s: float, loops: LoopCosts, side_by_side: float
) -> Parts:
    """The parts of a mode with the pool's own loop.

    As many slices as `side_by_side` do at once what the loop does for each sub-environment.
    """
    each_s = loops.pool_s - loops.pool_fixed_s
    overhead_s = loops.pool_fixed_s + each_s / max(side_by_side, 1.0)
    return Parts(*stepping, exchange_s, overhead_s)


def cpu_step_s(evidence: Evidence) -> float:
    """CPU seconds of one sub-environment for a vector step."""
    profile = _profile(evidence)
    # Less than a core where steps wait, more where they compute in threads.
    cores = profile.cores_used if profile.threaded else 1.0 - profile.off_cpu_fraction
    return profile.mean_step_with_resets_s * cores


def _contended(lanes: float, evidence: Evidence, learner: LearnerCost) -> bool:
    """Whether the learner's spinning threads and the slices together are more than the cores."""
    spinning = learner.spinning_cores
    return spinning > SPINNING and lanes + spinning > evidence.cores + SPINNING


def _contention_s(lanes: int, evidence: Evidence, learner: LearnerCost, stepping_s: float) -> float:
    """What a loop takes longer where spinning threads and slices are more than the cores."""
    if not _contended(lanes, evidence, learner):
        return 0.0
    return CONTENTION_S + CONTENTION_SHARE * min(stepping_s, learner.spin_s)


def break_even_s(kind: str, evidence: Evidence, modes: tuple[Mode, ...]) -> float | None:
    """The mean step time from which on the best mode of a kind beats `sync`; None if none does.

    Found by bisection between 0.1 us and 10 s; step times keep their relative spread.
    """
    candidates = [mode for mode in modes if mode.kind == kind and not mode.in_caller_alone]

    def pays(step_s: float) -> bool:
        at = with_step_time(evidence, step_s)
        sync_s = predict(Mode("sync"), at).parts.total_s
        return any(predict(mode, at).parts.total_s < sync_s for mode in candidates)

    low, high = math.log(1e-7), math.log(10.0)
    if not candidates or not pays(10.0):
        return None
    if pays(1e-7):
        return 0.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if pays(math.exp(middle)) else (middle, high)
    return math.exp(high)


def with_step_time(evidence: Evidence, step_s: float) -> Evidence:
    """The same evidence with another mean step time, its share of resets included."""
    profile = _profile(evidence)
    scaled = profile.scaled(step_s / profile.mean_step_with_resets_s)
    return dataclasses.replace(evidence, profile=scaled, runs=())
