"""A race's rounds and its choice. Times come from a seeded generator."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import relaxed
from vecselect.measure.trial import order_of_round
from vecselect.selection.race import (
    DROP_ROUNDS,
    ENOUGH,
    MIN_ROUNDS,
    TIE,
    Interval,
    Timed,
    TimingResult,
    choose,
    choose_by_number,
    fastest,
    smallest_enough,
    still_running,
    time_ratio,
    times_beside,
)

RACES = 100
MAX_ROUNDS = 20
NOISE = 0.04


class Noise:
    """What the machine adds to a block's time: noise, a drift of all, and blocks that take double.

    Args:
        seed: Of the noise.
        drift: Growth of all times over the longest race, relative.
        outliers: Share of blocks that take twice as long.
        noise: Standard deviation of a block's time, relative.
    """

    def __init__(self, seed, drift=0.0, outliers=0.0, noise=NOISE):
        self.random = random.Random(seed)
        self.drift, self.outliers, self.noise = drift, outliers, noise
        self.count = 0

    def block(self, true_s):
        time_s = true_s * (1 + self.drift * self.count / (2 * MAX_ROUNDS))
        self.count += 1
        if self.random.random() < self.outliers:
            time_s *= 2
        return time_s * math.exp(self.random.gauss(0, self.noise))


def race(true_s, noise):
    """A race as `planning.timing` runs it: the choice, and all blocks."""
    blocks_s = {mode: [] for mode in true_s}
    running = tuple(true_s)
    for number in range(MAX_ROUNDS):
        for mode in order_of_round(running, number):
            blocks_s[mode].append(noise.block(true_s[mode]))
        running = still_running(blocks_s)
        if len(running) == 1:
            break
    times_s = times_beside(blocks_s)
    entrants = [Timed(mode, 8, times_s[mode]) for mode in true_s]
    return choose(entrants).mode, blocks_s


def share_right(right, true_s, **noise):
    chosen = [race(true_s, Noise(seed, **noise))[0] for seed in range(RACES)]
    return chosen.count(right) / RACES


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param({}, id="noise"),
        pytest.param({"drift": 0.2}, id="drift"),
        pytest.param({"drift": -0.2, "outliers": 0.1}, id="drift downwards and outliers"),
        pytest.param({"noise": 0.01}, id="calm"),
    ],
)
@pytest.mark.parametrize(
    ("right", "true_s"),
    [
        pytest.param("pool:1", {"sync": 1.1, "pool:1": 1.0}, id="faster"),
        pytest.param("sync", {"sync": 1.0, "pool:1": 1.1}, id="slower"),
        pytest.param(
            "pool:3",
            {"sync": 1.8, "pool:0": 1.6, "pool:1": 1.12, "pool:3": 1.0, "async": 1.3},
            id="five",
        ),
    ],
)
def test_the_best_is_chosen_in_95_of_100_races(right, true_s, noise):
    assert share_right(right, true_s, **noise) >= 0.95


def test_taking_turns_withstands_a_drift_that_misleads_running_one_after_the_other():
    # Equally fast; the machine becomes faster all the while, so whoever runs last looks better.
    misled = 0
    for seed in range(RACES):
        noise = Noise(seed, drift=-0.2)
        blocks_s = {mode: [noise.block(1.0) for _ in range(MAX_ROUNDS)] for mode in "ab"}
        misled += time_ratio(blocks_s["a"], blocks_s["b"]).mid > 1 + TIE
    assert misled / RACES > 0.9
    assert share_right("sync", {"sync": 1.0, "pool:1": 1.0}, drift=-0.2, noise=0.01) >= 0.9


@pytest.mark.parametrize(
    ("times_s", "chosen"),
    [
        ({"sync": 1.0, "pool:1": 1.0}, "sync"),
        ({"sync": 1.019, "pool:1": 1.0}, "sync"),
        ({"sync": 1.021, "pool:1": 1.0}, "pool:1"),
    ],
)
def test_of_those_within_2_percent_the_simplest_is_chosen(times_s, chosen):
    entrants = [Timed(mode, 8, Interval(s, s, s)) for mode, s in times_s.items()]
    out = Timed("pool:0", 8, skipped="it raised OSError")
    assert choose([out, *entrants]).mode == chosen
    assert choose([out]) is None


# Who runs on


def test_a_hopeless_rival_is_dropped_after_two_rounds_and_one_beyond_the_tie_soon():
    dropped = []
    for seed in range(RACES):
        _, blocks_s = race(
            {"sync": 1.0, "pool:1": 1.02, "async": 5.0, "thread:1": 1.35}, Noise(seed)
        )
        assert len(blocks_s["async"]) == DROP_ROUNDS
        dropped.append(len(blocks_s["thread:1"]))
    assert sorted(dropped)[int(0.95 * RACES)] <= 5


@pytest.mark.parametrize(
    ("blocks_s", "running"),
    [
        pytest.param({"a": [1.0], "b": [50.0]}, "ab", id="nobody is dropped after one round"),
        pytest.param({"a": [1.0] * 2, "b": [50.0] * 2}, "a", id="but after two"),
        pytest.param({"a": [9.0] * 3, "b": [1.0] * 3, "c": [1.01] * 3}, "bc", id="in order"),
        pytest.param({"a": [1.0] * 4, "b": [1.5]}, "a", id="who was dropped runs no more"),
        pytest.param({"a": [1.0] * 60, "b": [1.01] * 60}, "a", id="surely little to gain"),
        pytest.param({"a": [1.0] * 4, "b": [1.01] * 4}, "ab", id="not yet"),
        pytest.param({"a": [1.0] * 3}, "a", id="alone"),
    ],
)
def test_who_runs_on(blocks_s, running):
    expected = tuple(running.split() if " " in running else running)
    assert still_running(blocks_s) == expected


def test_the_fastest_is_told_by_the_rounds_that_both_ran():
    # A slow round fell to the last of three; by its own times the one that loses looks faster.
    blocks_s = {"sync": [1.0, 2.0, 3.0], "pool:0": [2.5, 2.0 / 1.14, 3.0 / 1.14]}
    assert fastest(blocks_s) == "pool:0"
    assert time_ratio(blocks_s["sync"], blocks_s["pool:0"]).mid == pytest.approx(1.14)
    # One that was dropped cannot lead, and stands in its measured ratio to the fastest.
    dropped = {"a": [2.0, 1.0, 1.0], "b": [2.2]}
    assert fastest(dropped) == "a"
    assert times_beside(dropped)["b"].mid == pytest.approx(1.1)


# What a sweep takes


def a_curve(mode, per_s):
    return [Timed(mode, n, Interval(n / s, n / s, n / s)) for n, s in per_s.items()]


def test_the_fewest_that_give_95_percent_of_the_most_are_enough():
    curves = [
        *a_curve("sync", {1: 50, 4: 100, 8: 101}),
        *a_curve("pool:1", {4: 150, 8: 190, 16: 199}),
        *a_curve("native", {1: 900, 8: 2000}),
    ]
    by_number = choose_by_number(curves)
    assert {n: one.mode for n, one in by_number.items()} == {
        1: "sync", 4: "pool:1", 8: "pool:1", 16: "pool:1",
    }  # fmt: skip
    assert smallest_enough(by_number).num_envs == 8
    assert ENOUGH * 199 <= 190
    # Another implementation is taken where it is named, or where there is nothing else.
    assert smallest_enough(choose_by_number(curves, ("sync", "native"))).mode == "native"
    assert smallest_enough(choose_by_number(a_curve("native", {1: 900}))).mode == "native"
    assert smallest_enough({}) is None


def test_a_speedup_is_the_ratio_of_the_rounds_that_both_ran():
    entrants = tuple(
        Timed(mode, 8, Interval(*[blocks[0]] * 3), blocks_s=tuple(blocks))
        for mode, blocks in {"sync": [2.0, 4.0], "pool:1": [1.0, 2.0, 1.0]}.items()
    )
    found = TimingResult((*entrants, Timed("async", 8, skipped="no")), 3, 5, None, 1.0)
    assert found.speedup("pool:1").mid == pytest.approx(2.0)
    assert found.speedup("sync", "pool:1").mid == pytest.approx(0.5)
    assert found.speedup("sync") is found.speedup("async") is found.of("async") is None


# What two candidates are compared by


def test_two_rounds_that_agree_by_chance_do_not_pass_for_certainty():
    ends = [time_ratio([1.03] * rounds, [1.0] * rounds).low for rounds in (1, 2, 200)]
    assert ends == sorted(ends)
    assert ends[1] < 1 < ends[2]


def test_one_outlier_moves_the_ratio_not_at_all_and_a_slow_round_is_none():
    storm = [1.0, 3.0, 0.5, 1.7, 2.2, 1.0, 1.0]
    plain = time_ratio([1.1] * 7, [1.0] * 7)
    assert time_ratio([1.1 * s for s in storm], storm).low == pytest.approx(plain.low)
    # Rounds that only one ran do not count.
    assert time_ratio([1.1] * 7, [1.0] * 7 + [5.0] * 3) == plain
    for place in range(7):
        blocks = [1.1] * 7
        blocks[place] *= 2
        found = time_ratio(blocks, [1.0] * 7)
        assert found.mid == plain.mid
        assert found.high > plain.high


def test_the_interval_covers_the_truth_in_nine_of_ten_races():
    hits = 0
    for seed in range(2 * RACES):
        noise = Noise(seed)
        pairs = [(noise.block(1.1), noise.block(1.0)) for _ in range(10)]
        found = time_ratio(*zip(*pairs, strict=True))
        hits += found.low <= 1.1 <= found.high
    assert hits / (2 * RACES) >= 0.9


pairs = st.lists(st.tuples(st.floats(1e-4, 1e3), st.floats(1e-4, 1e3)), min_size=1, max_size=12)
races = st.integers(1, 10).flatmap(
    lambda rounds: st.dictionaries(
        st.sampled_from(["sync", "pool:0", "pool:1", "pool:3", "async", "thread"]),
        st.lists(st.floats(0.8, 1.25), min_size=rounds, max_size=rounds),
        min_size=1,
    )
)


@relaxed
@given(pairs, st.randoms(use_true_random=False))
def test_comparing_both_ways_round_or_in_another_order_says_the_same(values, shuffler):
    one, other = ([pair[i] for pair in values] for i in (0, 1))
    there, back = time_ratio(one, other), time_ratio(other, one)
    assert 0 < there.low < there.mid < there.high
    assert there.mid == pytest.approx(1 / back.mid)
    assert there.low == pytest.approx(1 / back.high)
    shuffler.shuffle(values)
    assert there == time_ratio(*([pair[i] for pair in values] for i in (0, 1)))


@relaxed
@given(races, st.integers(-30, 30))
def test_a_round_is_sound_and_the_unit_of_time_changes_nothing(blocks_s, power):
    running = still_running(blocks_s)
    assert fastest(blocks_s) in running
    assert list(running) == [mode for mode in blocks_s if mode in running]
    assert len(next(iter(blocks_s.values()))) >= MIN_ROUNDS or len(running) >= 1
    scaled = {mode: [t * 2.0**power for t in blocks] for mode, blocks in blocks_s.items()}
    assert still_running(scaled) == running


@relaxed
@given(races)
def test_the_choice_is_within_the_tie_and_nothing_simpler_is(blocks_s):
    times_s = times_beside(blocks_s)
    chosen = choose([Timed(mode, 8, found) for mode, found in times_s.items()]).mode
    least_s = min(found.mid for found in times_s.values())
    assert times_s[chosen].mid <= least_s * (1 + TIE)
    for mode in itertools.takewhile(lambda mode: mode != chosen, blocks_s):
        assert times_s[mode].mid > least_s * (1 + TIE)
