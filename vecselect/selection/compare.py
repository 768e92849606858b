"""Two candidates compared by paired times: how much faster, how sure, and what a mistake costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist, median, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_SPREAD = 0.01
"""Spread of a block's time that is assumed at least, relative; five equal blocks prove no more."""

PRIOR_SPREAD = 0.04
PRIOR_ROUNDS = 2
"""What is assumed of the spread before anything is known, and the rounds this counts for: two
rounds that happen to agree must not pass for certainty."""

MEDIAN_EFFICIENCY = 1.25
"""The standard error of a median, in those of a mean, for normal noise: sqrt(pi / 2)."""

CONFIDENCE = 0.95

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    """A quantity with its uncertainty.

    Attributes:
        mid: The best guess.
        low: Lower end.
        high: Upper end.
    """

    mid: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A rival against the leader of a race.

    Attributes:
        mode: The rival.
        ratio: Its time over the leader's, with a 95 % interval: above 1, it is slower.
        expected_loss: Mean loss of taking the leader where the rival may be better, as a share of
            throughput.
        p_slower: Probability that it is slower than the leader.
        rounds: Rounds in which both ran.
    """

    mode: str
    ratio: Interval
    expected_loss: float
    p_slower: float
    rounds: int


def compare(mode: str, rival_s: Sequence[float], leader_s: Sequence[float]) -> Comparison:
    """Compares a rival with the leader by the rounds that both have run.

    The datum is the logarithm of the two times' ratio in one round, so that what slows a whole
    round cancels. Its median counts, and with z, the median in standard errors, taking the leader
    is expected to cost `se * (pdf(z) - z * (1 - cdf(z)))` (expected opportunity cost; Chick and
    Inoue, "New two-stage and sequential procedures for selecting the best simulated system",
    Operations Research 49, 2001).

    Args:
        mode: The rival's name.
        rival_s: Seconds per vector step, by round.
        leader_s: The same of the leader; at least one round in common.
    """
    pairs = list(zip(rival_s, leader_s, strict=False))
    logs = [math.log(rival / leader) for rival, leader in pairs]
    middle = median(logs)
    error = standard_error(logs)
    z = middle / error
    below = _NORMAL.cdf(z)
    width = _NORMAL.inv_cdf(0.5 + CONFIDENCE / 2) * error
    return Comparison(
        mode=mode,
        ratio=Interval(math.exp(middle), math.exp(middle - width), math.exp(middle + width)),
        expected_loss=error * (_NORMAL.pdf(z) - z * (1 - below)),
        p_slower=below,
        rounds=len(logs),
    )


def standard_error(values: Sequence[float]) -> float:
    """The standard error of the median of relative values, from a robust measure of their spread.

    Args:
        values: At least one.
    """
    count = len(values)
    middle = median(values)
    spread = max(
        1.4826 * median(abs(value - middle) for value in values),
        0.5 * stdev(values) if count > 1 else 0.0,
        MIN_SPREAD,
    )
    pooled = (count * spread**2 + PRIOR_ROUNDS * PRIOR_SPREAD**2) / (count + PRIOR_ROUNDS)
    return MEDIAN_EFFICIENCY * math.sqrt(pooled / count)


def median_interval(values_s: Sequence[float]) -> Interval:
    """The median of positive values with a 95 % interval, by the same spread.

    Args:
        values_s: At least one.
    """
    logs = [math.log(value) for value in values_s]
    middle = median(logs)
    width = _NORMAL.inv_cdf(0.5 + CONFIDENCE / 2) * standard_error(logs)
    return Interval(math.exp(middle), math.exp(middle - width), math.exp(middle + width))
