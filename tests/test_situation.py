"""What the model says if one thing were different."""

import dataclasses

import pytest
from vecselect.selection.costs import Calibration, LoopCosts
from vecselect.selection.situation import Situation, changes

from tests import plans

US, MS = 1e-6, 1e-3


def a_situation(step_s=20 * US, cores=2, num_envs=8, learner_s=0.0, wait_share=0.0):
    profile = dataclasses.replace(
        plans.PROFILE,
        step_time_s=step_s,
        wait_share=wait_share,
        reset_share=0.0,
        episode_steps=None,
        episode_steps_sd=None,
        step_times_s=(step_s,) * 64,
        reset_times_s=(),
    )
    return Situation(
        profile=profile,
        calibration=Calibration(
            effective_cores=float(cores),
            hand_off_s=3 * US,
            worker_s=1 * US,
            wake_s=30 * US,
            async_message_s=60 * US,
            async_fixed_s=40 * US,
        ),
        loops=LoopCosts(sync_s=16 * US, pool_s=12 * US, pool_fixed_s=4 * US),
        machine=dataclasses.replace(plans.MACHINE, cores=float(cores)),
        num_envs=num_envs,
        learner_s=learner_s,
    )


def seconds_of(situation, mode):
    return situation.estimate([mode]).of(mode).mid


def test_the_parts_of_every_forecast_add_up_to_it():
    for wait_share in (0.0, 0.9):
        situation = a_situation(step_s=300 * US, wait_share=wait_share)
        for forecast in situation.estimate().forecasts:
            parts = dataclasses.asdict(forecast.parts)
            assert sum(parts.values()) == pytest.approx(forecast.vector_step_s.mid)
            assert min(parts.values()) >= 0.0


def test_stragglers_are_what_the_longest_lane_takes_beyond_an_even_share():
    even = a_situation()
    assert even.estimate().forecast("pool:1").parts.stragglers_s < 0.1 * 80 * US
    times_s = (10 * US,) * 48 + (100 * US,) * 16
    uneven = dataclasses.replace(
        even, profile=dataclasses.replace(even.profile, step_times_s=times_s)
    )
    parts = uneven.estimate().forecast("pool:1").parts
    assert parts.stragglers_s > 0.15 * parts.stepping_s
    assert uneven.estimate().forecast("sync").parts.stragglers_s == 0.0


def test_infos_and_copying_are_told_from_the_rest_of_the_loop():
    loops = LoopCosts(20 * US, 10 * US, 4 * US, 6 * US, 3 * US, 2 * US, 1 * US)
    situation = dataclasses.replace(a_situation(), loops=loops)
    sync = situation.estimate().forecast("sync").parts
    assert (sync.infos_s, sync.copying_s, sync.loop_s) == pytest.approx((6 * US, 3 * US, 11 * US))
    pool = situation.estimate().forecast("pool:1").parts
    assert pool.copying_s == pytest.approx(1 * US)
    assert pool.infos_s + pool.copying_s + pool.loop_s == pytest.approx(7 * US)


def test_more_sub_environments_bring_more_of_the_loop_too():
    four = a_situation().with_num_envs(32)
    assert four.num_envs == 32
    assert seconds_of(four, "sync") == pytest.approx(4 * seconds_of(a_situation(), "sync"))


def test_more_cores_bring_more_workers():
    situation = a_situation().with_cores(8)
    assert "pool:7" in situation.modes()
    assert seconds_of(situation, "pool:7") < 0.5 * seconds_of(a_situation(), "pool:1")
    assert seconds_of(situation, "sync") == seconds_of(a_situation(), "sync")


def test_where_the_caller_steps_nothing_every_core_gets_a_worker():
    situation = dataclasses.replace(
        a_situation(step_s=300 * US, cores=4), names=("pool", "async"), caller_steps=False
    )
    assert situation.modes() == ["pool:1", "pool:2", "pool:4", "async"]
    assert situation.estimate().mode == "pool:4"
    assert "pool:8" in situation.with_cores(8).modes()
    waiting = dataclasses.replace(
        a_situation(wait_share=0.9), names=("thread",), caller_steps=False
    )
    assert waiting.modes() == ["thread:1", "thread:2", "thread:4", "thread:8"]


def test_another_step_time_keeps_the_shape_of_the_record():
    situation = a_situation().with_step_time(2 * MS)
    assert situation.profile.mean_step_with_resets_s == pytest.approx(2 * MS)
    assert situation.profile.step_times_s == pytest.approx((2 * MS,) * 64)


def test_what_would_change_the_choice_is_told_with_what_it_would_give():
    found = {change.what: change for change in changes(a_situation())}
    assert list(found) == [
        "8 cores",
        "a learner of 2 ms",
        "32 sub-environments",
        "10x the step time",
    ]
    assert found["8 cores"].mode.startswith("pool:")
    assert found["8 cores"].speedup > found["10x the step time"].speedup > 1.5
    assert found["a learner of 2 ms"].mode == "sync"
    assert found["a learner of 2 ms"].speedup == 1.0


def test_where_there_is_a_long_learner_the_question_is_what_none_would_give():
    whats = [change.what for change in changes(a_situation(learner_s=3 * MS))]
    assert "no learner" in whats
    assert "a learner of 2 ms" not in whats


def test_modes_that_could_not_run_stay_out():
    situation = dataclasses.replace(a_situation(), names=("sync", "async"))
    assert situation.modes() == ["sync", "async"]
    assert {change.mode for change in changes(situation)} <= {"sync", "async"}


def test_a_plan_has_a_situation_where_the_model_was_asked():
    assert plans.BY_RULE.situation is None
    situation = plans.RACED.situation
    assert situation.learner_s == plans.RACED.learner_s
    assert situation.names == ("sync", "pool", "async")


def test_a_fixed_part_that_noise_made_larger_than_the_whole_leaves_no_time_below_zero():
    loops = LoopCosts(sync_s=9 * US, pool_s=5 * US, pool_fixed_s=8 * US)
    situation = dataclasses.replace(a_situation(step_s=1e-9), loops=loops)
    for num_envs in (1, 8, 32, 512):
        found = situation.with_num_envs(num_envs).estimate()
        assert all(forecast.vector_step_s.low > 0 for forecast in found.forecasts)
    assert len(changes(situation)) == 4
    assert loops.pool(2.0).total_s == loops.pool_s
