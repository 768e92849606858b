"""A sweep: what of it fits into the time and the memory, and what its points say in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from vecselect.machine import why_no_room
from vecselect.modes import Mode, fewest_workers
from vecselect.selection.candidates import WAITING, needed_bytes
from vecselect.selection.compare import Interval, median_interval
from vecselect.selection.model import start_up_s
from vecselect.selection.race import TIE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vecselect.machine import Machine
    from vecselect.measure.probe import Probe
    from vecselect.measure.step import StepProfile

    Id = tuple[str, int]

WORTH_DOUBLING = 0.10
"""Doubling the sub-environments is worth it where it gives this much more throughput."""

WORTH_SAYING = 1.1
"""Another implementation that gives this many times as much is pointed out."""

MOST_RUNS = 3
"""Of numbers in sequence with one mode to take: what changes more often is not worth saying."""

START_S = 0.4
"""Seconds that starting and ending a process takes in which modes are timed."""

VECTOR_STEPS = 4
"""Vector steps that a mode makes at least: compared, to warm up, and in one round."""

COST_SHARE = 0.5
"""Share of the time left that the least work of all points may take; more rounds take the rest."""

SAME_AS = "with {} it is the same as {}"
NOT_REACHED = "the sweep was interrupted before its turn"


@dataclass(frozen=True)
class Point:
    """One mode with one number of sub-environments: what was measured, or why nothing was.

    Attributes:
        mode: The mode, as a user would pin it.
        num_envs: The number of sub-environments.
        env_steps_per_s: Throughput of the loop, learner included, with a 95 % interval; None where
            it was not measured.
        vector_step_s: Median seconds of a vector step, learner not included.
        learner_s: Median seconds of the learner between two steps.
        memory_bytes: Memory of all processes of a program that runs it: of this one with the
            environment's modules loaded, and of the workers.
        build_s: Seconds that building and the first reset took.
        vector_steps: Vector steps of each block.
        blocks_s: Seconds from one vector step to the next, learner included, in each block; the
            n-th blocks of all modes of one number ran in one round.
        skipped: Why it was not measured, as words that follow its name; None if it was.
        other_implementation: Whether it does not run the user's own environments.
    """

    mode: str
    num_envs: int
    env_steps_per_s: Interval | None = None
    vector_step_s: float | None = None
    learner_s: float | None = None
    memory_bytes: int | None = None
    build_s: float | None = None
    vector_steps: int | None = None
    blocks_s: tuple[float, ...] = ()
    skipped: str | None = None
    other_implementation: bool = False


def proposed(
    num_envs: int, machine: Machine, profile: StepProfile | None, caller_steps: bool = True
) -> tuple[str, ...]:
    """The modes to sweep over where none are named, the simpler ones first.

    Of the pools: no worker, half of the cores and all of them. Where steps wait, also the most
    lanes there can be, and four to a core.

    Args:
        num_envs: The largest number of sub-environments.
        machine: The cores there are.
        profile: How a step spends its time, if that is known.
        caller_steps: Whether the calling process may step a slice of its own.
    """
    cores, own = int(machine.cores), int(caller_steps)
    fewest, most = fewest_workers(caller_steps), num_envs - own
    waits = profile is not None and profile.off_cpu_fraction >= WAITING
    wanted = {0, cores // 2 - own, cores - own}
    if waits:
        wanted |= {most, 4 * max(cores, 1) - own}
    pools = sorted(count for count in wanted if fewest <= count <= most)
    threads = (f"thread:{most}",) if waits and most > 0 else ()
    return ("sync", *(f"pool:{count}" for count in pools), "async", *threads, "native")


@dataclass(frozen=True)
class Costs:
    """What points of a sweep take: by what was measured with fewer sub-environments, and of one.

    Attributes:
        points: What was found so far, by mode and number.
        machine: The cores there are.
        probe: What profiling one sub-environment found; None where that could not be.
        caller_steps: Whether the calling process steps a slice of its own.
    """

    points: Mapping[Id, Point]
    machine: Machine
    probe: Probe | None
    caller_steps: bool = True

    def seconds(self, point: Id) -> float:
        """Seconds that a point takes at least: building, a reset and a few vector steps."""
        build_s = self._extrapolated(point, lambda one: one.build_s, self._build_s)
        step_s = self._extrapolated(
            point, lambda one: min(one.blocks_s, default=None), self._step_s
        )
        return build_s + VECTOR_STEPS * step_s

    def bytes(self, point: Id) -> float:
        """Memory that a point takes, as far as can be told."""

        def guess(probe: Probe, mode: Mode, num_envs: int) -> float:
            return needed_bytes(mode, num_envs, probe.profile)

        return self._extrapolated(point, lambda one: one.memory_bytes, guess)

    def _extrapolated(
        self,
        point: Id,
        value: Callable[[Point], float | None],
        guess: Callable[[Probe, Mode, int], float],
    ) -> float:
        """A value of a point that is not measured yet.

        Args:
            point: The point.
            value: Gives it of a point that was measured.
            guess: Gives it by what one sub-environment takes.
        """
        mode, num_envs = point
        found = {one.num_envs: value(one) for one in self.points.values() if one.mode == mode}
        seen = {number: known for number, known in found.items() if known is not None}
        by_one = None if self.probe is None else partial(guess, self.probe, Mode.parse(mode))
        return extrapolate(seen, num_envs, by_one)

    def _build_s(self, probe: Probe, mode: Mode, num_envs: int) -> float:
        """Seconds that building and a reset take, by what one sub-environment took."""
        each_s = probe.construct_s + probe.profile.reset_time_s
        slice_length = -(-num_envs // mode.lanes(num_envs, self.caller_steps))
        return slice_length * each_s + start_up_s(mode, num_envs, self.machine.cores)

    def _step_s(self, probe: Probe, mode: Mode, num_envs: int) -> float:
        """Seconds that a vector step takes, by what one sub-environment took."""
        lanes = mode.lanes(num_envs, self.caller_steps)
        waits = probe.profile.off_cpu_fraction
        # As many lanes as there are cores get on at the same time, and more where they wait.
        at_once = max(min(lanes, self.machine.cores / max(1.0 - waits, 0.01)), 1.0)
        return num_envs * probe.profile.mean_step_with_resets_s / at_once

    def too_long(self, points: Sequence[Id], left_s: float, budget_s: float) -> dict[Id, str]:
        """By point why there is no time for it, where there is none.

        The most expensive points are left out until the others fit, but never all where nothing has
        been timed yet.

        Args:
            points: All that are still open.
            left_s: Seconds left for them.
            budget_s: Seconds that the sweep may take.
        """
        costs_s = {point: self.seconds(point) for point in points}
        starts_s = START_S * len({num_envs for _, num_envs in points})
        # Where starting processes takes all the time there is, the work itself still gets some.
        limit_s = COST_SHARE * max(left_s - starts_s, left_s / 2)
        fewest = 0 if any(point.blocks_s for point in self.points.values()) else 1
        kept = dict(costs_s)
        while len(kept) > fewest and sum(kept.values()) > limit_s:
            del kept[max(kept, key=kept.__getitem__)]
        more_s = sum(costs_s.values()) / COST_SHARE + starts_s
        enough_s = math.ceil(more_s + max(budget_s - left_s, 0.0))
        return {
            point: f"building and timing it takes about {costs_s[point]:.2g} s, too much of the "
            f"{budget_s:g} s that the sweep may take; a budget of {enough_s} s allows it"
            for point in costs_s
            if point not in kept
        }

    def too_large(self, points: Sequence[Id], available_bytes: float) -> dict[Id, str]:
        """By point why it does not fit into the memory, where it does not."""
        whys = {point: why_no_room(self.bytes(point), available_bytes) for point in points}
        return {point: why for point, why in whys.items() if why is not None}

    def fit_together(self, modes: Sequence[str], num_envs: int, available_bytes: float) -> bool:
        """Whether modes fit into the memory at the same time."""
        needed = sum(self.bytes((mode, num_envs)) for mode in modes)
        return why_no_room(needed, available_bytes) is None

    def share_s(
        self, modes: Sequence[str], num_envs: int, points: Sequence[Id], left_s: float
    ) -> float:
        """Seconds for modes that are timed together: what they take at least, and their share.

        Args:
            modes: These modes.
            num_envs: Their number of sub-environments.
            points: All that are still open, these included.
            left_s: Seconds left for all.
        """
        own_s = sum(self.seconds((mode, num_envs)) for mode in modes)
        numbers = len({number for _, number in points})
        over_s = left_s - sum(map(self.seconds, points)) - numbers * START_S
        # Of several groups with one number each gets a part of that number's share.
        part = len(modes) / max(sum(number == num_envs for _, number in points), 1)
        return own_s + max(over_s, 0.0) / numbers * part


def extrapolate(
    seen: Mapping[int, float], num_envs: int, guess: Callable[[int], float] | None
) -> float:
    """A quantity that grows with the number of sub-environments, beyond where it was seen.

    Args:
        seen: What it was, by number of sub-environments.
        num_envs: The number to tell it for.
        guess: What to think of it for a number where nothing was seen, if anything.

    Returns:
        What the line through the two largest numbers gives. With a single one, that and as much
        more as the guess grows, but no more than in proportion to the number.
    """
    known = sorted(number for number in seen if number <= num_envs)
    if not known:
        return guess(num_envs) if guess else 0.0
    last = known[-1]
    if len(known) == 1:
        in_proportion = seen[last] * num_envs / last
        if guess is None:
            return in_proportion
        return min(in_proportion, seen[last] + max(guess(num_envs) - guess(last), 0.0))
    slope = (seen[last] - seen[known[-2]]) / (last - known[-2])
    return seen[last] + max(slope, 0.0) * (num_envs - last)


def timed_point(
    mode: str,
    num_envs: int,
    vector_steps: int,
    blocks_s: Sequence[float],
    learners_s: Sequence[float],
    *,
    memory_bytes: int | None,
    build_s: float | None,
) -> Point:
    """The point that blocks of one mode make.

    Args:
        mode: The mode.
        num_envs: The number of sub-environments.
        vector_steps: Vector steps of each block.
        blocks_s: Seconds from one vector step to the next, by block; one at least.
        learners_s: Seconds of that spent in the learner, by block.
        memory_bytes: Memory of all processes, if known.
        build_s: Seconds that building took.
    """
    loop_s = median_interval(blocks_s)
    return Point(
        mode=mode,
        num_envs=num_envs,
        env_steps_per_s=Interval(*(num_envs / s for s in (loop_s.mid, loop_s.high, loop_s.low))),
        vector_step_s=median(
            block_s - learner_s for block_s, learner_s in zip(blocks_s, learners_s, strict=True)
        ),
        learner_s=median(learners_s),
        memory_bytes=memory_bytes,
        build_s=build_s,
        vector_steps=vector_steps,
        blocks_s=tuple(round(block_s, 9) for block_s in blocks_s),
        other_implementation=not Mode.parse(mode).runs_users_environments,
    )


def skipped_point(mode: str, num_envs: int, why: str) -> Point:
    """The point of a mode that was not timed."""
    other = not Mode.parse(mode).runs_users_environments
    return Point(mode, num_envs, skipped=why, other_implementation=other)


def best(points: Sequence[Point], modes: Sequence[str] = ()) -> Point | None:
    """The point to take: the most env steps/s, but the simpler and smaller one within 5 %.

    The tie of 5 % is that of a race. The simpler mode goes before the smaller number, as it does
    where a mode is chosen for a given number.

    Args:
        points: The points of a sweep.
        modes: What the user named. Another implementation counts only where it is among them, or
            where there is nothing else.
    """
    rivals = _measured(points)
    own = [p for p in rivals if not p.other_implementation or p.mode in modes]
    rivals = own or rivals
    if not rivals:
        return None
    most = max(_per_s(point) for point in rivals)
    tied = [point for point in rivals if _per_s(point) * (1 + TIE) >= most]
    return min(tied, key=lambda point: (Mode.parse(point.mode).rank(), point.num_envs))


def fastest_by_number(points: Sequence[Point], modes: Sequence[str] = ()) -> dict[int, Point]:
    """For each number of sub-environments the point to take; see `best`."""
    numbers = sorted({point.num_envs for point in points})
    found = {n: best([p for p in points if p.num_envs == n], modes) for n in numbers}
    return {number: point for number, point in found.items() if point is not None}


def diminishing(points: Sequence[Point], mode: str) -> int | None:
    """The number of sub-environments from which on more of them are hardly worth it.

    That is the smallest number over which no larger one gives 10 % more throughput per doubling,
    counted from it: 10 % more with twice as many, 21 % more with four times as many. More
    sub-environments cost memory, and make a batch staler for the learner, so a tenth for twice as
    many is little. All larger numbers are compared with it, and not each with the one before: one
    block that a busy machine slowed would otherwise make the next step look like a gain.

    Args:
        points: The points of a sweep.
        mode: The mode to look at.

    Returns:
        The number; None where throughput still grows with the largest number, or fewer than two
        were measured.
    """
    curve = [(point.num_envs, _per_s(point)) for point in _curve(points, mode)]
    for index, (number, per_s) in enumerate(curve[:-1]):
        if all(
            more_per_s < per_s * (1 + WORTH_DOUBLING) ** math.log2(more / number)
            for more, more_per_s in curve[index + 1 :]
        ):
            return number
    return None


def returns_text(points: Sequence[Point], mode: str) -> str | None:
    """Where the returns of more sub-environments diminish in one mode, in a sentence.

    Args:
        points: The points of a sweep.
        mode: The mode to look at.

    Returns:
        The sentence; None where fewer than two numbers were measured.
    """
    curve = _curve(points, mode)
    steps = list(zip(curve, curve[1:], strict=False))
    if not steps:
        return None
    number = diminishing(points, mode)
    if number is None:
        return (
            f"Returns do not diminish yet with {mode}: {_gain_text(*steps[-1])}, and larger "
            "numbers may give more."
        )
    step = next(step for step in steps if step[0].num_envs == number)
    return f"Returns diminish from {number} on with {mode}: {_gain_text(*step)}."


def winners_text(points: Sequence[Point], modes: Sequence[str] = ()) -> str | None:
    """Which mode to take at which number, in a sentence.

    None where it is the same at all numbers, or changes so often that only chance can be behind it.
    """
    winners = {n: point.mode for n, point in fastest_by_number(points, modes).items()}
    if len(set(winners.values())) < 2:
        return None
    runs: list[tuple[str, list[int]]] = []
    for number, mode in winners.items():
        if not runs or runs[-1][0] != mode:
            runs.append((mode, []))
        runs[-1][1].append(number)
    if len(runs) > MOST_RUNS:
        return None
    parts = [f"{mode} {_span(numbers, last=(mode, numbers) == runs[-1])}" for mode, numbers in runs]
    return f"What to take by number: {', '.join(parts)}."


def another_text(points: Sequence[Point], modes: Sequence[str] = ()) -> str | None:
    """What another implementation would give over the best, where it is much, in a sentence."""
    ours = best(points, modes)
    others = [p for p in _measured(points) if p.other_implementation and p.mode not in modes]
    if ours is None or not others or ours.other_implementation:
        return None
    theirs = max(others, key=_per_s)
    factor = _per_s(theirs) / _per_s(ours)
    if factor < WORTH_SAYING:
        return None
    return (
        f"{theirs.mode} x {theirs.num_envs} gives {factor:.3g} times as much as the best: it is "
        "another implementation of the environment, with other random numbers, so it counts only "
        "where it is named among the modes."
    )


def _span(numbers: list[int], *, last: bool) -> str:
    """Consecutive numbers of a sweep in words."""
    if len(numbers) == 1:
        return f"with {numbers[0]}"
    return f"from {numbers[0]} on" if last else f"from {numbers[0]} to {numbers[-1]}"


def _gain_text(one: Point, other: Point) -> str:
    """What the larger of two numbers of sub-environments gave in one mode, in words."""
    doubled = "doubling" if other.num_envs == 2 * one.num_envs else "going"
    percent = round((_per_s(other) / _per_s(one) - 1) * 100)
    more = f"{percent} % more" if percent >= 0 else f"{-percent} % less"
    return f"{doubled} from {one.num_envs} to {other.num_envs} gives {more}"


def _measured(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if point.env_steps_per_s is not None]


def _curve(points: Sequence[Point], mode: str) -> list[Point]:
    """What was measured of one mode, the smaller numbers first."""
    curve = [point for point in _measured(points) if point.mode == mode]
    return sorted(curve, key=lambda point: point.num_envs)


def _per_s(point: Point) -> float:
    assert point.env_steps_per_s is not None
    return point.env_steps_per_s.mid
