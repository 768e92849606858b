"""The race: who runs next, when it is over, and who wins. Times come from a seeded generator."""

import itertools

import pytest

from tests.weather import (
    A_GAP,
    ABOVE_TIE,
    MAX_ROUNDS,
    RACES,
    Weather,
    one_after_the_other,
    race,
    share_right,
)
from vecselect.selection.compare import (
    compare,
)
from vecselect.selection.race import (
    DROP_ROUNDS,
    HYSTERESIS,
    MIN_ROUNDS,
    STOP_LOSS,
    choose,
    order_of_round,
    standing,
)

# The order of a round


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("number", range(12))
def test_everyone_runs_once_a_round(count, number):
    modes = [f"pool:{k}" for k in range(count)]
    assert sorted(order_of_round(modes, number)) == modes


@pytest.mark.parametrize("number", range(0, 12, 2))
@pytest.mark.parametrize("modes", ["ab", "abc", "abcdef"])
def test_every_second_round_runs_backwards(number, modes):
    assert order_of_round(modes, number + 1) == order_of_round(modes, number)[::-1]


def test_nobody_runs_right_after_another_more_often_than_before_it():
    pairs = [
        pair for number in range(40) for pair in itertools.pairwise(order_of_round("abcd", number))
    ]
    for one, other in itertools.combinations("abcd", 2):
        assert pairs.count((one, other)) == pairs.count((other, one)) > 0


def test_pairs_of_rounds_differ_in_their_order():
    orders = {tuple(order_of_round("abcd", number)) for number in range(0, 40, 2)}
    assert len(orders) > 5


def test_who_runs_first_changes():
    first = [order_of_round("abcd", number)[0] for number in range(40)]
    assert set(first) == set("abcd")


def test_the_order_is_the_same_each_time_it_is_asked_for():
    assert [order_of_round("abcd", n) for n in range(9)] == [
        order_of_round("abcd", n) for n in range(9)
    ]


def test_the_given_order_is_left_as_it_was():
    modes = ["a", "b", "c"]
    for number in range(6):
        order_of_round(modes, number)
    assert modes == ["a", "b", "c"]


# The right choice, often enough


@pytest.mark.parametrize(
    "weather",
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
def test_the_best_is_chosen_in_95_of_100_races(right, true_s, weather):
    assert share_right(right, true_s, **weather) >= 0.95


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1e3])
def test_the_unit_of_time_does_not_matter_to_a_whole_race(scale):
    for seed in range(20):
        plain = race({"sync": 1.2, "pool:1": 1.0}, Weather(seed))
        scaled = race({"sync": 1.2 * scale, "pool:1": scale}, Weather(seed))
        assert scaled[0] == plain[0]
        assert scaled[1].rounds == plain[1].rounds


def test_taking_turns_withstands_a_drift_that_misleads_running_one_after_the_other():
    # Equally fast; the machine becomes faster all the while, so whoever runs last looks better.
    equals = {"sync": 1.0, "pool:1": 1.0}
    drift = {"drift": -0.2}
    misled = [one_after_the_other(equals, Weather(seed, **drift)) for seed in range(RACES)]
    assert misled.count("pool:1") / RACES > 0.9
    assert share_right("sync", equals, **drift) >= 0.95
    # The other way round it hides an advantage.
    unequal, drift = {"sync": ABOVE_TIE, "pool:1": 1.0}, {"drift": 0.2}
    misled = [one_after_the_other(unequal, Weather(seed, **drift)) for seed in range(RACES)]
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
        _, result, blocks_s = race({"sync": 1.0, "pool:1": 1.05, "async": 5.0}, Weather(seed))
        assert len(blocks_s["async"]) == DROP_ROUNDS
        assert result.rounds > DROP_ROUNDS


def test_a_rival_beyond_the_tie_is_dropped_within_few_rounds():
    dropped = []
    for seed in range(RACES):
        _, result, blocks_s = race({"sync": 1.0, "pool:0": 1.0, "async": 1.35}, Weather(seed))
        dropped.append(len(blocks_s["async"]))
    assert sorted(dropped)[int(0.95 * RACES)] <= 5


