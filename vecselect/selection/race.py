"""Candidates timed in turns: what was measured of each, who runs on, and which one to take.

All run one block a round. Any two are compared by the rounds that both ran, so that what slows a
whole round cancels. The same is done whether the candidates are the modes for one number of
sub-environments (a race) or for several (a sweep).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist, median, stdev
from typing import TYPE_CHECKING

from vecselect.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

TIE = 0.02
"""Candidates within this of the fastest are as good as it: the simplest of them is taken."""

STOP_GAIN = 0.01
"""A rival that is surely no more than this much faster than the leader is not waited for."""

MIN_ROUNDS = 5
DROP_ROUNDS = 2
HOPELESS = 1.5
"""After two rounds a rival that takes this many times as long runs no more."""

ENOUGH = 0.95
"""Of fewer sub-environments, throughput that is this share of the most there is, is enough."""

LEAST_SPREAD = 0.01
"""Relative spread of a block's time that is assumed at least; five equal blocks prove no more."""

PRIOR_SPREAD, PRIOR_ROUNDS = 0.04, 2
"""What is assumed of the spread before anything is known, and the rounds this counts for: two
rounds that happen to agree must not pass for certainty."""

WIDTH = NormalDist().inv_cdf(0.975) * math.sqrt(math.pi / 2)
"""Half of a 95 % interval of a median, in standard errors of a mean, for normal noise."""


