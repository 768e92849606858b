"""The curves of the report's plots."""

import pytest

from tests.records import FREE_LOOPS, LOOPS, MS, TORCH, US, evidence
from vecselect.modes import Mode
from vecselect.selection.curves import (
    NUM_ENVS,
    STEP_TIMES_S,
    over_num_envs,
    over_step_time,
    with_num_envs,
)
from vecselect.selection.model import predict


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
        assert curve.at[0] <= STEP_TIMES_S[0]
        assert curve.at[-1] >= STEP_TIMES_S[1]
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
    assert pool.at[-1] == NUM_ENVS
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
