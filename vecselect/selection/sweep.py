"""What a sweep says: the best number of sub-environments and mode, and where returns diminish."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from vecselect.modes import Mode
from vecselect.selection.compare import Interval, median_interval
from vecselect.selection.race import TIE

if TYPE_CHECKING:
    from collections.abc import Sequence

WORTH_DOUBLING = 0.10
"""Doubling the sub-environments is worth it where it gives this much more throughput."""

WORTH_SAYING = 1.1
"""Another implementation that gives this many times as much is pointed out."""

MOST_RUNS = 3
"""Of numbers in sequence with one mode to take: what changes more often is not worth saying."""

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


@dataclass(frozen=True)
class Gain:
    """What more sub-environments gave in one mode.

    Attributes:
        from_num_envs: The smaller number.
        to_num_envs: The next larger one that was measured.
        ratio: Throughput with the larger number over that with the smaller one.
    """

    from_num_envs: int
    to_num_envs: int
    ratio: float


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
    )


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


def gains(points: Sequence[Point], mode: str) -> tuple[Gain, ...]:
    """What each step to a larger number gave in one mode."""
    curve = _curve(points, mode)
    return tuple(
        Gain(one.num_envs, other.num_envs, _per_s(other) / _per_s(one))
        for one, other in zip(curve, curve[1:], strict=False)
    )


def returns_text(points: Sequence[Point], mode: str) -> str | None:
    """Where the returns of more sub-environments diminish in one mode, in a sentence.

    Args:
        points: The points of a sweep.
        mode: The mode to look at.

    Returns:
        The sentence; None where fewer than two numbers were measured.
    """
    steps = gains(points, mode)
    if not steps:
        return None
    number = diminishing(points, mode)
    if number is None:
        last = steps[-1]
        return (
            f"Returns do not diminish yet with {mode}: {_gain_text(last)}, and larger numbers may "
            "give more."
        )
    step = next(step for step in steps if step.from_num_envs == number)
    return f"Returns diminish from {number} on with {mode}: {_gain_text(step)}."


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


def _gain_text(step: Gain) -> str:
    doubled = "doubling" if step.to_num_envs == 2 * step.from_num_envs else "going"
    percent = round((step.ratio - 1) * 100)
    more = f"{percent} % more" if percent >= 0 else f"{-percent} % less"
    return f"{doubled} from {step.from_num_envs} to {step.to_num_envs} gives {more}"


def _measured(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if point.env_steps_per_s is not None]


def _curve(points: Sequence[Point], mode: str) -> list[Point]:
    """What was measured of one mode, the smaller numbers first."""
    curve = [point for point in _measured(points) if point.mode == mode]
    return sorted(curve, key=lambda point: point.num_envs)


def _per_s(point: Point) -> float:
    assert point.env_steps_per_s is not None
    return point.env_steps_per_s.mid