@dataclass(frozen=True)
class Interval:
    """The best guess of a quantity, and the ends of what it may be."""

    mid: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """The interval of so many times the quantity."""
        return Interval(self.mid * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Timed:
    """One mode with one number of sub-environments: what was measured, or why nothing was.

    Attributes:
        mode: The mode, as a user would pin it.
        num_envs: The number of sub-environments.
        loop_s: Seconds from one vector step to the next, learner included, with a 95 % interval:
            the fastest one's median, and of the others with the same number what stands in the
            measured ratio to it. None where nothing was measured.
        learner_s: Seconds of that spent in the learner.
        blocks_s: Seconds from one vector step to the next of each block; the n-th blocks of all
            ran in one round.
        vector_steps: Vector steps of each block.
        memory_bytes: Memory of all processes of a program that runs it: of this one with the
            environment's modules loaded, and of the workers.
        skipped: Why it was not measured, as words that follow its name; None if it was.
    """

    mode: str
    num_envs: int
    loop_s: Interval | None = None
    learner_s: float = 0.0
    blocks_s: tuple[float, ...] = field(default=(), repr=False)
    vector_steps: int = 0
    memory_bytes: int | None = None
    skipped: str | None = None

    @property
    def env_steps_per_s(self) -> Interval | None:
        """Throughput of the loop, learner included."""
        loop, count = self.loop_s, self.num_envs
        return loop and Interval(count / loop.mid, count / loop.high, count / loop.low)

    @property
    def per_s(self) -> float:
        """The same without its uncertainty; 0.0 where nothing was measured."""
        return self.num_envs / self.loop_s.mid if self.loop_s else 0.0


@dataclass(frozen=True)
class TimingResult:
    """What timing candidates in turns has found.

    Attributes:
        entrants: What was measured of each, in the order in which they were given: the smaller
            numbers first, and of those the simpler modes.
        rounds: Rounds run.
        compared_steps: Vector steps after the first reset in which all returned the same bits; 0
            where the environment itself differs from one run to the next.
        difference: Where they did not.
        seconds: How long it took.
    """

    entrants: tuple[Timed, ...]
    rounds: int
    compared_steps: int
    difference: str | None
    seconds: float

    def of(self, mode: str) -> Timed | None:
        """What was measured of a mode, if it could be."""
        return next((one for one in self.entrants if one.mode == mode and one.loop_s), None)

    def speedup(self, mode: str, over: str = "sync") -> Interval | None:
        """A mode's throughput over that of another; None unless both were measured."""
        ours, theirs = self.of(mode), self.of(over)
        if ours is None or theirs is None or mode == over:
            return None
        return time_ratio(theirs.blocks_s, ours.blocks_s)


def time_ratio(rival_s: Sequence[float], leader_s: Sequence[float]) -> Interval:
    """A rival's time over the leader's, with a 95 % interval: above 1, it is slower.

    Both are seconds per vector step by round. Rounds that only one ran do not count; of those that
    both ran the ratio does, so that what slows a whole round cancels.
    """
    pairs = zip(rival_s, leader_s, strict=False)
    return _median_of([math.log(rival / leader) for rival, leader in pairs])


def median_interval(values_s: Sequence[float]) -> Interval:
    """The median of positive values with a 95 % interval."""
    return _median_of([math.log(value) for value in values_s])


def _median_of(logs: Sequence[float]) -> Interval:
    """The median of values, from their logarithms, with an interval by a robust spread of them."""
    count, middle = len(logs), median(logs)
    spread = max(
        1.4826 * median(abs(value - middle) for value in logs),
        0.5 * stdev(logs) if count > 1 else 0.0,
        LEAST_SPREAD,
    )
    pooled = (count * spread**2 + PRIOR_ROUNDS * PRIOR_SPREAD**2) / (count + PRIOR_ROUNDS)
    width = WIDTH * math.sqrt(pooled / count)
    return Interval(math.exp(middle), math.exp(middle - width), math.exp(middle + width))


def fastest(blocks_s: Mapping[str, Sequence[float]]) -> str:
    """The fastest of those that ran in every round, by their ratios to one of them.

    Of each the seconds per vector step of its blocks; of equals the first is meant.
    """
    rounds = max(map(len, blocks_s.values()))
    finished = {mode: blocks for mode, blocks in blocks_s.items() if len(blocks) == rounds}
    one = next(iter(finished.values()))
    return min(finished, key=lambda mode: time_ratio(finished[mode], one).mid)


def still_running(blocks_s: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Who runs in the next round: the leader, and every rival that may yet be the one to take.

    The simpler modes come first, with seconds per vector step of each block, one a round; one that
    was dropped has fewer than the others.
    """
    rounds = max(map(len, blocks_s.values()))
    leader = fastest(blocks_s)
    against = {
        mode: time_ratio(blocks, blocks_s[leader])
        for mode, blocks in blocks_s.items()
        if len(blocks) == rounds and mode != leader
    }
    open_ = {
        mode
        for mode, found in against.items()
        if rounds < DROP_ROUNDS
        or not (found.mid > HOPELESS or (rounds > DROP_ROUNDS and found.low > 1 + TIE))
    }
    if rounds >= MIN_ROUNDS and all(against[mode].low > 1 - STOP_GAIN for mode in open_):
        open_ = set()
    return tuple(mode for mode in blocks_s if mode == leader or mode in open_)


def times_beside(blocks_s: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Seconds per vector step of each, so that any two stand in the ratio measured.

    Medians of their own blocks would not: one that was dropped ran in other rounds than the
    fastest, and what slows a round slows all that run in it.
    """
    leader = fastest(blocks_s)
    found = median_interval(blocks_s[leader])
    return {
        mode: found if mode == leader else time_ratio(blocks, blocks_s[leader]).times(found.mid)
        for mode, blocks in blocks_s.items()
    }


def choose(entrants: Sequence[Timed]) -> Timed | None:
    """The simplest of those within 2 % of the fastest; None where nothing was measured.

    All are of one number of sub-environments, the simpler modes first.
    """
    most = max((one.per_s for one in entrants), default=0.0)
    return next((one for one in entrants if one.per_s and one.per_s * (1 + TIE) >= most), None)


def choose_by_number(entrants: Sequence[Timed], modes: Collection[str] = ()) -> dict[int, Timed]:
    """For each number of sub-environments the mode to take.

    Another implementation of the environment is taken only if it is among the `modes` that the user
    named, or where there is nothing else.
    """
    found = {}
    for number in sorted({one.num_envs for one in entrants}):
        same = [one for one in entrants if one.num_envs == number]
        own = [
            one for one in same if one.mode in modes or Mode.parse(one.mode).runs_users_environments
        ]
        found[number] = choose(own) or choose(same)
    return {number: one for number, one in found.items() if one is not None}


def smallest_enough(by_number: Mapping[int, Timed]) -> Timed | None:
    """The fewest sub-environments that give 95 % of the most throughput; None where nothing ran.

    More of them cost memory, and make a batch staler for the learner.
    """
    most = max((one.per_s for one in by_number.values()), default=0.0)
    return next(
        (by_number[n] for n in sorted(by_number) if by_number[n].per_s >= ENOUGH * most), None
    )
