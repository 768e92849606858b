"""What the cost model says of mode `ray`, without any Ray."""

import dataclasses

import pytest
from vecselect.selection.costs import RayCosts
from vecselect.selection.estimate import estimate
from vecselect.selection.situation import Situation

from tests.records import FREE_LOOPS, MS, a_calibration, a_machine, a_profile
from vecselect import RequestError, recommend

COSTS = RayCosts(fixed_s=0.2 * MS, lane_s=1.0 * MS, lanes=16, cores=16.0)


def said(step_s, modes=("sync", "pool:1", "ray:4", "ray:16"), costs=COSTS):
    calibration = a_calibration(cores=2.0)
    return estimate(modes, a_profile(step_s), calibration, FREE_LOOPS, 64, ray=costs)


def test_a_cluster_wins_where_steps_are_long_and_the_caller_limits_where_they_are_short():
    long, short = said(10 * MS), said(0.05 * MS)
    assert long.mode == "ray:16"
    assert long.of("ray:16").mid == pytest.approx(4 * 10 * MS + 16.2 * MS)
    assert short.mode == "pool:1"


def test_what_travels_counts_for_each_sub_environment():
    heavy = dataclasses.replace(COSTS, env_s=0.5 * MS)
    light_s, heavy_s = (said(10 * MS, costs=costs).of("ray:16").mid for costs in (COSTS, heavy))
    assert heavy_s - light_s == pytest.approx(64 * 0.5 * MS)


def test_the_break_even_is_where_the_best_number_of_lanes_takes_as_long_as_sync():
    from_s = said(10 * MS).break_even_s["ray"]
    # 4 lanes save 48 of 64 steps and cost 4.2 ms; 16 lanes save 60 and cost 16.2 ms.
    assert from_s == pytest.approx(4.2 * MS / 48, rel=0.01)
    assert "ray" not in said(10 * MS, ("sync", "pool:1")).break_even_s


def test_the_candidates_are_all_lanes_there_is_room_for_and_half_of_them():
    situation = Situation(
        a_profile(1 * MS), a_calibration(), FREE_LOOPS, a_machine(), 12, names=("ray",), ray=COSTS
    )
    assert situation.modes() == ["ray:6", "ray:12"]


def test_nothing_is_said_of_it_unless_it_is_allowed():
    plan = recommend("CartPole-v1", 2, effort="rule", use_store=False)
    assert "ray" not in [candidate.mode for candidate in plan.candidates]
    with pytest.raises(RequestError, match="There is no mode to allow 'rey'"):
        recommend("CartPole-v1", 2, allow=("rey",))
