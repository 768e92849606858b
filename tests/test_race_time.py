"""How a race spends its time: long blocks, further rounds, and those that are far behind."""

import pytest

from vecselect.selection.race import (
    FAR_BEHIND,
    LITTLE,
    MIN_ROUNDS,
    has_time,
    standing,
    steps_of_blocks,
)


def test_blocks_are_as_long_as_the_fastest_takes_for_the_time():
    assert steps_of_blocks({"sync": 0.002, "pool:1": 0.001}, 0.025) == {"sync": 25, "pool:1": 25}


def test_blocks_are_of_two_vector_steps_at_least():
    assert steps_of_blocks({"sync": 2.0, "pool:1": 1.0}, 0.025) == {"sync": 2, "pool:1": 2}


def test_one_far_behind_has_blocks_no_longer_in_time_than_the_slowest_of_the_others():
    steps = steps_of_blocks({"sync": 0.04, "pool:0": 0.0039, "pool:1": 0.001}, 0.02)
    assert steps == {"sync": 2, "pool:0": 20, "pool:1": 20}


@pytest.mark.parametrize("times", [FAR_BEHIND * 1.01, 10.0, 1e6])
def test_one_far_behind_makes_a_vector_step_at_least(times):
    steps = steps_of_blocks({"sync": times, "pool:1": 1.0}, 0.025)
    assert 1 <= steps["sync"] < steps["pool:1"] == 2


def test_the_unit_of_time_does_not_matter_to_the_length_of_blocks():
    plain = steps_of_blocks({"sync": 300.0, "thread:7": 30.0, "thread:63": 7.0}, 25.0)
    scaled = steps_of_blocks({"sync": 0.3, "thread:7": 0.03, "thread:63": 0.007}, 0.025)
    assert plain == scaled


def test_a_round_that_ends_in_time_is_begun():
    for rounds in (1, MIN_ROUNDS, 20):
        assert has_time(left_s=1.0, next_s=0.5, final_s=0.5, spent_s=0.0, rounds=rounds)


def test_a_round_that_ends_too_late_is_not():
    assert not has_time(left_s=1.0, next_s=0.6, final_s=0.5, spent_s=1.0, rounds=1)
    assert not has_time(left_s=-1.0, next_s=0.6, final_s=0.5, spent_s=1.0, rounds=1)


def test_a_choice_that_is_not_sound_gets_its_rounds_where_they_take_little():
    little = {"left_s": -3.0, "next_s": 0.09, "final_s": 0.5, "spent_s": 0.1 / LITTLE}
    for rounds in range(1, MIN_ROUNDS):
        assert has_time(**little, rounds=rounds)
    assert not has_time(**little, rounds=MIN_ROUNDS)


def test_one_far_behind_twice_runs_no_more():
    blocks_s = {"sync": [40.0], "thread:31": [1.3], "thread:63": [1.0]}
    assert standing(blocks_s).running == ("sync", "thread:31", "thread:63")
    assert standing(blocks_s, far={"sync"}).running == ("thread:31", "thread:63")


def test_one_far_behind_only_in_the_warm_up_runs_on():
    blocks_s = {"sync": [2.0], "thread:63": [1.0]}
    assert standing(blocks_s, far={"sync"}).running == ("sync", "thread:63")


def test_where_all_others_are_far_behind_the_race_is_over():
    found = standing({"sync": [40.0], "thread:63": [1.0]}, far={"sync"})
    assert found.over
    assert found.leader == "thread:63"
