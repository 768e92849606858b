"""The race: who runs next, when it is over, and who won. Fed with times, it returns choices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vecselect.selection.compare import Comparison, Interval, compare, median_interval

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

TIE = 0.05
"""Candidates within this of the best are as good as it: the simplest of them is chosen."""

STOP_LOSS = 0.005
"""The race is over once taking the leader is expected to lose less than this."""

MIN_ROUNDS = 5
DROP_ROUNDS = 2
HOPELESS = 1.5
"""After two rounds a rival that takes this many times as long runs no more."""

FAR_BEHIND = 4.0
"""A rival that takes this many times as long in the warm-up runs shorter blocks, and no more at all
if the first round says the same. It would take most of the race's time, and win none of it."""

LITTLE = 0.1
"""Share of the time a race has taken that a further round may take when there is none left."""


@dataclass(frozen=True)
class Standing:
    """How a race stands.

    Attributes:
        leader: The one that no other beat, by the rounds that both ran.
        rivals: All others against it, in order of simplicity.
        running: Who runs in the next round, in order of simplicity: neither dropped nor, once the
            race is over, anybody.
        expected_loss: Mean loss of taking the leader, as a share of throughput.
        p_best: Probability that the leader is faster than all others that ran to the end; it is at
            least this.
        rounds: Rounds run.
    """

    leader: str
    rivals: tuple[Comparison, ...]
    running: tuple[str, ...]
    expected_loss: float
    p_best: float
    rounds: int

    @property
    def over(self) -> bool:
        """Whether more rounds would not change the choice."""
        return not self.running

    def ratio_to_leader(self, mode: str) -> float:
        """The time of a candidate over the leader's; 1.0 for the leader itself."""
        return next((rival.ratio.mid for rival in self.rivals if rival.mode == mode), 1.0)


@dataclass(frozen=True)
class Entrant:
    """What a race measured of one candidate.

    Attributes:
        mode: The candidate.
        loop_s: Seconds from one vector step to the next, learner included, with a 95 % interval:
            the leader's median, and of the others what stands in the measured ratio to it.
        learner_s: Seconds of that spent in the learner.
        blocks_s: Seconds from one vector step to the next of each block; the n-th blocks of all
            ran in one round.
    """

    mode: str
    loop_s: Interval
    learner_s: float
    blocks_s: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class RaceRecord:
    """A race that was run.

    Attributes:
        chosen: The candidate to take.
        leader: The fastest.
        entrants: What was measured of each.
        out: Entrants that were taken out, and why.
        num_envs: The number of sub-environments it was run with.
        vector_steps: Vector steps of each block; fewer where a candidate was far behind.
        rounds: Rounds run.
        expected_loss: Mean loss of taking the leader, as a share of throughput.
        p_best: Probability that the leader is the best of those that ran to the end; at least.
        speedup: Throughput of the chosen one over that of `sync`, measured after the choice, as
            `entrants` have it too; None if it is `sync`, or that did not run.
        compared_steps: Vector steps after the first reset in which all returned the same bits; 0
            where the environment itself differs from one run to the next.
        difference: Where they did not; then `sync` is kept.
        seconds: How long it took.
    """

    chosen: str
    leader: str
    entrants: tuple[Entrant, ...]
    out: dict[str, str]
    num_envs: int
    vector_steps: int
    rounds: int
    expected_loss: float
    p_best: float
    speedup: Interval | None
    compared_steps: int
    difference: str | None
    seconds: float

    def of(self, mode: str) -> Entrant | None:
        """What was measured of a candidate, if it took part to the end."""
        return next((entrant for entrant in self.entrants if entrant.mode == mode), None)


def has_time(left_s: float, next_s: float, final_s: float, spent_s: float, rounds: int) -> bool:
    """Whether another round is begun.

    Args:
        left_s: Seconds until the deadline; negative after it.
        next_s: Seconds that the round will take.
        final_s: Seconds kept for measuring the advantage.
        spent_s: Seconds that the race has taken, building its entrants included.
        rounds: Rounds run.

    Returns:
        True if it will end in time. Also where a choice is not sound yet for want of rounds, and
        one takes little beside what would otherwise have been spent on noise.
    """
    if next_s + final_s <= left_s:
        return True
    return rounds < MIN_ROUNDS and next_s <= LITTLE * spent_s