def test_nobody_is_dropped_after_a_single_round():
    result = standing({"sync": [1.0], "pool:1": [1.01], "async": [50.0]})
    assert result.running == ("sync", "pool:1", "async")


def test_who_is_dropped_runs_no_more():
    for seed in range(20):
        blocks_s = {"sync": [], "pool:1": [], "pool:3": [], "async": []}
        true_s = {"sync": 1.0, "pool:1": 1.03, "pool:3": 1.2, "async": 3.0}
        weather, running, seen = Weather(seed), tuple(true_s), set()
        for _ in range(MAX_ROUNDS):
            for mode in running:
                blocks_s[mode].append(weather.block(true_s[mode]))
            before, running = set(running), standing(blocks_s).running
            assert set(running) <= before
            seen |= before - set(running)
            assert not seen & set(running)
        assert "async" in seen


def a_late_bloomer(dropped_s):
    """Rounds in which `dropped` is left behind before a slow starter turns out to be the best."""
    true_s = {
        "dropped": dropped_s,
        "steady": itertools.repeat(1.0),
        "late": itertools.chain([1.25, 1.05, 1.15], itertools.repeat(0.9)),
    }
    blocks_s = {mode: [] for mode in true_s}
    times = {mode: iter(values) for mode, values in true_s.items()}
    running = tuple(true_s)
    while running and len(blocks_s["steady"]) < MAX_ROUNDS:
        for mode in running:
            blocks_s[mode].append(next(times[mode]))
        result = standing(blocks_s)
        running = result.running
    return result, blocks_s


def test_a_dropped_candidate_never_wins():
    result, blocks_s = a_late_bloomer(itertools.repeat(1.2))
    assert len(blocks_s["dropped"]) == 3
    assert result.leader == "late"
    assert choose(result, blocks_s) == "late"


def test_in_no_race_wins_who_was_dropped():
    true_s = {"sync": 1.25, "pool:0": 1.2, "pool:1": 1.1, "pool:3": 1.0, "async": 1.0}
    for seed in range(RACES):
        chosen, result, blocks_s = race(true_s, Weather(seed))
        assert len(blocks_s[chosen]) == result.rounds


def test_a_dropped_candidate_never_leads():
    for seed in range(RACES):
        true_s = {"sync": 1.25, "pool:0": 1.2, "pool:1": 1.1, "pool:3": 1.0, "async": 1.0}
        _, result, blocks_s = race(true_s, Weather(seed, outliers=0.1))
        assert len(blocks_s[result.leader]) == result.rounds


def test_a_race_of_equals_ends_early_where_the_machine_is_calm():
    rounds = [
        race({"sync": 1.0, "pool:1": 1.0}, Weather(seed, noise=0.01))[1].rounds
        for seed in range(50)
    ]
    assert max(rounds) < MAX_ROUNDS
    assert min(rounds) == MIN_ROUNDS


def test_a_race_of_equals_is_ended_by_a_small_expected_loss_or_by_the_limit_of_rounds():
    ends = []
    for seed in range(50):
        _, result, _ = race({"sync": 1.0, "pool:1": 1.0}, Weather(seed))
        assert result.over or result.rounds == MAX_ROUNDS
        if result.over:
            assert result.expected_loss < STOP_LOSS
            assert result.rounds >= MIN_ROUNDS
        ends.append(result.over)
    assert set(ends) == {True, False}


def test_a_race_does_not_end_while_it_is_open_whether_a_rival_is_tied():
    close = [1.05, 1.051, 1.049] * 5
    result = standing({"sync": close, "pool:1": [1.0] * 15})
    assert result.expected_loss < STOP_LOSS
    assert result.running == ("sync", "pool:1")


def test_a_smaller_expected_loss_takes_more_rounds():
    rounds = {
        stop_loss: sum(
            race({"sync": 1.0, "pool:1": 1.0}, Weather(seed), stop_loss=stop_loss)[1].rounds
            for seed in range(50)
        )
        for stop_loss in (0.001, 0.02)
    }
    assert rounds[0.001] > rounds[0.02]


