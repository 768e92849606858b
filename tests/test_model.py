"""The cost model, on evidence made up by hand."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.records import (
    FREE_LOOPS,
    HAND_OFF,
    LOOPS,
    MS,
    TORCH,
    US,
    a_machine,
    a_profile,
    chosen,
    evidence,
    learner,
    relaxed,
    step_s,
    tails,
)
from vecselect.modes import Mode
from vecselect.selection.candidates import candidate_modes
from vecselect.selection.evidence import (
    HandOff,
    LearnerCost,
    LoopCosts,
    ObservedRun,
    RayCosts,
)
from vecselect.selection.model import (
    CONTENTION_S,
    CONTENTION_SHARE,
    CROWDED,
    RUN_S,
    break_even_s,
    choose,
    predict,
    start_up_s,
    with_step_time,
)

NO_HAND_OFF = HandOff(0.0, 0.0)
FREE = {"loops": FREE_LOOPS, "hand_off": NO_HAND_OFF}


def modes(*texts):
    return tuple(map(Mode.parse, texts))


# What a vector step takes, against figures worked out by hand


@pytest.mark.parametrize("num_envs", [1, 3, 8, 100])
def test_sync_takes_every_step_and_the_loop(num_envs):
    assert step_s("sync", 1 * MS, num_envs) == pytest.approx(num_envs * MS + LOOPS.sync_s)
    assert step_s("pool:0", 1 * MS, num_envs) == pytest.approx(num_envs * MS + LOOPS.pool_s)
    assert step_s("thread:0", 1 * MS, num_envs) == pytest.approx(num_envs * MS + LOOPS.pool_s)


def waiting(share, step=1 * MS):
    return a_profile(step, off_cpu=share)


def free_s(mode, steps, num_envs=8, cores=2, **other):
    """What a vector step takes where all but the steps costs nothing."""
    return pytest.approx(step_s(mode, steps, num_envs, cores, **{**FREE, **other}))


def test_the_longest_slice_counts_and_no_more_slices_than_cores():
    assert free_s("pool:1", 1 * MS, 5) == 3 * MS
    assert free_s("pool:1", 1 * MS, 9) == 5 * MS
    assert free_s("pool:7", 1 * MS, cores=8, hand_off=HAND_OFF) == 1 * MS + 9 * US
    for cores in (1, 1.5, 2.5):
        assert 8 * MS / cores == free_s("pool:7", 1 * MS, cores=cores)
    held = a_machine(4.0, load_1min=2.2)
    assert free_s("pool:3", 1 * MS, cores=held, foreign_cores=2.0) == 4 * MS
    # Where the caller steps nothing there are as many slices as workers.
    for workers, longest in ((1, 8), (2, 4), (3, 3), (4, 2)):
        assert longest * MS == free_s(f"pool:{workers}", 1 * MS, cores=8, caller_steps=False)
    # A worker has one thread, and takes 2 ms for what takes the caller 1 ms in two.
    assert free_s("pool:7", a_profile(1 * MS, cores_used=2.0), cores=16) == 2 * MS


def test_slices_that_wait_do_so_at_the_same_time_and_then_share_the_cores():
    for workers, longest in ((1, 4), (3, 2), (7, 1)):
        expected_s = max(longest * MS, (longest * 0.9 + 0.4) * MS)
        assert expected_s == free_s(f"pool:{workers}", waiting(0.9))
    assert free_s("pool:7", waiting(0.5), cores=1) == 4.5 * MS


def test_threads_take_turns_with_what_holds_the_lock_and_share_the_cores_with_the_rest():
    assert free_s("thread:63", waiting(1.0, 5 * MS), 64) == 5 * MS
    assert free_s("thread:63", 5 * MS, 64, cores=8) == 320 * MS
    free = a_profile(5 * MS, gil_free=True)
    assert free_s("thread:15", free, 64, cores=4) == 320 * MS / 4
    one_each = HandOff(woken_s=75 * US)
    expected_s = 5 * MS + 63 * 15 * US
    assert expected_s == free_s("thread:63", waiting(1.0, 5 * MS), 64, hand_off=one_each)


def test_one_worker_halves_the_loop_s_part_for_each_too():
    own_s = LOOPS.pool_fixed_s + (LOOPS.pool_s - LOOPS.pool_fixed_s) / 2
    expected_s = 4 * MS + own_s + HAND_OFF.spun_s
    assert step_s("pool:1", 1 * MS, 8, cores=2) == pytest.approx(expected_s)


def test_what_computes_after_it_has_waited_is_for_processes_and_not_for_threads():
    known = {"cores": 2, "kinds": ("sync", "pool", "thread", "async"), "hand_off": HandOff()}
    steps = waiting(0.93, 1.1 * MS)
    assert chosen(steps, 8, **known) == "pool:7"
    assert step_s("thread:7", steps, 8, **known) > 1.05 * step_s("pool:7", steps, 8, **known)


def test_threads_disturb_a_learner_that_computes_in_threads_and_processes_do_not():
    known = {"cores": 2, "kinds": ("sync", "pool", "thread"), "hand_off": HandOff()}
    steps = waiting(1.0, 1.1 * MS)
    assert chosen(steps, 8, **known, learners=TORCH[1:]) == "thread:7"
    assert chosen(steps, 8, **known, learners=TORCH) == "pool:7"


def test_async_lies_between_messages_that_overlap_the_steps_and_messages_that_do_not():
    for step in (1 * US, 100 * US, 10 * MS):
        found = step_s("async", step, 8, cores=8)
        messages_s = 8 * HAND_OFF.message_s
        assert HAND_OFF.woken_s + max(messages_s, step) <= found * 1.001
        assert found <= (HAND_OFF.woken_s + messages_s + step) * 1.001


@pytest.mark.parametrize(("workers", "adds_s"), [(1, 57 * US), (3, 57 * US + 2 * 11 * US)])
@pytest.mark.parametrize("learner_s", [1 * MS, 2 * MS])
def test_workers_that_sleep_behind_a_long_learner_are_each_woken(workers, adds_s, learner_s):
    mode = f"pool:{workers}"
    spun, woken = (step_s(mode, 1 * MS, learners=learner(s)) for s in (0.5 * MS, learner_s))
    assert woken - spun == pytest.approx(adds_s)
    assert step_s("sync", 1 * MS, learners=learner(2 * MS)) == step_s("sync", 1 * MS)


def test_more_slices_than_cores_do_not_spin():
    for cores, woken in ((2, True), (8, False)):
        long, short = (
            step_s("pool:7", 1 * MS, 8, cores=cores, hand_off=HandOff(woken_s=woken_s))
            for woken_s in (500 * US, 60 * US)
        )
        assert long - short == pytest.approx(440 * US * (1 + 6 * 0.2) * woken)


def test_an_actor_costs_its_share_of_the_caller_and_cores_of_the_cluster_count():
    costs = RayCosts(fixed_s=0.2 * MS, lane_s=1.0 * MS, lanes=16, cores=16.0)
    known = {"kinds": ("sync", "pool", "ray"), "loops": FREE_LOOPS, "num_envs": 64, "cores": 2}
    assert step_s("ray:16", 10 * MS, ray=costs, **known) == pytest.approx(4 * 10 * MS + 16.2 * MS)
    assert chosen(10 * MS, ray=costs, **known) == "ray:16"
    assert chosen(0.05 * MS, ray=costs, **known) == "pool:1"
    heavy = dataclasses.replace(costs, env_s=0.5 * MS)
    expected_s = (40 + 16.2 + 64 * 0.5) * MS
    assert step_s("ray:16", 10 * MS, ray=heavy, **known) == pytest.approx(expected_s)


def test_sub_environments_that_fill_the_cores_by_themselves_gain_nothing_side_by_side():
    threaded = a_profile(1 * MS, cores_used=2.0)
    assert step_s("pool:1", threaded, 8, cores=2) >= step_s("pool:0", threaded, 8, cores=2)
    assert chosen(threaded, 8, cores=2) in ("sync", "pool:0")
    assert chosen(threaded, 8, cores=8) == "pool:7"
    assert chosen(a_profile(1 * MS, cores_used=1.1), 8, cores=2) == "pool:1"
    # Beside a thread that spins, one of the two shares its core until that sleeps.
    beside = LearnerCost("callable", 1 * MS, threads=2, spinning_cores=1.0, spin_s=3 * MS)
    spun_s = step_s("sync", threaded, 8, cores=2, learners=(beside,))
    assert spun_s == pytest.approx(step_s("sync", threaded, 8, cores=2) + 3 * MS)


def test_stragglers_are_waited_for_and_never_longer_than_the_slowest_step():
    heavy = a_profile(tails(1 * MS, 20, 0.02))
    even = a_profile(heavy.step_time_s)
    assert step_s("sync", heavy, **FREE) == pytest.approx(step_s("sync", even, **FREE))
    heavy_s, even_s = (step_s("pool:7", one, cores=8, **FREE) for one in (heavy, even))
    assert 1.5 * even_s < heavy_s < step_s("sync", heavy, **FREE)
    assert heavy_s <= heavy.slowest_step_s * 1.001


@pytest.mark.parametrize("lanes", [2, 4, 16])
def test_the_longest_of_some_slices_is_predicted_as_chance_has_it(lanes):
    times_s = np.random.default_rng(0).gamma(4.0, 25 * US, (20_000, lanes))
    found = step_s(f"pool:{lanes - 1}", a_profile(times_s.ravel()), lanes, cores=16, **FREE)
    assert found == pytest.approx(times_s.max(axis=1).mean(), rel=0.1)


def test_a_short_record_leaves_more_open_than_a_long_one_and_workers_more_than_none():
    long = a_profile(tails(1 * MS, 4, 0.2))
    short = dataclasses.replace(long, steps=20)
    error, more, most = (
        predict(Mode.parse(mode), evidence(one)).error
        for mode, one in (("sync", long), ("pool:1", long), ("sync", short))
    )
    assert 0 < error < more and most > 3 * error


# Resets


def test_steps_carry_their_share_of_the_resets():
    for steps, expected in (
        (a_profile(1 * MS, [50 * MS] * 5, episode=100.0), 1.5 * MS),
        (a_profile(1 * MS, [9 * MS], episode=1.0), 10 * MS),
        (a_profile(1 * MS, [50 * MS]), 1 * MS),  # no episode has ended
    ):
        assert step_s("sync", steps, 8, **FREE) == pytest.approx(8 * expected)


# The learner's threads


MEASURED = {
    # env steps/s of pool:1 over sync, both beside torch with 2 threads, and both with 1;
    # microseconds of sync's vector step alone, and of the learner with 2 threads and with 1.
    ("HalfCheetah", 8): (0.80, 1.41, 245.3, 109.7, 85.4),
    ("HalfCheetah", 32): (0.91, 1.75, 996.6, 109.3, 110.9),
    ("Ant", 8): (0.73, 1.75, 1369.2, 98.0, 92.4),
    ("Ant", 32): (0.86, 1.98, 5446.0, 114.4, 119.6),
    ("Pendulum", 8): (0.76, 1.21, 71.5, 89.7, 86.5),
    ("Pendulum", 16): (0.81, 1.35, 137.0, 93.1, 91.7),
    ("CartPole", 8): (0.82, 1.14, 45.3, 106.6, 100.7),
    ("CarRacing", 4): (0.89, 1.85, 15611.4, 187.5, 177.5),
}
"""Measured beside a policy of two small networks, on 2 cores; with 2 threads the other one spins
for 6.9 ms on one core."""


@pytest.mark.parametrize("cell", MEASURED, ids=lambda cell: f"{cell[0]} x {cell[1]}")
def test_beside_a_spinning_learner_the_pool_is_predicted_as_it_was_measured(cell):
    _, num_envs = cell
    two_threads, one_thread, sync_us, two_us, one_us = MEASURED[cell]
    loops = LoopCosts((5 + num_envs) * US, (3 + 0.5 * num_envs) * US, 3 * US)
    learners = (
        LearnerCost("stand-in", two_us * US, 2, 1.0, 6.9 * MS),
        LearnerCost("stand-in", one_us * US, 1),
    )
    steps_s = (sync_us * US - loops.sync_s) / num_envs
    known = evidence(steps_s, num_envs, cores=2, loops=loops, learners=learners, hand_off=HandOff())
    choice = choose(known, any_threads=True)

    def gain(threads):
        return choice.of("sync", threads).loop_s / choice.of("pool:1", threads).loop_s

    assert gain(2) == pytest.approx(two_threads, abs=0.1)
    assert gain(1) == pytest.approx(one_thread, abs=0.2)
    assert (choice.best.mode, choice.best.threads) == ("pool:1", 1)
    here = modes("sync", "pool:0", "pool:1")
    assert choose(known, modes=here).best.mode in ("sync", "pool:0")


def test_threads_are_left_as_they_are_unless_the_plan_may_set_them():
    known = evidence(100 * US, cores=2, learners=TORCH)
    assert {one.threads for one in choose(known).forecasts} == {1, 2}
    assert choose(known).best.threads == 2
    assert choose(known, any_threads=True).best.threads == 1


def test_a_thread_that_spins_takes_nothing_where_it_has_a_core_of_its_own():
    for mode, cores, longer in (("pool:1", 4, False), ("pool:3", 4, True), ("sync", 1, False)):
        spinning, quiet = (
            step_s(mode, 1 * MS, 8, cores, learners=learners)
            for learners in (TORCH, (LearnerCost("stand-in", 100 * US, 2),))
        )
        assert (spinning > quiet) is longer and spinning >= quiet


def test_a_thread_takes_a_slice_s_core_no_longer_than_it_spins():
    short, long = (
        step_s("pool:1", 50 * MS, cores=2, learners=(LearnerCost("stand-in", 0, 2, 1.0, spin_s),))
        for spin_s in (1 * MS, 6 * MS)
    )
    assert long - short == pytest.approx(5 * MS * (1 + CONTENTION_SHARE))
    # And where slices are shorter than that, it doubles them.
    found = step_s("pool:1", 10 * US, cores=2, learners=TORCH, **FREE)
    assert found == pytest.approx(2 * 40 * US * (1 + CONTENTION_SHARE) + CONTENTION_S)


def test_a_long_learner_dilutes_every_advantage_until_starting_workers_does_not_pay():
    assert chosen(50 * US) != "sync"
    assert chosen(50 * US, learners=learner(0.5)) in ("sync", "pool:0")


# The cores that there are


@pytest.mark.parametrize(
    ("foreign", "load", "left"),
    [
        (0.0, 0.0, 4.0),
        (0.5, 3.0, 4.0),  # half a core is the others' noise
        (0.9, 3.0, 3.0),
        (3.0, 0.2, 4.0),  # a burst, which the last minute does not show
        (3.0, 1.0, 3.0),
        (3.0, None, 1.0),  # where nothing tells of the last minute
        (9.0, 12.0, 1.0),
    ],
)
def test_a_core_is_held_where_it_is_kept_busy_now_and_was_in_the_last_minute(foreign, load, left):
    machine = a_machine(4.0, load_1min=load)
    assert evidence(1 * MS, cores=machine, foreign_cores=foreign).cores == left


# What real use has shown


def seen(mode, inside_s, threads=None, outside_s=0.0, busy=False):
    return ObservedRun(mode, threads, 1000, inside_s, outside_s, busy=busy)


def test_a_mode_that_was_observed_stands_and_the_others_are_rescaled():
    plain = choose(evidence(1 * MS))
    known = evidence(1 * MS, runs=(seen("pool:1", 6 * MS),))
    found = choose(known)
    assert found.of("pool:1", None).parts.total_s == pytest.approx(6 * MS)
    assert found.of("pool:1", None).observed
    scale = 6 * MS / plain.of("pool:1", None).parts.total_s
    for mode in ("sync", "pool:0", "pool:3", "async"):
        one, before = found.of(mode, None), plain.of(mode, None)
        assert not one.observed
        assert one.parts.total_s == pytest.approx(before.parts.total_s * scale)
    two = choose(evidence(1 * MS, runs=(seen("sync", 7 * MS), seen("pool:3", 9 * MS))))
    for mode, inside_s in (("sync", 7 * MS), ("pool:3", 9 * MS)):
        assert two.of(mode, None).loop.high == pytest.approx(inside_s)


def test_the_learner_is_what_was_seen_outside_of_step():
    known = evidence(1 * MS, runs=(seen("sync", 8 * MS, outside_s=3 * MS),))
    assert {one.learner_s for one in choose(known).forecasts} == {3 * MS}


def test_what_was_seen_on_a_busy_machine_counts_for_nothing():
    known = evidence(1 * MS, runs=(seen("pool:3", 99 * MS, busy=True),))
    assert choose(known) == choose(evidence(1 * MS))


def test_what_was_seen_under_other_threads_rescales_and_measures_nothing_else():
    plain = evidence(1 * MS, learners=TORCH)
    model_s = choose(plain).of("pool:1", 1).parts.total_s
    known = dataclasses.replace(plain, runs=(seen("pool:1", 2 * model_s, threads=1),))
    before, after = choose(plain), choose(known)
    for mode in ("sync", "pool:1", "async"):
        ours, theirs = after.of(mode, 2), before.of(mode, 2)
        assert ours.parts.total_s == pytest.approx(2 * theirs.parts.total_s)
        assert not ours.observed
    assert after.of("pool:1", 1).observed


@pytest.mark.parametrize(
    ("gain", "both", "kept"),
    [(1.05, False, True), (1.2, False, False), (1.02, True, True), (1.05, True, False)],
)
def test_what_was_observed_is_left_for_10_percent_predicted_or_3_observed(gain, both, kept):
    loops = LoopCosts(sync_s=8 * MS * (gain - 1), pool_s=0.0, pool_fixed_s=0.0)
    runs = (*([seen("pool:0", 8 * MS)] if both else []), seen("sync", 8 * MS * gain))
    known = evidence(1 * MS, loops=loops, runs=runs)
    best = choose(known, modes=modes("sync", "pool:0"), incumbent="sync").best.mode
    assert (best == "sync") is kept


@pytest.mark.parametrize(("sync_s", "best"), [(0.0, "sync"), (1 * US, "pool:0")])
def test_a_shorter_loop_alone_is_chosen_and_the_simpler_mode_where_loops_are_alike(sync_s, best):
    loops = LoopCosts(sync_s=sync_s, pool_s=0.0, pool_fixed_s=0.0)
    assert choose(evidence(1 * MS, loops=loops), modes=modes("sync", "pool:0")).best.mode == best


def test_loops_grow_with_what_is_returned():
    def loops(num_envs=8, **returned):
        return LoopCosts.of(dataclasses.replace(a_profile(1 * US), **returned), num_envs)

    plain = loops()
    assert plain.sync_s > plain.pool_s > plain.pool_fixed_s > 0
    returned = {"info_keys": 4}, {"observation_arrays": 4}, {"observation_bytes": 10**6}
    for more in (loops(16), *(loops(**one) for one in returned)):
        assert more.sync_s > plain.sync_s and more.pool_s > plain.pool_s


# The choice


@pytest.mark.parametrize(
    ("steps", "num_envs", "cores", "mode"),
    [
        (0.05 * US, 8, 8, "pool:0"),
        (1 * MS, 8, 8, "pool:7"),
        (50 * MS, 8, 8, "pool:7"),
        (waiting(0.95, 5 * MS), 16, 1, "pool:15"),
        (5 * MS, 16, 1, "pool:0"),
    ],
)
def test_long_steps_call_for_slices_and_steps_that_wait_for_more_than_cores(
    steps, num_envs, cores, mode
):
    loops = LoopCosts(1 * US, 0.5 * US, 0.0)
    assert chosen(steps, num_envs, cores, loops=loops) == mode


def test_where_a_pool_needs_a_crowd_of_workers_to_wait_it_comes_after_threads():
    kinds = ("sync", "pool", "thread", "async")
    known = {"kinds": kinds, "hand_off": HandOff()}
    assert chosen(waiting(1.0, 5 * MS), 64, cores=2, **known) == "thread:63"
    assert chosen(waiting(0.8, 5 * MS), 64, cores=8, kinds=kinds).startswith("pool:")


def test_starting_workers_is_paid_for_over_a_run_of_a_minute():
    assert start_up_s(Mode("sync"), 8, 4) == start_up_s(Mode("pool", 0), 8, 4) == 0.0
    pool = [start_up_s(Mode("pool", workers), 64, 4) for workers in (1, 3, 63)]
    assert 0.05 < pool[0] < pool[1] < pool[2] < start_up_s(Mode("async"), 64, 4)
    # A pool that saves less than a thousandth of the loop does not bring its start-up in.
    sync_s = 8 * 1 * MS
    for saved in (0.0005, 0.01):
        hand_off = HandOff(spun_s=sync_s / 2 - saved * sync_s, woken_s=1.0)
        best = chosen(
            1 * MS, 8, cores=2, loops=FREE_LOOPS, hand_off=hand_off, kinds=("sync", "pool")
        )
        assert (best == "pool:1") is (saved > pool[0] / RUN_S)


@pytest.mark.parametrize(
    ("num_envs", "cores", "mode"), [(32, 64, "pool:15"), (96, 48, "pool:23"), (48, 96, "pool:15")]
)
def test_short_steps_get_no_more_workers_than_pay_for_themselves(num_envs, cores, mode):
    loops = LoopCosts((5 + num_envs) * US, (3 + num_envs / 2) * US, 3 * US)
    found = choose(evidence(5 * US, num_envs, cores, loops=loops))
    assert found.best.mode == mode
    most = found.of(f"pool:{min(num_envs, cores) - 1}", None)
    assert most.loop_s > 1.2 * found.best.loop_s


@settings(relaxed, max_examples=60)
@example([3.9e-3], 67, 1.3, 0.0, 0.07)
@given(
    st.lists(st.floats(1e-6, 1e-2), min_size=1, max_size=40),
    st.integers(1, 70),
    st.floats(1, 64),
    st.floats(0, 0.01),
    st.floats(0, 1),
)
def test_every_prediction_is_sound(steps, num_envs, cores, learner_s, off_cpu):
    known = evidence(
        a_profile(steps, off_cpu=off_cpu), num_envs, cores, learners=learner(learner_s)
    )
    choice = choose(known)
    sync = choice.of("sync", None)
    for one in choice.forecasts:
        assert 0 <= one.loop.low <= one.loop.mid <= one.loop.high < math.inf
        assert min(dataclasses.astuple(one.parts)) >= 0
        # No fewer slices than there are share the stepping.
        lanes = Mode.parse(one.mode).lanes(num_envs)
        stepping_s = one.parts.stepping_s + one.parts.stragglers_s
        assert stepping_s >= sync.parts.stepping_s / lanes * 0.999
        most = 1 + CROWDED if one.mode == "async" else 1.001
        assert stepping_s <= sync.parts.stepping_s * most + max(steps)
    # Nothing is left out but for its start-up, 10 % of a run for many processes of `async`.
    costs_s = {
        one.mode: one.loop_s * (1 + start_up_s(Mode.parse(one.mode), num_envs, cores) / RUN_S)
        for one in choice.forecasts
    }
    assert costs_s[choice.best.mode] <= min(costs_s.values())


@settings(relaxed, max_examples=40)
@given(st.floats(1e-6, 1e-2), st.integers(1, 70), st.integers(1, 64), st.integers(0, 63))
def test_more_cores_and_shorter_steps_never_take_longer(step, num_envs, cores, workers):
    mode = f"pool:{min(workers, num_envs - 1)}"
    now_s = step_s(mode, step, num_envs, cores)
    assert step_s(mode, step, num_envs, cores + 1) <= now_s * (1 + 1e-9)
    assert step_s(mode, step * 0.9, num_envs, cores) <= now_s * (1 + 1e-9)
    assert step_s(mode, step, num_envs + 1, cores) >= now_s * (1 - 1e-9)


# The break-even


def test_the_break_even_worked_out_by_hand():
    # Two cores save half of 8 steps; that pays the hand-off from a quarter of it on.
    hand_off = HandOff(spun_s=100 * US, woken_s=100 * US)
    known = evidence(1 * MS, 8, cores=2, loops=FREE_LOOPS, hand_off=hand_off)
    found = break_even_s("pool", known, candidate_modes(known))
    assert found == pytest.approx(25 * US, rel=0.01)
    at = with_step_time(known, found)
    ours, sync = (predict(Mode.parse(one), at).loop_s for one in ("pool:1", "sync"))
    assert ours == pytest.approx(sync, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "among", "cores"),
    [
        ("pool", ("sync", "pool:0"), 4),
        ("async", ("sync", "pool:1"), 4),
        ("async", ("sync", "async"), 1),
        ("pool", ("sync", "pool:0", "pool:1"), 1),
    ],
)
def test_what_never_pays_or_is_no_candidate_has_no_break_even(kind, among, cores):
    known = evidence(1 * MS, 8, cores=cores, loops=FREE_LOOPS)
    assert break_even_s(kind, known, modes(*among)) is None


def test_the_break_even_of_ray_is_that_of_the_best_number_of_actors():
    costs = RayCosts(fixed_s=0.2 * MS, lane_s=1.0 * MS, lanes=16, cores=16.0)
    known = evidence(10 * MS, 64, cores=2, loops=FREE_LOOPS, ray=costs)
    found = break_even_s("ray", known, modes("ray:4", "ray:16"))
    # 4 actors save 48 of 64 steps and cost 4.2 ms; 16 save 60 and cost 16.2 ms.
    assert found == pytest.approx(4.2 * MS / 48, rel=0.01)
