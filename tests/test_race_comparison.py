"""What two candidates of a race are compared by, and what always holds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weather import RACES, Weather, relaxed
from vecselect.selection.compare import (
    MIN_SPREAD,
    compare,
    median_interval,
    standard_error,
)
from vecselect.selection.race import (
    TIE,
    choose,
    standing,
)


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
        weather = Weather(seed)
        rival = [weather.block(1.1) for _ in range(10)]
        leader = [weather.block(1.0) for _ in range(10)]
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
@given(races, st.integers(-30, 30), st.sampled_from([None, "sync", "pool:1"]))
def test_scaling_all_times_by_a_power_of_two_changes_nothing_at_all(blocks_s, power, incumbent):
    scaled = {mode: [t * 2.0**power for t in blocks] for mode, blocks in blocks_s.items()}
    assert standing(scaled) == standing(blocks_s)
    plain = choose(standing(blocks_s), blocks_s, incumbent)
    assert choose(standing(scaled), scaled, incumbent) == plain


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
@given(races, st.sampled_from(["sync", "pool:0", "pool:1"]))
def test_the_choice_is_what_was_remembered_or_what_it_would_be_without(blocks_s, incumbent):
    result = standing(blocks_s)
    assert choose(result, blocks_s, incumbent) in {incumbent, choose(result, blocks_s)}


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