def test_the_clear_race_is_shorter_than_the_close_one():
    rounds = {
        gap: sum(race({"sync": gap, "pool:1": 1.0}, Weather(seed))[1].rounds for seed in range(50))
        for gap in (1.02, 1.3)
    }
    assert rounds[1.3] < rounds[1.02] / 2


@pytest.mark.parametrize("rounds", [1, 2, 9])
def test_a_single_candidate_wins_at_once(rounds):
    blocks_s = {"sync": [1.0, 1.1, 0.9] * rounds}
    result = standing(blocks_s)
    assert result.over
    assert (result.leader, result.rivals, result.running) == ("sync", (), ())
    assert (result.expected_loss, result.p_best) == (0.0, 1.0)
    assert choose(result, blocks_s) == choose(result, blocks_s, incumbent="pool:1") == "sync"
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
        weather = Weather(seed)
        blocks_s = {
            mode: [weather.block(time_s) for _ in range(6)] for mode, time_s in true_s.items()
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


# What was remembered


@pytest.mark.parametrize(
    ("incumbent_s", "chosen"),
    [
        pytest.param(1.0, "pool:1", id="as fast"),
        pytest.param(1.08, "pool:1", id="8 % slower"),
        pytest.param(1.2, "sync", id="20 % slower"),
    ],
)
def test_what_was_remembered_is_kept_unless_another_is_10_percent_better(incumbent_s, chosen):
    blocks_s = {"sync": [1.0] * 12, "pool:1": [incumbent_s] * 12}
    assert choose(standing(blocks_s), blocks_s, incumbent="pool:1") == chosen
    assert choose(standing(blocks_s), blocks_s) == "sync"


def test_what_was_remembered_is_kept_though_it_is_not_the_simplest_of_the_tied():
    blocks_s = {"sync": [1.02] * 12, "pool:1": [1.0] * 12, "pool:3": [1.03] * 12}
    for incumbent in blocks_s:
        assert choose(standing(blocks_s), blocks_s, incumbent) == incumbent


def test_what_was_remembered_is_kept_while_it_is_not_sure_that_another_is_better():
    blocks_s = {"sync": [1.0] * 4, "pool:1": [1.5, 0.8, 1.5, 0.8]}
    assert compare("pool:1", blocks_s["pool:1"], blocks_s["sync"]).ratio.mid > 1 + HYSTERESIS / 2
    assert choose(standing(blocks_s), blocks_s, incumbent="pool:1") == "pool:1"


def test_what_was_remembered_but_does_not_run_counts_for_nothing():
    blocks_s = {"sync": [1.0] * 6, "pool:1": [1.5] * 6}
    assert choose(standing(blocks_s), blocks_s, incumbent="async") == "sync"


@pytest.mark.parametrize("incumbent", ["sync", "pool:1"])
def test_what_takes_20_percent_longer_is_replaced_in_95_of_100_races(incumbent):
    other = {"sync": "pool:1", "pool:1": "sync"}[incumbent]
    true_s = {mode: 1.2 if mode == incumbent else 1.0 for mode in ("sync", "pool:1")}
    chosen = [race(true_s, Weather(seed), incumbent)[0] for seed in range(RACES)]
    assert chosen.count(other) / RACES >= 0.95


@pytest.mark.parametrize("incumbent", ["sync", "pool:1"])
def test_what_takes_8_percent_longer_is_kept_in_4_of_5_races(incumbent):
    true_s = {mode: 1.08 if mode == incumbent else 1.0 for mode in ("sync", "pool:1")}
    chosen = [race(true_s, Weather(seed), incumbent)[0] for seed in range(RACES)]
    assert chosen.count(incumbent) / RACES >= 0.8


def test_what_takes_8_percent_longer_is_kept_where_the_machine_is_calm():
    true_s = {"sync": 1.0, "pool:1": 1.08}
    chosen = [race(true_s, Weather(seed, noise=0.01), "pool:1")[0] for seed in range(RACES)]
    assert chosen.count("pool:1") / RACES >= 0.9
