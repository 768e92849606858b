"""The race: who runs next, when it is over, and who wins. Times come from a seeded generator."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records import relaxed
from vecselect.measure.trial import order_of_round
from vecselect.selection.compare import MIN_SPREAD, compare, median_interval, standard_error
from vecselect.selection.race import (
    DROP_ROUNDS,
    LITTLE,
    MIN_ROUNDS,
    STOP_LOSS,
    TIE,
    choose,
    has_time,
    standing,
)

RACES = 200
MAX_ROUNDS = 16
NOISE = 0.04
A_GAP = 1.10
"""How far beyond the line of a tie a candidate lies that must not be chosen."""

ABOVE_TIE = (1 + TIE) * A_GAP


class Noise:
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


def race(true_s, noise, stop_loss=STOP_LOSS):
    """A race as `vecselect.planning.race` runs it: the choice, the standing, all times."""
    blocks_s = {mode: [] for mode in true_s}
    running = tuple(true_s)
    for number in range(MAX_ROUNDS):
        for mode in order_of_round(running, number):
            blocks_s[mode].append(noise.block(true_s[mode]))
        result = standing(blocks_s, stop_loss)
        if result.over:
            break
        running = result.running
    return choose(result, blocks_s), result, blocks_s


def one_after_the_other(true_s, noise, rounds=MAX_ROUNDS):
    """What most benchmarks do: all blocks of the one, then all blocks of the next."""
    blocks_s = {
        mode: [noise.block(time_s) for _ in range(rounds)] for mode, time_s in true_s.items()
    }
    return choose(standing(blocks_s), blocks_s)


def share_right(right, true_s, **noise):
    chosen = [race(true_s, Noise(seed, **noise))[0] for seed in range(RACES)]
    return chosen.count(right) / RACES


# The right choice, often enough


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param({}, id="noise"),
        pytest.param({"drift": 0.2}, id="drift"),
        pytest.param({"drift": -0.2}, id="drift downwards"),
        pytest.param({"outliers": 0.1}, id="outliers"),
        pytest.param({"drift": 0.2, "outliers": 0.1}, id="drift and outliers"),
        pytest.param({"noise": 0.01}, id="calm"),
    ],
)
@pytest.mark.parametrize(
    ("right", "true_s"),
    [
        pytest.param("pool:1", {"sync": ABOVE_TIE, "pool:1": 1.0}, id="faster"),
        pytest.param("sync", {"sync": 1.0, "pool:1": A_GAP}, id="slower"),
        pytest.param("sync", {"sync": 1.0, "pool:1": 1 / 1.05 * A_GAP}, id="a little slower"),
        pytest.param(
            "pool:3",
            {"sync": 1.8, "pool:0": 1.6, "pool:1": ABOVE_TIE, "pool:3": 1.0, "async": 1.3},
            id="five",
        ),
    ],
)
def test_the_best_is_chosen_in_95_of_100_races(right, true_s, noise):
    assert share_right(right, true_s, **noise) >= 0.95


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1e3])
def test_the_unit_of_time_does_not_matter_to_a_whole_race(scale):
    for seed in range(20):
        plain = race({"sync": 1.2, "pool:1": 1.0}, Noise(seed))
        scaled = race({"sync": 1.2 * scale, "pool:1": scale}, Noise(seed))
        assert scaled[0] == plain[0]
        assert scaled[1].rounds == plain[1].rounds


def test_taking_turns_withstands_a_drift_that_misleads_running_one_after_the_other():
    # Equally fast; the machine becomes faster all the while, so whoever runs last looks better.
    equals = {"sync": 1.0, "pool:1": 1.0}
    drift = {"drift": -0.2}
    misled = [one_after_the_other(equals, Noise(seed, **drift)) for seed in range(RACES)]
    assert misled.count("pool:1") / RACES > 0.9
    assert share_right("sync", equals, **drift) >= 0.95
    # The other way round it hides an advantage.
    unequal, drift = {"sync": ABOVE_TIE, "pool:1": 1.0}, {"drift": 0.2}
    misled = [one_after_the_other(unequal, Noise(seed, **drift)) for seed in range(RACES)]
    assert misled.count("sync") / RACES > 0.2
    assert share_right("pool:1", unequal, **drift) >= 0.95


@pytest.mark.parametrize(
    ("advantage", "share"), [pytest.param(1.0, 0.95, id="none"), pytest.param(1.02, 0.9, id="2 %")]
)
def test_of_those_within_5_percent_the_simpler_is_chosen(advantage, share):
    true_s = {"sync": advantage, "pool:0": 1.01, "pool:1": 1.0}
    assert share_right("sync", true_s, noise=0.02) >= share


def test_among_those_within_5_percent_the_order_given_decides():
    times_s = {"fast": [1.0] * 6, "as fast": [1.04] * 6, "slow": [1.2] * 6}
    for order in itertools.permutations(times_s):
        blocks_s = {mode: times_s[mode] for mode in order}
        assert choose(standing(blocks_s), blocks_s) == next(m for m in order if m != "slow")


@pytest.mark.parametrize(
    ("ratio", "chosen"), [(1.0, "sync"), (1.049, "sync"), (1.051, "pool:1"), (2.0, "pool:1")]
)
def test_the_line_of_a_tie_is_5_percent(ratio, chosen):
    blocks_s = {"sync": [ratio] * 8, "pool:1": [1.0] * 8}
    assert choose(standing(blocks_s), blocks_s) == chosen


# Who runs on, and when it is over


def test_a_hopeless_rival_is_dropped_after_two_rounds():
    for seed in range(50):
        _, result, blocks_s = race({"sync": 1.0, "pool:1": 1.05, "async": 5.0}, Noise(seed))
        assert len(blocks_s["async"]) == DROP_ROUNDS
        assert result.rounds > DROP_ROUNDS


def test_a_rival_beyond_the_tie_is_dropped_within_few_rounds():
    dropped = []
    for seed in range(RACES):
        _, result, blocks_s = race({"sync": 1.0, "pool:0": 1.0, "async": 1.35}, Noise(seed))
        dropped.append(len(blocks_s["async"]))
    assert sorted(dropped)[int(0.95 * RACES)] <= 5


def test_nobody_is_dropped_after_a_single_round():
    result = standing({"sync": [1.0], "pool:1": [1.01], "async": [50.0]})
    assert result.running == ("sync", "pool:1", "async")


@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_a_dropped_candidate_runs_no_more_and_never_leads_or_wins(outliers):
    true_s = {"sync": 1.25, "pool:0": 1.2, "pool:1": 1.1, "pool:3": 1.0, "async": 1.0, "ray": 3.0}
    for seed in range(50):
        noise, running = Noise(seed, outliers=outliers), tuple(true_s)
        blocks_s = {mode: [] for mode in true_s}
        for _ in range(MAX_ROUNDS):
            for mode in running:
                blocks_s[mode].append(noise.block(true_s[mode]))
            result = standing(blocks_s)
            assert set(result.running) <= set(running)
            assert {result.leader, choose(result, blocks_s)} <= set(running)
            running = result.running or running
            if result.over:
                break
        assert "ray" not in running


@pytest.mark.parametrize(("noise", "ends"), [(0.01, {True}), (NOISE, {True, False})])
def test_a_race_of_equals_ends_by_a_small_expected_loss_or_by_the_limit_of_rounds(noise, ends):
    results = [
        race({"sync": 1.0, "pool:1": 1.0}, Noise(seed, noise=noise))[1] for seed in range(50)
    ]
    assert {result.over for result in results} == ends
    for result in results:
        if result.over:
            assert result.expected_loss < STOP_LOSS
            assert result.rounds >= MIN_ROUNDS
        else:
            assert result.rounds == MAX_ROUNDS
    assert min(result.rounds for result in results) == MIN_ROUNDS or noise == NOISE


def test_a_race_does_not_end_while_it_is_open_whether_a_rival_is_tied():
    close = [1.05, 1.051, 1.049] * 5
    result = standing({"sync": close, "pool:1": [1.0] * 15})
    assert result.expected_loss < STOP_LOSS
    assert result.running == ("sync", "pool:1")


def test_a_close_race_and_a_smaller_expected_loss_take_more_rounds():
    def rounds(gap, stop_loss=STOP_LOSS):
        true_s = {"sync": gap, "pool:1": 1.0}
        return sum(race(true_s, Noise(seed), stop_loss)[1].rounds for seed in range(50))

    assert rounds(1.0, 0.001) > rounds(1.0, 0.02)
    assert rounds(1.3) < rounds(1.02) / 2


@pytest.mark.parametrize("rounds", [1, 2, 9])
def test_a_single_candidate_wins_at_once(rounds):
    blocks_s = {"sync": [1.0, 1.1, 0.9] * rounds}
    result = standing(blocks_s)
    assert result.over
    assert (result.leader, result.rivals, result.running) == ("sync", (), ())
    assert (result.expected_loss, result.p_best) == (0.0, 1.0)
    assert choose(result, blocks_s) == "sync"
    assert result.ratio_to_leader("sync") == 1.0


def test_rivals_and_runners_stand_in_the_order_given():
    blocks_s = {"c": [1.1, 1.0], "a": [1.0, 1.0], "b": [1.05, 1.1]}
    result = standing(blocks_s)
    assert result.leader == "a"
    assert [rival.mode for rival in result.rivals] == ["c", "b"]
    assert result.running == ("c", "a", "b")


def test_the_leader_is_surely_the_best_only_as_far_as_every_rival_is_surely_slower():
    result = standing({"a": [1.0] * 6, "b": [1.01] * 6, "c": [1.4] * 6})
    assert result.p_best == pytest.approx(result.rivals[0].p_slower)
    assert result.p_best < 0.9
    assert result.rivals[1].p_slower > 0.99


def test_how_surely_the_leader_is_the_best_is_no_more_than_it_is():
    right, told = 0, 0.0
    true_s = {"a": 1.0, "b": 1.01, "c": 1.02, "d": 1.03}
    for seed in range(RACES):
        noise = Noise(seed)
        blocks_s = {
            mode: [noise.block(time_s) for _ in range(6)] for mode, time_s in true_s.items()
        }
        result = standing(blocks_s)
        right += result.leader == "a"
        told += result.p_best
    assert told / RACES <= right / RACES


def test_who_leads_is_told_by_the_rounds_that_both_ran():
    # A slow round fell to the last of three; by its own times the one that loses looks faster.
    blocks_s = {"sync": [1.0, 2.0, 3.0], "pool:0": [2.5, 2.0 / 1.14, 3.0 / 1.14]}
    result = standing(blocks_s)
    assert result.leader == choose(result, blocks_s) == "pool:0"
    assert result.rivals[0].ratio.mid == pytest.approx(1.14)
    assert result.p_best > 0.5


# How a race spends its time


@pytest.mark.parametrize("rounds", [1, MIN_ROUNDS, 20])
def test_a_round_is_begun_that_ends_in_time(rounds):
    assert has_time(left_s=1.0, next_s=0.5, final_s=0.5, spent_s=0.0, rounds=rounds)
    assert not has_time(left_s=1.0, next_s=0.6, final_s=0.5, spent_s=1.0, rounds=rounds)
    assert not has_time(left_s=-1.0, next_s=0.6, final_s=0.5, spent_s=1.0, rounds=rounds)


def test_a_choice_that_is_not_sound_gets_its_rounds_where_they_take_little():
    little = {"left_s": -3.0, "next_s": 0.09, "final_s": 0.5, "spent_s": 0.1 / LITTLE}
    for rounds in range(1, MIN_ROUNDS):
        assert has_time(**little, rounds=rounds)
    assert not has_time(**little, rounds=MIN_ROUNDS)


@pytest.mark.parametrize(
    ("times_s", "running"),
    [
        ({"sync": 40.0, "thread:31": 1.3, "thread:63": 1.0}, ("thread:31", "thread:63")),
        ({"sync": 2.0, "thread:63": 1.0}, ("sync", "thread:63")),  # only in the warm-up
        ({"sync": 40.0, "thread:63": 1.0}, ()),  # so the race is over
    ],
)
def test_one_far_behind_twice_runs_no_more(times_s, running):
    blocks_s = {mode: [time_s] for mode, time_s in times_s.items()}
    assert standing(blocks_s).running == tuple(times_s)
    found = standing(blocks_s, far={"sync"})
    assert (found.running, found.leader) == (running, "thread:63")


# What two candidates are compared by, and what always holds


def test_the_expected_loss_falls_with_every_pair_of_rounds():
    pair = [math.exp(0.03), math.exp(-0.03)]
    losses = [compare("a", pair * n, [1.0] * 2 * n).expected_loss for n in range(1, 12)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2


def test_the_expected_loss_falls_with_the_rival_s_distance():
    losses = [compare("a", [1 + gap] * 5, [1.0] * 5).expected_loss for gap in (0, 0.01, 0.05, 0.2)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-6


def test_the_expected_loss_of_the_wrong_leader_is_at_least_what_it_loses():
    assert compare("a", [0.8] * 6, [1.0] * 6).expected_loss >= -math.log(0.8)


def test_two_rounds_that_agree_by_chance_do_not_pass_for_certainty():
    found = compare("a", [1.03, 1.03], [1.0, 1.0])
    assert found.p_slower < 0.9
    assert found.ratio.low < 1 < found.ratio.high


def test_only_rounds_in_which_both_ran_are_compared():
    found = compare("a", [1.2, 1.2], [1.0, 1.0, 5.0, 5.0])
    assert found.rounds == 2
    assert found.ratio.mid == pytest.approx(1.2)
    assert found == compare("a", [1.2, 1.2], [1.0, 1.0])


def test_one_outlier_does_not_move_the_ratio():
    plain = compare("a", [1.1] * 7, [1.0] * 7)
    for place in range(7):
        blocks = [1.1] * 7
        blocks[place] *= 2
        found = compare("a", blocks, [1.0] * 7)
        assert found.ratio.mid == plain.ratio.mid
        assert found.ratio.high > plain.ratio.high


def test_what_slows_a_whole_round_cancels():
    storm = [1.0, 3.0, 0.5, 1.7, 2.2, 1.0]
    calm = compare("a", [1.1] * 6, [1.0] * 6)
    found = compare("a", [1.1 * s for s in storm], storm)
    assert found.ratio.mid == pytest.approx(calm.ratio.mid)
    assert found.expected_loss == pytest.approx(calm.expected_loss)


def test_equal_blocks_still_leave_some_error():
    assert standard_error([0.1] * 5) > MIN_SPREAD / math.sqrt(5)
    assert standard_error([0.1]) > standard_error([0.1] * 2) > standard_error([0.1] * 20) > 0


def test_the_interval_covers_the_truth_in_nine_of_ten_races():
    hits = 0
    for seed in range(RACES):
        noise = Noise(seed)
        rival = [noise.block(1.1) for _ in range(10)]
        leader = [noise.block(1.0) for _ in range(10)]
        found = compare("a", rival, leader).ratio
        hits += found.low <= 1.1 <= found.high
    assert hits / RACES >= 0.9


times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12)
pairs = st.lists(st.tuples(st.floats(1e-4, 1e3), st.floats(1e-4, 1e3)), min_size=1, max_size=12)
close_times = st.floats(0.8, 1.25)
races = st.integers(1, 10).flatmap(
    lambda rounds: st.dictionaries(
        st.sampled_from(["sync", "pool:0", "pool:1", "pool:3", "async", "thread"]),
        st.lists(close_times, min_size=rounds, max_size=rounds),
        min_size=1,
    )
)


@relaxed
@given(pairs)
def test_comparing_both_ways_round_says_the_same(values):
    one, other = ([pair[i] for pair in values] for i in (0, 1))
    there, back = compare("a", one, other), compare("b", other, one)
    assert there.ratio.mid == pytest.approx(1 / back.ratio.mid)
    assert there.ratio.low == pytest.approx(1 / back.ratio.high)
    assert there.ratio.high == pytest.approx(1 / back.ratio.low)
    assert there.p_slower == pytest.approx(1 - back.p_slower, abs=1e-9)
    assert there.rounds == back.rounds
    # Changing sides is worth just what lies between the two.
    gain = back.expected_loss - there.expected_loss
    assert gain == pytest.approx(math.log(there.ratio.mid), abs=1e-9)


@relaxed
@given(pairs)
def test_a_comparison_is_sound(values):
    found = compare("a", *([pair[i] for pair in values] for i in (0, 1)))
    assert 0 < found.ratio.low < found.ratio.mid < found.ratio.high
    assert 0 <= found.p_slower <= 1
    assert found.expected_loss >= -1e-12
    if abs(found.ratio.mid - 1) > 1e-9:  # rounding decides between equals
        assert (found.p_slower >= 0.5) == (found.ratio.mid >= 1)


@relaxed
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_rounds_does_not_matter_to_a_comparison(values, shuffler):
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    results = [
        compare("a", *([pair[i] for pair in some] for i in (0, 1))) for some in (values, shuffled)
    ]
    assert results[0] == results[1]


@relaxed
@given(races, st.integers(-30, 30))
def test_scaling_all_times_by_a_power_of_two_changes_nothing_at_all(blocks_s, power):
    scaled = {mode: [t * 2.0**power for t in blocks] for mode, blocks in blocks_s.items()}
    assert standing(scaled) == standing(blocks_s)
    assert choose(standing(scaled), scaled) == choose(standing(blocks_s), blocks_s)


@relaxed
@given(races)
def test_a_standing_is_sound(blocks_s):
    result = standing(blocks_s)
    assert {result.leader, *(rival.mode for rival in result.rivals)} == set(blocks_s)
    assert len(result.rivals) == len(blocks_s) - 1
    assert result.over == (not result.running)
    assert not result.running or result.leader in result.running
    assert list(result.running) == [mode for mode in blocks_s if mode in result.running]
    assert result.rounds == len(blocks_s[result.leader])
    assert 0 <= result.p_best <= 1
    finished = {mode: times for mode, times in blocks_s.items() if len(times) == result.rounds}
    unbeaten = [
        mode
        for mode in finished
        if all(compare("", other, finished[mode]).p_slower >= 0.5 for other in finished.values())
    ]
    assert not unbeaten or result.leader in unbeaten
    assert result.p_best <= min(
        (rival.p_slower for rival in result.rivals if rival.mode in finished), default=1.0
    )
    assert result.expected_loss >= -1e-12


@relaxed
@given(races)
def test_the_choice_is_within_the_tie_and_nothing_simpler_is(blocks_s):
    result = standing(blocks_s)
    chosen = choose(result, blocks_s)
    assert result.ratio_to_leader(chosen) <= 1 + TIE
    for mode in blocks_s:
        if mode == chosen:
            break
        assert result.ratio_to_leader(mode) > 1 + TIE


@relaxed
@given(times)
def test_the_interval_of_a_median_holds_it(values):
    found = median_interval(values)
    assert 0 < found.low < found.mid < found.high
    assert min(values) * (1 - 1e-9) <= found.mid <= max(values) * (1 + 1e-9)


@settings(relaxed, max_examples=50)
@given(times, st.integers(-20, 20))
def test_the_interval_of_a_median_scales(values, power):
    found = median_interval(values)
    scaled = median_interval([value * 2.0**power for value in values])
    for name in ("mid", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(getattr(found, name) * 2.0**power)
