"""What would be chosen if one thing were different, and the curves of the report's plots."""

import dataclasses

import pytest

from tests.records import FREE_LOOPS, LOOPS, MS, TORCH, US, a_machine, evidence, learner
from vecselect.modes import Mode
from vecselect.selection.evidence import Observation
from vecselect.selection.model import choose, mean_step_s, predict
from vecselect.selection.what_if import (
    CURVE_NUM_ENVS,
    CURVE_STEP_TIMES_S,
    over_num_envs,
    over_step_time,
    what_if,
    with_cores,
    with_num_envs,
)


def rows(*arguments, **other):
    return {row.change: row for row in what_if(evidence(*arguments, **other))}


def test_each_row_is_what_would_be_chosen_on_other_evidence():
    known = evidence(100 * US, 8, 2)
    found = {row.change: row for row in what_if(known)}
    assert list(found) == [
        *("8 cores", "a learner of 2 ms", "32 sub-environments", "10x the step time")
    ]
    choice = choose(with_cores(known, 8))
    assert found["8 cores"].mode == choice.best.mode == "pool:7"
    gain = choice.of("sync", None).loop_s / choice.best.loop_s
    assert found["8 cores"].speedup == pytest.approx(gain)
    slow = choose(dataclasses.replace(known, learners=learner(2 * MS)))
    assert found["a learner of 2 ms"].speedup == pytest.approx(
        slow.of("sync", None).loop_s / slow.best.loop_s
    )


def test_where_the_learner_is_long_the_row_is_without_one():
    assert "no learner" in rows(1 * MS, learners=learner(5 * MS))


def test_without_sync_there_is_nothing_to_compare_with():
    found = rows(1 * MS, kinds=("pool", "async"), caller_steps=False)
    assert {row.speedup for row in found.values()} == {None}


def test_cores_that_others_hold_now_are_not_taken_from_other_machines():
    busy = evidence(1 * MS, 8, a_machine(2.0, load_1min=3.0), foreign_cores=1.0)
    assert busy.cores == 1.0
    assert with_cores(busy, 8).cores == 8.0


def test_what_was_observed_of_this_machine_says_nothing_of_another():
    seen = (Observation("pool:1", None, 1000, 99 * MS, 0.0),)
    assert rows(1 * MS, cores=2, observations=seen) == rows(1 * MS, cores=2)


def test_more_sub_environments_take_more_of_the_loops_but_for_their_fixed_part():
    more = with_num_envs(evidence(1 * MS, 8), 16)
    assert more.num_envs == 16
    assert more.loops.sync_s == pytest.approx(2 * LOOPS.sync_s)
    assert more.loops.pool_s == pytest.approx(4 * US + 2 * 8 * US)
    assert more.loops.pool_fixed_s == LOOPS.pool_fixed_s


def test_a_curve_over_the_step_time_agrees_with_the_model_and_holds_this_one():
    known = evidence(100 * US, 8, 4)
    curves = {curve.mode: curve for curve in over_step_time(known)}
    assert set(curves) == {"sync", "pool:0", "pool", "async"}
    for curve in curves.values():
        assert curve.at[0] <= CURVE_STEP_TIMES_S[0]
        assert curve.at[-1] >= CURVE_STEP_TIMES_S[1]
        assert list(curve.env_steps_per_s) == sorted(curve.env_steps_per_s, reverse=True)
    sync = curves["sync"]
    for at_s, per_s in zip(sync.at, sync.env_steps_per_s, strict=True):
        assert per_s == pytest.approx(8 / (8 * at_s + LOOPS.sync_s))


@pytest.mark.parametrize("step", [0.1 * US, 50 * MS])
def test_a_curve_is_as_wide_as_the_environment_needs(step):
    at = over_step_time(evidence(step))[0].at
    assert at[0] < step < at[-1]


def test_a_curve_over_the_number_takes_the_best_of_each_kind_at_each_point():
    known = evidence(100 * US, 8, 4, loops=FREE_LOOPS)
    curves = {curve.mode: curve for curve in over_num_envs(known)}
    pool = curves["pool"]
    assert pool.at[-1] == CURVE_NUM_ENVS
    assert 8 in pool.at
    here = pool.env_steps_per_s[pool.at.index(8)]
    best_s = min(predict(Mode("pool", workers), known).loop_s for workers in (1, 2, 3))
    assert here == pytest.approx(8 / best_s)
    assert 1 not in pool.at  # there is no worker for one


def test_curves_are_for_the_threads_as_they_are_set():
    known = evidence(100 * US, 8, 2, learners=TORCH)
    here = next(curve for curve in over_num_envs(known) if curve.mode == "pool")
    per_s = here.env_steps_per_s[here.at.index(8)]
    assert per_s == pytest.approx(8 / predict(Mode("pool", 1), known, TORCH[0]).loop_s)


def test_a_what_if_beside_a_spinning_learner_counts_its_threads():
    assert rows(1 * MS, cores=2, learners=TORCH)["8 cores"].mode.startswith("pool:")
    assert mean_step_s(evidence(1 * MS)) == pytest.approx(1 * MS)