def fastest(blocks_s: Mapping[str, Sequence[float]]) -> str:
    """The candidate that no other beat: against each other one it was the faster in the median.

    Each two are compared by the rounds that both ran, since what slows a round slows all in it.
    Where that goes in a circle, it is the one that is surest not to be slower than the others.

    Args:
        blocks_s: As in `standing`; of equals the simplest is meant.
    """

    def least_sure(mode: str) -> float:
        others = (other for other in blocks_s if other != mode)
        return min(
            (compare(other, blocks_s[other], blocks_s[mode]).p_slower for other in others),
            default=1.0,
        )

    return max(blocks_s, key=least_sure)


def standing(
    blocks_s: Mapping[str, Sequence[float]],
    stop_loss: float = STOP_LOSS,
    far: Collection[str] = (),
) -> Standing:
    """Judges a race after a round.

    Args:
        blocks_s: By candidate, the simplest first: seconds per vector step of each block, one block
            a round. A candidate that was dropped has fewer than the others.
        stop_loss: Expected loss, as a share of throughput, at which the race is over.
        far: Those that were far behind before the first round.
    """
    rounds = max(map(len, blocks_s.values()))
    survivors = [mode for mode, blocks in blocks_s.items() if len(blocks) == rounds]
    leader = fastest({mode: blocks_s[mode] for mode in survivors})
    rivals = tuple(
        compare(mode, blocks, blocks_s[leader])
        for mode, blocks in blocks_s.items()
        if mode != leader
    )
    hopeful = [
        rival
        for rival in rivals
        if rival.mode in survivors
        and not _is_beaten(rival)
        and not (rival.mode in far and rival.ratio.mid > FAR_BEHIND)
    ]
    expected_loss = sum(rival.expected_loss for rival in hopeful)
    enough = (
        rounds >= MIN_ROUNDS
        and expected_loss < stop_loss
        and not any(rival.ratio.low <= 1 + TIE <= rival.ratio.high for rival in hopeful)
    )
    names = {leader, *(rival.mode for rival in hopeful)}
    return Standing(
        leader=leader,
        rivals=rivals,
        running=() if enough or not hopeful else tuple(m for m in blocks_s if m in names),
        expected_loss=expected_loss,
        # Whatever the rivals' noise has in common, the chances to be wrong add up at the most.
        p_best=max(1.0 - sum(1.0 - r.p_slower for r in rivals if r.mode in survivors), 0.0),
        rounds=rounds,
    )


def choose(result: Standing, blocks_s: Mapping[str, Sequence[float]]) -> str:
    """The candidate to take: the simplest of those within 5 % of the leader.

    Args:
        result: The last standing.
        blocks_s: As in `standing`; the order says what is simpler.
    """
    # One that was dropped is compared by its few rounds only, and out.
    finished = (mode for mode, blocks in blocks_s.items() if len(blocks) == result.rounds)
    return next(mode for mode in finished if result.ratio_to_leader(mode) <= 1 + TIE)


def times_beside(
    blocks_s: Mapping[str, Sequence[float]],
    leader: str,
    again: tuple[str, str, Interval] | None = None,
) -> dict[str, Interval]:
    """Seconds per vector step of each candidate, so that any two stand in the ratio measured.

    Medians of their own blocks would not: one that was dropped ran in other rounds than the leader,
    and what slows a round slows all that run in it.

    Args:
        blocks_s: By candidate: seconds per vector step of each block.
        leader: The one whose median the others stand beside.
        again: A candidate that was measured once more, beside which other one, and its time over
            that one's. It is not the leader, and the other one stands beside the leader as ever.
    """
    times_s = {leader: median_interval(blocks_s[leader])}
    for mode in blocks_s:
        if mode != leader:
            found = compare(mode, blocks_s[mode], blocks_s[leader]).ratio
            times_s[mode] = _times(times_s[leader].mid, found)
    if again is not None:
        mode, beside, found = again
        times_s[mode] = _times(times_s[beside].mid, found)
    return {mode: times_s[mode] for mode in blocks_s}


def _times(seconds: float, ratio: Interval) -> Interval:
    return Interval(seconds * ratio.mid, seconds * ratio.low, seconds * ratio.high)


def _is_beaten(rival: Comparison) -> bool:
    """Whether no further round could bring it back among those that may be chosen."""
    if rival.rounds >= DROP_ROUNDS and rival.ratio.mid > HOPELESS:
        return True
    return rival.rounds > DROP_ROUNDS and rival.ratio.low > 1 + TIE
