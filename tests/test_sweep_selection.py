"""What a sweep measures and says: pure functions, fed with made-up throughputs."""

import dataclasses

import numpy as np
import pytest

from tests.plans import PROFILE
from tests.records import a_machine
from tests.sweeps import point, points
from vecselect.options import SIZES, read_sweep_options
from vecselect.selection.sweep import (
    Costs,
    another_text,
    best,
    diminishing,
    extrapolate,
    fastest_by_number,
    proposed,
    returns_text,
    timed_point,
    winners_text,
)

GROWING = {1: 100.0, 2: 190.0, 4: 350.0, 8: 600.0}
FLAT = {1: 100.0, 2: 180.0, 4: 185.0, 8: 190.0}


def test_the_best_has_the_most_env_steps():
    found = best(points({"sync": GROWING, "pool:1": {4: 900.0, 8: 1500.0}}))
    assert (found.mode, found.num_envs) == ("pool:1", 8)


def test_within_5_percent_the_simpler_mode_and_then_the_smaller_number_is_the_best():
    found = best(points({"pool:1": {4: 1040.0, 8: 1000.0}, "sync": {4: 990.0, 8: 1000.0}}))
    assert (found.mode, found.num_envs) == ("sync", 8)
    found = best(points({"sync": {4: 960.0, 8: 970.0, 16: 1000.0}}))
    assert found.num_envs == 4
    found = best(points({"sync": {4: 940.0, 8: 1000.0}}))
    assert found.num_envs == 8


def test_another_implementation_is_the_best_only_where_it_is_named_or_alone():
    found = points({"sync": {1: 100.0}, "native": {1: 900.0}})
    assert best(found).mode == "sync"
    assert best(found, ["native"]).mode == "native"
    assert best(points({"native": {1: 900.0}})).mode == "native"
    assert "native x 1 gives 9 times" in another_text(found)
    assert another_text(found, ["native"]) is None
    assert another_text(points({"sync": {1: 100.0}, "native": {1: 105.0}})) is None


def test_of_nothing_measured_nothing_is_the_best():
    skipped = (point("sync", 1, None, skipped="it raised"),)
    assert best(skipped) is None
    assert fastest_by_number(skipped) == {}
    assert diminishing(skipped, "sync") is None
    assert returns_text(skipped, "sync") is None
    assert winners_text(skipped) is None


@pytest.mark.parametrize(
    ("curve", "number"),
    [
        (GROWING, None),
        (FLAT, 2),
        ({1: 100.0, 2: 109.0, 4: 112.0}, 1),
        ({1: 100.0, 4: 120.0, 16: 140.0}, 1),  # four times as many: less than 1.1 squared
        ({1: 100.0, 4: 122.0}, None),
        ({1: 100.0, 2: 190.0, 4: 150.0, 8: 200.0}, 2),  # a busy moment at 4
        ({1: 100.0, 2: 190.0, 4: 100.0}, 2),
        ({8: 100.0}, None),
    ],
)
def test_returns_diminish_from_where_no_larger_number_gives_10_percent_a_doubling(curve, number):
    assert diminishing(points({"sync": curve}), "sync") == number


def test_what_returns_diminish_by_is_said_in_a_sentence():
    flat, growing = points({"sync": FLAT}), points({"pool:1": GROWING})
    assert (
        returns_text(flat, "sync")
        == "Returns diminish from 2 on with sync: doubling from 2 to 4 gives 3 % more."
    )
    assert "do not diminish yet with pool:1: doubling from 4 to 8 gives 71 % more" in (
        returns_text(growing, "pool:1")
    )
    falling = points({"sync": {1: 100.0, 4: 80.0}})
    assert returns_text(falling, "sync").endswith("going from 1 to 4 gives 20 % less.")


def test_a_gain_passes_over_what_was_not_measured():
    found = (*points({"sync": {1: 100.0, 4: 300.0}}), point("sync", 2, None, skipped="memory"))
    assert "going from 1 to 4 gives 200 % more" in returns_text(found, "sync")


def test_which_mode_to_take_by_number():
    modes = {"sync": {1: 100.0, 2: 110.0, 4: 120.0}, "pool:1": {2: 150.0, 4: 200.0}}
    assert winners_text(points(modes)) == "What to take by number: sync with 1, pool:1 from 2 on."
    assert winners_text(points({"sync": GROWING})) is None
    back = {"sync": {1: 100.0, 2: 100.0, 4: 300.0}, "pool:1": {1: 50.0, 2: 150.0, 4: 200.0}}
    assert winners_text(points(back)).endswith("sync with 1, pool:1 with 2, sync with 4.")
    back["pool:1"][8], back["sync"][8] = 900.0, 100.0
    assert winners_text(points(back)) is None  # by chance, it seems


