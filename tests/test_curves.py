"""The numbers behind the plots: throughput along two axes, histograms, a race round by round."""

import dataclasses
import math

import pytest

from tests import plans
from tests.plans import CALIBRATION, ESTIMATED, PROFILE, RACE
from vecselect.selection.costs import LoopCosts
from vecselect.selection.curves import histogram, over_num_envs, over_step_time, race_ratios
from vecselect.selection.situation import Situation

MACHINE = dataclasses.replace(plans.MACHINE, cores=2.0)
FAST = dataclasses.replace(
    PROFILE,
    step_time_s=1e-5,
    wait_share=0.0,
    reset_share=0.0,
    episode_steps=None,
    step_times_s=(1e-5,),
    reset_times_s=(),
)
SITUATION = Situation(
    FAST, dataclasses.replace(CALIBRATION, effective_cores=2.0), LoopCosts(1.4e-5, 9e-6, 4e-6),
    MACHINE, 8,
)  # fmt: skip


def test_throughput_over_step_time_goes_through_what_is_predicted_now():
    curves = over_step_time(SITUATION, "pool:1")
    assert curves.step_time_s == pytest.approx(1e-5)
    assert {line.mode for line in curves.lines} == {"sync", "async", "pool:1"}
    now = SITUATION.estimate()
    for line in curves.lines:
        place = line.at.index(curves.step_time_s)
        loop_s = now.of(line.mode).mid
        assert line.env_steps_per_s[place] == pytest.approx(8 / loop_s, rel=1e-6)


def test_slower_steps_never_give_more_throughput():
    for line in over_step_time(SITUATION, "sync").lines:
        assert list(line.at) == sorted(line.at)
        assert list(line.env_steps_per_s) == sorted(line.env_steps_per_s, reverse=True)


def test_a_crossing_is_where_two_modes_take_as_long():
    (crossing,) = [
        one for one in over_step_time(SITUATION, "sync").crossings if one.mode == "async"
    ]
    there = SITUATION.with_step_time(crossing.step_time_s).estimate()
    assert there.of("async").mid == pytest.approx(there.of("sync").mid, rel=0.05)
    assert crossing.env_steps_per_s == pytest.approx(8 / there.of("sync").mid, rel=0.05)


def test_one_core_has_no_crossing():
    situation = dataclasses.replace(
        SITUATION,
        machine=dataclasses.replace(MACHINE, cores=1.0),
        calibration=dataclasses.replace(CALIBRATION, effective_cores=1.0),
    )
    assert over_step_time(situation, "sync").crossings == ()


def test_a_mode_that_is_asked_for_has_a_line():
    assert over_step_time(SITUATION, "pool:0").of("pool:0") is not None
    assert over_step_time(SITUATION, "pool:5").of("pool:5") is not None
    assert any(line.mode == "pool:5" for line in over_num_envs(SITUATION, "pool:5"))


def test_threads_have_the_line_of_their_number_and_begin_where_each_has_work():
    waiting = dataclasses.replace(FAST, wait_share=0.9, step_time_s=5e-3, step_times_s=(5e-3,))
    situation = dataclasses.replace(SITUATION, profile=waiting)
    lines = {line.mode: line for line in over_num_envs(situation, "thread:7")}
    assert "thread" not in lines
    assert lines["thread:7"].at[0] == 8
    place = lines["thread:7"].at.index(8)
    loop_s = situation.estimate(["thread:7"]).of("thread:7").mid
    assert lines["thread:7"].env_steps_per_s[place] == pytest.approx(8 / loop_s)


def test_the_learner_bounds_the_throughput():
    for line in over_step_time(SITUATION.with_learner(1e-3), "sync").lines:
        assert max(line.env_steps_per_s) < 8 / 1e-3
    for line in over_num_envs(SITUATION.with_learner(1e-3), "sync"):
        assert all(y < x / 1e-3 for x, y in zip(line.at, line.env_steps_per_s, strict=True))


def test_throughput_over_the_number_begins_where_each_lane_has_a_sub_environment():
    lines = {line.mode: line for line in over_num_envs(SITUATION, "pool:1")}
    assert {"sync", "async", "pool:0", "pool:1"} <= set(lines)
    assert lines["sync"].at[0] == 1
    assert lines["pool:1"].at[0] == 2
    assert lines["sync"].at[-1] == 128


@pytest.mark.parametrize(("num_envs", "most"), [(1, 128), (3, 128), (100, 400)])
def test_the_number_asked_for_is_on_the_axis_and_four_times_as_many(num_envs, most):
    (sync,) = [
        line
        for line in over_num_envs(SITUATION.with_num_envs(num_envs), "sync")
        if line.mode == "sync"
    ]
    assert num_envs in sync.at
    assert sync.at[-1] == most
    assert list(sync.at) == sorted(set(sync.at))


def test_modes_that_cannot_run_have_no_line():
    alone = dataclasses.replace(SITUATION, names=("sync",))
    assert [line.mode for line in over_step_time(alone, "sync").lines] == ["sync"]
    assert [line.mode for line in over_num_envs(alone, "sync")] == ["sync"]


def test_every_step_and_reset_is_in_the_histogram():
    found = histogram(PROFILE)
    assert len(found.edges_s) == len(found.steps) + 1 == len(found.resets) + 1
    assert sum(found.steps) == pytest.approx(1)
    assert sum(found.resets) == pytest.approx(1)
    ratios = [high / low for low, high in zip(found.edges_s, found.edges_s[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    assert found.edges_s[0] < min(PROFILE.step_times_s)
    assert found.edges_s[-1] > max(PROFILE.reset_times_s)


def test_a_histogram_of_one_time_and_no_reset_has_a_range():
    found = histogram(FAST)
    assert found.edges_s[0] < 1e-5 < found.edges_s[-1]
    assert not any(found.resets)
    assert all(map(math.isfinite, found.steps))


def test_a_race_is_told_against_its_leader_round_by_round():
    ratios = dict(race_ratios(RACE))
    assert ratios["pool:1"] == (1.0, 1.0)
    assert ratios["sync"] == pytest.approx((20.1 / 11.2, 20.3 / 11.3))


def test_who_was_dropped_has_fewer_rounds():
    leader = dataclasses.replace(RACE.entrants[1], blocks_s=(1.0, 2.0, 3.0))
    early = dataclasses.replace(RACE.entrants[0], blocks_s=(2.0, 6.0))
    race = dataclasses.replace(RACE, entrants=(early, leader))
    assert dict(race_ratios(race))["sync"] == (2.0, 3.0)


def test_a_race_whose_leader_is_gone_tells_nothing():
    assert race_ratios(dataclasses.replace(RACE, leader="async")) == ()


def test_a_plan_has_the_situation_for_all_of_it():
    assert over_step_time(ESTIMATED.situation, ESTIMATED.mode).of(ESTIMATED.mode) is not None
