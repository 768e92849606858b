"""Races on a machine whose noise comes from a seeded generator."""

import math
import random

from hypothesis import HealthCheck, settings

from vecselect.selection.race import (
    STOP_LOSS,
    TIE,
    choose,
    order_of_round,
    standing,
)

# However busy the machine is.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RACES = 200
MAX_ROUNDS = 16
NOISE = 0.04
A_GAP = 1.10
"""How far beyond the line of a tie a candidate lies that must not be chosen."""

ABOVE_TIE = (1 + TIE) * A_GAP


class Weather:
    """What the machine adds to a block's time: noise, a drift of all, and blocks that take double.

    Args:
        seed: Of the noise.
        drift: Growth of all times over `blocks` blocks, relative.
        outliers: Share of blocks that take twice as long.
        noise: Standard deviation of a block's time, relative.
        blocks: Blocks after which the drift has come to its full size.
    """

    def __init__(self, seed, drift=0.0, outliers=0.0, noise=NOISE, blocks=2 * MAX_ROUNDS):
        self.random = random.Random(seed)
        self.drift, self.outliers, self.noise, self.blocks = drift, outliers, noise, blocks
        self.count = 0

    def block(self, true_s):
        time_s = true_s * (1 + self.drift * self.count / self.blocks)
        self.count += 1
        if self.random.random() < self.outliers:
            time_s *= 2
        return time_s * math.exp(self.random.gauss(0, self.noise))


def race(true_s, weather, incumbent=None, max_rounds=MAX_ROUNDS, stop_loss=STOP_LOSS):
    """A race as `vecselect.planning.rounds` runs it: the choice, the standing, all times."""
    blocks_s = {mode: [] for mode in true_s}
    running = tuple(true_s)
    for number in range(max_rounds):
        for mode in order_of_round(running, number):
            blocks_s[mode].append(weather.block(true_s[mode]))
        result = standing(blocks_s, stop_loss, incumbent)
        if result.over:
            break
        running = result.running
    return choose(result, blocks_s, incumbent), result, blocks_s


def one_after_the_other(true_s, weather, rounds=MAX_ROUNDS):
    """What most benchmarks do: all blocks of the one, then all blocks of the next."""
    blocks_s = {
        mode: [weather.block(time_s) for _ in range(rounds)] for mode, time_s in true_s.items()
    }
    return choose(standing(blocks_s), blocks_s)


def share_right(right, true_s, **weather):
    chosen = [race(true_s, Weather(seed, **weather))[0] for seed in range(RACES)]
    return chosen.count(right) / RACES