def test_a_point_of_blocks_has_the_median_throughput_without_the_learner_in_its_step():
    found = timed_point(
        "sync", 4, 10, [0.2, 0.1, 0.1], [0.05, 0.05, 0.05], memory_bytes=None, build_s=None
    )
    assert found.env_steps_per_s.mid == pytest.approx(40)
    assert found.env_steps_per_s.low < 40 < found.env_steps_per_s.high
    assert found.vector_step_s == pytest.approx(0.05)
    assert found.blocks_s == (0.2, 0.1, 0.1)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({}, 16.0),  # the guess
        ({4: 10.0}, 22.0),  # what was seen, and what the guess grows by
        ({1: 1.0}, 16.0),  # no more than in proportion
        ({2: 10.0, 4: 12.0}, 24.0),
        ({1: 99.0, 2: 10.0, 4: 12.0}, 24.0),  # the two largest
        ({2: 12.0, 4: 10.0}, 10.0),
        ({4: 10.0, 32: 99.0}, 22.0),
    ],
)
def test_what_was_seen_is_carried_on_to_larger_numbers(seen, expected):
    assert extrapolate(seen, 16, float) == expected


def test_without_a_guess_it_grows_in_proportion():
    assert extrapolate({4: 10.0}, 16, None) == 40.0
    assert extrapolate({}, 16, None) == 0.0
    assert extrapolate({4: 10.0}, 16, lambda number: 3.0) == 10.0


def test_the_most_expensive_points_are_left_out_until_the_others_fit():
    seconds = {("async", 8): 4.0, ("sync", 8): 0.6, ("pool:1", 8): 40.0}
    found = {
        (mode, 4): point(mode, 4, 100.0, build_s=each_s / 2)
        for (mode, _), each_s in seconds.items()
    }
    costs = Costs(found, a_machine(), None)

    def left_out(left_s):
        return set(costs.too_long(list(seconds), left_s, 10.0))

    assert left_out(100.0) == set()
    assert left_out(12.0) == {("pool:1", 8)}
    assert left_out(4.0) == {("pool:1", 8), ("async", 8)}
    assert left_out(0.0) == {("pool:1", 8), ("async", 8)}  # nothing is timed yet
    found["sync", 4] = point("sync", 4, 100.0, build_s=0.3, blocks_s=(1e-9,))
    assert left_out(0.0) == set(seconds)
    assert costs.too_long([], 0.0, 10.0) == {}


def test_what_a_point_takes_is_learned_from_the_smaller_ones():
    found = {}
    costs = Costs(found, a_machine(), None)
    assert (costs.seconds(("sync", 4)), costs.bytes(("sync", 4))) == (0.0, 0.0)
    found["sync", 2] = point("sync", 2, 100.0, build_s=0.5, blocks_s=(0.02, 0.03))
    assert costs.seconds(("sync", 4)) == pytest.approx(2 * (0.5 + 4 * 0.02))
    assert costs.bytes(("sync", 4)) == 64e6
    assert costs.seconds(("async", 4)) == 0.0
    assert costs.too_long([("sync", 4)], 10.0, 10.0) == {}
    why = costs.too_long([("sync", 4), ("sync", 8)], 1.0, 10.0)["sync", 8]
    assert "takes about 2.3 s, too much of the 10 s that the sweep may take; a budget of" in why
    assert list(costs.too_large([("sync", 2), ("sync", 64)], 1e9)) == [("sync", 64)]
    found["async", 2] = point("async", 2, 100.0, memory_bytes=700_000_000)
    assert costs.fit_together(["sync", "async"], 2, 1e9)
    assert not costs.fit_together(["sync", "async"], 2, 0.9e9)


def test_of_what_is_over_each_number_gets_the_same():
    costs = Costs({}, a_machine(), None)
    open_points = [("sync", 2), ("async", 2), ("sync", 4)]
    assert costs.share_s(["sync", "async"], 2, open_points, 10.8) == pytest.approx(5.0)
    assert costs.share_s(["sync"], 2, open_points, 10.8) == pytest.approx(2.5)
    assert costs.share_s(["sync"], 4, open_points, 0.1) == 0.0


@pytest.mark.parametrize(
    ("cores", "num_envs", "pools"),
    [(1.0, 8, ["pool:0"]), (2.0, 8, ["pool:0", "pool:1"]), (2.0, 1, ["pool:0"])],
)
def test_pools_of_no_worker_half_and_all_cores_are_proposed(cores, num_envs, pools):
    modes = proposed(num_envs, a_machine(cores), None)
    assert list(modes) == ["sync", *pools, "async", "native"]


def test_where_steps_wait_pools_with_more_lanes_than_cores_are_proposed():
    waiting = dataclasses.replace(PROFILE, off_cpu_fraction=0.9)
    modes = proposed(64, a_machine(4.0), waiting)
    pools = ("pool:0", "pool:1", "pool:3", "pool:15", "pool:63")
    assert modes == ("sync", *pools, "async", "thread:63", "native")


def test_what_the_user_says_is_sorted_and_has_its_defaults():
    options = read_sweep_options(np.int64(4), ["async", "sync", "sync"], None, None, print)
    assert (options.num_envs, options.modes, options.budget_s) == ((4,), ("sync", "async"), 25.0)
    assert read_sweep_options(SIZES, None, 3, None, print).num_envs == SIZES
