"""Two candidates compared by paired times, with the uncertainty of few and noisy blocks."""

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
_WIDTH = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


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

    def times(self, factor: float) -> Interval:
        """The interval of so many times the quantity."""
        return Interval(self.mid * factor, self.low * factor, self.high * factor)


def time_ratio(rival_s: Sequence[float], leader_s: Sequence[float]) -> Interval:
    """A rival's time over the leader's, with a 95 % interval: above 1, it is slower.

    The datum is the logarithm of the two times' ratio in one round, so that what slows a whole
    round cancels.

    Args:
        rival_s: Seconds per vector step, by round.
        leader_s: The same of the leader; at least one round in common.
    """
    pairs = zip(rival_s, leader_s, strict=False)
    return _interval([math.log(rival / leader) for rival, leader in pairs])


def median_interval(values_s: Sequence[float]) -> Interval:
    """The median of positive values with a 95 % interval.

    Args:
        values_s: At least one.
    """
    return _interval([math.log(value) for value in values_s])


def _interval(logs: Sequence[float]) -> Interval:
    middle, width = median(logs), _WIDTH * standard_error(logs)
    return Interval(math.exp(middle), math.exp(middle - width), math.exp(middle + width))


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
