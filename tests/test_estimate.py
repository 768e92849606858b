"""The cost model, on records made up by hand."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecselect.selection.costs import LoopCosts
from vecselect.selection.estimate import estimate

from tests.records import (
    FREE_LOOPS,
    LOOPS,
    MODES,
    MS,
    US,
    a_calibration,
    a_profile,
    mid_s,
    relaxed,
    said,
    tails,
)
from vecselect.selection.candidates import simplicity

# The forecasts, against figures worked out by hand


@pytest.mark.parametrize("num_envs", [1, 3, 8, 100])
def test_sync_takes_every_step_and_the_loop(num_envs):
    found = said(1 * MS, num_envs)
    assert mid_s(found, "sync") == pytest.approx(num_envs * MS + LOOPS.sync_s)
    assert mid_s(found, "pool:0") == pytest.approx(num_envs * MS + LOOPS.pool_s)


def test_one_worker_halves_what_two_cores_compute():
    found = said(1 * MS, 8, cores=2.0)
    own_s = LOOPS.pool_fixed_s + (LOOPS.pool_s - LOOPS.pool_fixed_s) / 2
    assert mid_s(found, "pool:1") == pytest.approx(4 * MS + own_s + 5 * US)


def test_every_further_worker_adds_its_share_of_the_hand_off():
    found = said(1 * MS, 8, cores=8.0, loops=FREE_LOOPS)
    assert mid_s(found, "pool:1") == pytest.approx(4 * MS + 5 * US)
    assert mid_s(found, "pool:3") == pytest.approx(2 * MS + 5 * US + 2 * US)
    assert mid_s(found, "pool:7") == pytest.approx(1 * MS + 5 * US + 6 * US)


def test_where_the_caller_steps_nothing_there_are_as_many_lanes_as_workers():
    def alone(num_envs, cores, **costs):
        modes = ("pool:1", "pool:2", "pool:3", "pool:4")
        calibration = a_calibration(cores, **costs)
        return estimate(
            modes, a_profile(1 * MS), calibration, FREE_LOOPS, num_envs, caller_steps=False
        )

    found = alone(8, 8.0)
    assert mid_s(found, "pool:1") == pytest.approx(8 * MS + 5 * US)
    assert mid_s(found, "pool:2") == pytest.approx(4 * MS + 5 * US + 1 * US)
    assert mid_s(found, "pool:4") == pytest.approx(2 * MS + 5 * US + 3 * US)
    assert found.mode == "pool:4"
    assert not found.caller_steps
    assert found.break_even_s == {}
    assert alone(8, 2.0).mode == "pool:2"
    assert mid_s(alone(5, 8.0), "pool:3") == pytest.approx(2 * MS + 5 * US + 2 * US)
    assert said(1 * MS).caller_steps


@pytest.mark.parametrize(("num_envs", "longest"), [(2, 1), (3, 2), (5, 3), (9, 5)])
def test_the_longest_lane_counts(num_envs, longest):
    found = said(1 * MS, num_envs, cores=2.0, loops=FREE_LOOPS, hand_off_s=0.0)
    assert mid_s(found, "pool:1") == pytest.approx(longest * MS)


@pytest.mark.parametrize(("cores", "lanes"), [(1.0, 1), (1.5, 1.5), (2.0, 2), (2.5, 2.5)])
def test_lanes_beyond_the_cores_do_not_help_steps_that_compute(cores, lanes):
    found = said(1 * MS, 8, cores=cores, loops=FREE_LOOPS, wake_s=0.0, worker_s=0.0)
    assert mid_s(found, "pool:7") == pytest.approx(8 * MS / lanes + 5 * US)
    assert mid_s(found, "pool:7") >= mid_s(found, "pool:3")


def test_lanes_beyond_the_cores_help_steps_that_wait():
    waiting = a_profile(1 * MS, wait_share=0.9)
    found = said(waiting, 8, cores=2.0, loops=FREE_LOOPS, wake_s=0.0, worker_s=0.0)
    assert mid_s(found, "pool:1") == pytest.approx(4 * MS + 5 * US)
    assert mid_s(found, "pool:3") == pytest.approx(2 * MS + 5 * US)
    assert mid_s(found, "pool:7") == pytest.approx(1 * MS + 5 * US)


def test_what_steps_compute_still_shares_the_cores_while_they_wait():
    found = said(a_profile(1 * MS, wait_share=0.5), 8, cores=1.0, loops=FREE_LOOPS, wake_s=0.0)
    assert mid_s(found, "pool:7") == pytest.approx(4 * MS + 5 * US + 6 * US)


def test_on_one_core_what_waits_gets_many_workers_and_what_computes_none():
    options = {"num_envs": 16, "cores": 1.0, "modes": (*MODES, "pool:15")}
    assert said(a_profile(5 * MS, wait_share=0.95), **options).mode == "pool:15"
    assert said(a_profile(5 * MS), **options).mode == "sync"


def test_on_one_core_it_is_clear_that_nothing_beats_sync_in_computing():
    assert said(a_profile(5 * MS), 16, cores=1.0, loops=FREE_LOOPS).close[0] == "sync"
    assert said(a_profile(5 * MS), 16, cores=1.0, modes=("sync", "pool:1", "async")).clear


def test_workers_that_sleep_must_be_woken():
    found = said(1 * MS, 8, cores=4.0, modes=("sync", "pool:1", "pool:1:sleep"))
    assert mid_s(found, "pool:1:sleep") == pytest.approx(mid_s(found, "pool:1") + 60 * US)


@pytest.mark.parametrize("mode", ["pool:1", "pool:3"])
def test_workers_fall_asleep_behind_a_long_learner(mode):
    awake, asleep = (said(1 * MS, learner_s=s) for s in (0.5 * MS, 2 * MS))
    assert mid_s(asleep, mode) == pytest.approx(mid_s(awake, mode) + 60 * US)
    assert mid_s(asleep, "sync") == mid_s(awake, "sync")


def test_more_workers_than_cores_do_not_spin():
    for cores, slept_s in ((2.0, 60 * US), (8.0, 0.0)):
        options = {"loops": FREE_LOOPS, "cores": cores, "worker_s": 0.0, "modes": ["pool:7"]}
        plain = mid_s(said(1 * MS, wake_s=0.0, **options), "pool:7")
        assert mid_s(said(1 * MS, **options), "pool:7") == pytest.approx(plain + slept_s)


def test_async_lies_between_messages_that_overlap_the_steps_and_messages_that_do_not():
    for step_s in (1 * US, 100 * US, 10 * MS):
        found = mid_s(said(step_s, 8, cores=8.0), "async")
        apart_s = 30 * US + 8 * 60 * US + step_s
        overlapping_s = 30 * US + max(8 * 60 * US, step_s)
        assert overlapping_s * 0.999 <= found <= apart_s * 1.001


def test_a_forecast_s_interval_holds_its_middle():
    rng = np.random.default_rng(3)
    found = said(a_profile(rng.lognormal(-7, 0.5, 500).tolist()))
    for forecast in found.forecasts:
        interval = forecast.vector_step_s
        assert 0 < interval.low < interval.mid < interval.high


def test_a_forecast_s_interval_holds_its_middle_where_resets_are_rare():
    found = said(a_profile(7.8125 * MS, [62.5 * MS], episode=302.0, episode_sd=0.0), 23, cores=1.0)
    for forecast in found.forecasts:
        interval = forecast.vector_step_s
        assert interval.low <= interval.mid <= interval.high


def test_a_short_record_leaves_more_open_than_a_long_one():
    rng = np.random.default_rng(3)
    times_s = rng.lognormal(-7, 1.0, 2000).tolist()
    widths = []
    for count in (32, 2000):
        interval = said(a_profile(times_s[:count])).of("sync")
        widths.append((interval.high - interval.low) / interval.mid)
    assert widths[0] > 1.5 * widths[1]


# Tails and resets


def test_heavy_tails_make_lanes_worse_than_the_mean_says():
    heavy = a_profile(tails(1 * MS, 20, 0.02))
    mean_s = heavy.step_time_s
    options = {"num_envs": 8, "cores": 8.0, "loops": FREE_LOOPS}
    found, even = said(heavy, **options), said(mean_s, **options)
    assert mid_s(found, "sync") == pytest.approx(mid_s(even, "sync"), rel=0.1)
    assert mid_s(found, "pool:7") > 1.5 * mid_s(even, "pool:7")
    assert mid_s(found, "pool:7") < mid_s(found, "sync")


def test_the_straggler_is_waited_for_as_often_as_it_comes():
    # One step in a hundred takes 51 times as long, alone: with 4 lanes of one step each, a vector
    # step has a straggler with probability 1 - 0.99 ** 4.
    found = said(
        a_profile(tails(1 * MS, 51, 0.01, 2000)), 4, cores=4.0, loops=FREE_LOOPS, hand_off_s=0.0
    )
    expected_s = MS * (1 + 50 * (1 - 0.99**4)) + 2 * US
    assert mid_s(found, "pool:3") == pytest.approx(expected_s, rel=0.15)


@pytest.mark.parametrize("episode_sd", [0.0, 30.0])
def test_sync_pays_every_reset_whenever_it_comes(episode_sd):
    profile = a_profile(1 * MS, [50 * MS] * 5, episode=100.0, episode_sd=episode_sd)
    found = said(profile, 8, loops=FREE_LOOPS)
    expected_s = 8 * (1 * MS * 100 / 101 + 50 * MS / 101)
    assert mid_s(found, "sync") == pytest.approx(expected_s, rel=0.15)


def test_resets_that_come_together_are_shared_by_the_lanes_and_those_apart_are_waited_for():
    options = {"num_envs": 8, "cores": 8.0, "loops": FREE_LOOPS}
    together = said(a_profile(1 * MS, [50 * MS] * 5, episode=100.0, episode_sd=0.0), **options)
    apart = said(a_profile(1 * MS, [50 * MS] * 5, episode=100.0, episode_sd=30.0), **options)
    gains = [mid_s(found, "sync") / mid_s(found, "pool:7") for found in (together, apart)]
    assert gains[0] == pytest.approx(8, rel=0.05)
    assert gains[1] < 0.6 * gains[0]


def test_without_episodes_that_end_no_reset_counts():
    never = a_profile(1 * MS, [50 * MS], episode=None)
    assert said(never).forecasts == said(1 * MS).forecasts


def test_resets_as_short_as_steps_change_nothing():
    profile = a_profile(1 * MS, [1 * MS] * 5, episode=10.0, episode_sd=3.0)
    assert mid_s(said(profile), "sync") == pytest.approx(mid_s(said(1 * MS), "sync"))


# The choice


@pytest.mark.parametrize(
    ("step_s", "mode"),
    [(0.05 * US, "pool:0"), (1 * MS, "pool:7"), (50 * MS, "pool:7")],
)
def test_longer_steps_call_for_more_lanes(step_s, mode):
    assert said(step_s, 8, cores=8.0).mode == mode


def test_within_5_percent_of_the_best_the_simplest_is_chosen():
    step_s, modes = 1 * MS, ("sync", "pool:0")
    tied = LoopCosts(sync_s=0.3 * MS, pool_s=0.0, pool_fixed_s=0.0)
    assert said(step_s, 8, modes=modes, loops=tied).mode == "sync"
    beyond = LoopCosts(sync_s=0.5 * MS, pool_s=0.0, pool_fixed_s=0.0)
    assert said(step_s, 8, modes=modes, loops=beyond).mode == "pool:0"


def test_a_long_learner_dilutes_every_advantage():
    found = [said(50 * US, 8, learner_s=learner_s) for learner_s in (0.0, 1 * MS, 20 * MS)]
    assert found[0].mode != "sync"
    assert found[-1].mode == "sync"
    assert found[-1].clear
    assert [one.learner_s for one in found] == [0.0, 1 * MS, 20 * MS]


def test_the_order_of_the_candidates_does_not_matter():
    profile = a_profile(tails(100 * US, 5, 0.1))
    plain = said(profile)
    for modes in itertools.islice(itertools.permutations(MODES), 0, 720, 97):
        assert said(profile, modes=modes) == plain
    assert [forecast.mode for forecast in plain.forecasts] == list(MODES)


def test_a_single_candidate_is_chosen_and_clear():
    found = said(1 * MS, modes=["pool:1"])
    assert (found.mode, found.close, found.clear) == ("pool:1", ("pool:1",), True)
    assert found.break_even_s == {}


def test_what_is_no_candidate_has_no_forecast():
    assert said(1 * MS, modes=["sync"]).of("async") is None


def test_the_same_inputs_give_the_same_estimate():
    profile = a_profile(
        tails(100 * US, 9, 0.05), [1 * MS, 2 * MS], episode=50.0, episode_sd=9.0, wait_share=0.2
    )
    assert said(profile) == said(profile)


def test_the_global_generator_is_left_alone():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    said(a_profile(tails(100 * US, 9, 0.05)))
    assert np.random.random() == expected


# Clear or close


def test_far_from_the_line_the_estimate_is_clear():
    modes = ("sync", "pool:1")
    fast, slow = (said(step_s, 8, cores=2.0, modes=modes) for step_s in (0.05 * US, 1 * MS))
    slow_hand_off = said(1 * US, 8, cores=2.0, modes=modes, hand_off_s=200 * US)
    assert (slow.mode, slow.clear) == ("pool:1", True)
    assert (slow_hand_off.mode, slow_hand_off.clear) == ("sync", True)
    assert fast.mode in fast.close


@pytest.mark.parametrize("advantage", [1.03, 1.05, 1.07])
def test_near_the_line_of_a_tie_the_estimate_is_not_clear(advantage):
    # Half of the steps' time is saved; the hand-off eats it up but for the advantage.
    sync_s = 8 * 0.1 * MS
    hand_off_s = sync_s / advantage - sync_s / 2
    modes = ("sync", "pool:1")
    found = said(0.1 * MS, 8, cores=2.0, modes=modes, loops=FREE_LOOPS, hand_off_s=hand_off_s)
    assert mid_s(found, "sync") / mid_s(found, "pool:1") == pytest.approx(advantage)
    assert found.close == modes
    assert not found.clear


@pytest.mark.parametrize("share", [0.5, 0.9, 1.1, 1.5])
def test_the_choice_itself_is_always_among_the_close_ones(share):
    found = said(10 * US * share, 8, cores=2.0)
    assert found.mode in found.close
    assert list(found.close) == sorted(found.close, key=simplicity)


def test_a_wide_record_leaves_more_open():
    # A few rare long steps: nobody knows how many of them there really are.
    rare = [100 * US] * 300 + [20 * MS] * 2
    wide = said(a_profile(rare), 8, cores=8.0, modes=("sync", "pool:1", "pool:3", "pool:7"))
    even = said(float(np.mean(rare)), 8, cores=8.0, modes=("sync", "pool:1", "pool:3", "pool:7"))
    assert len(wide.close) > len(even.close)


# What always holds


profiles = st.builds(
    lambda steps, resets, wait, episode, sd: a_profile(
        steps, resets, wait_share=wait, episode=episode, episode_sd=sd
    ),
    st.lists(st.floats(1e-6, 1e-2), min_size=1, max_size=60),
    st.lists(st.floats(1e-6, 1e-1), min_size=1, max_size=5),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(1, 1000)),
    st.floats(0, 100),
)


@settings(relaxed, max_examples=60)
@given(profiles, st.integers(1, 70), st.floats(1, 64), st.floats(0, 0.01))
def test_an_estimate_is_sound(profile, num_envs, cores, learner_s):
    found = said(profile, num_envs, cores, learner_s)
    assert [forecast.mode for forecast in found.forecasts] == list(MODES)
    loops_s = {f.mode: f.vector_step_s.mid + learner_s for f in found.forecasts}
    assert loops_s[found.mode] <= min(loops_s.values()) * 1.05
    assert found.mode in found.close
    for forecast in found.forecasts:
        interval = forecast.vector_step_s
        assert 0 < interval.low <= interval.high
    assert all(s is None or s >= 0 for s in found.break_even_s.values())
    # Lanes take no longer than all one after another, and no less than an even share of it.
    stepping_s = loops_s["sync"] - learner_s - LOOPS.sync_s
    for workers in (1, 3, 7):
        lanes_s = loops_s[f"pool:{workers}"] - learner_s
        overhead_s = LOOPS.pool_s + (5 + workers - 1 + 60) * US
        assert stepping_s / (workers + 1) * 0.999 <= lanes_s
        assert lanes_s <= (stepping_s + overhead_s) * 1.001


@settings(relaxed, max_examples=30)
@given(profiles, st.integers(1, 20), st.integers(-8, 8))
def test_the_unit_of_time_does_not_matter(profile, num_envs, power):
    unit = 2.0**power
    scaled = dataclasses.replace(
        profile,
        step_times_s=tuple(t * unit for t in profile.step_times_s),
        reset_times_s=tuple(t * unit for t in profile.reset_times_s),
    )
    costs = {
        name: getattr(a_calibration(), name) * unit
        for name in ("hand_off_s", "worker_s", "wake_s", "async_message_s", "async_fixed_s")
    }
    loops = LoopCosts(LOOPS.sync_s * unit, LOOPS.pool_s * unit, LOOPS.pool_fixed_s * unit)
    plain = said(profile, num_envs)
    other = said(scaled, num_envs, loops=loops, **costs)
    assert (other.mode, other.close) == (plain.mode, plain.close)
    for mode in MODES:
        assert mid_s(other, mode) == pytest.approx(mid_s(plain, mode) * unit)
