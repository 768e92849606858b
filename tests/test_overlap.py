"""What two buffers and first finished are predicted to bring, on evidence made up by hand."""

import dataclasses

import pytest

from tests.records import LOOPS, MS, US, a_profile, evidence, tails
from vecselect.modes import Mode
from vecselect.planning import explain
from vecselect.run_stats import Stats
from vecselect.selection.evidence import LearnerCost
from vecselect.selection.model import choose, predict
from vecselect.selection.overlap import overlap, with_num_envs

POOLS = ("sync", "pool")


def predicted(steps, learner_s, busy_cores, num_envs=16, half_share=0.5, **other):
    learner = LearnerCost("callable", learner_s, cores=busy_cores, half_share=half_share)
    known = evidence(steps, num_envs, learners=(learner,), **{"kinds": POOLS, **other})
    best = choose(known).best
    return overlap(known, Mode.parse(best.mode), best.loop_s, learner)


@pytest.mark.parametrize(
    ("learner_ms", "half_share", "busy_cores", "cores", "least", "most"),
    [
        (8.0, 0.5, 0.0, 2.0, 1.8, 2.0),  # waits as long as the environments step
        (8.0, 0.75, 0.0, 2.0, 1.25, 1.35),  # the same, with costs of a call
        (8.0, 1.0, 0.0, 2.0, 0.9, 1.0),  # the same, however small the batch
        (8 / 3, 0.5, 0.0, 2.0, 1.25, 1.35),  # a third of that
        (8 / 3, 1.0, 0.0, 2.0, 1.25, 1.35),  # whose calls are hidden still
        (80.0, 0.5, 0.0, 2.0, 1.0, 1.15),  # the learner is all there is
        (0.0, 0.5, 0.0, 2.0, 0.8, 1.05),  # nothing to overlap
        (8.0, 0.5, 1.0, 2.0, 0.8, 1.1),  # one that computes, on few cores
        (8.0, 0.5, 2.0, 2.0, 0.5, 1.0),  # one that computes on all of them
        (1.0, 0.5, 1.0, 10.0, 1.3, 1.5),  # one that computes, on many
    ],
)
def test_two_buffers_bring_what_the_learner_leaves(
    learner_ms, half_share, busy_cores, cores, least, most
):
    found = predicted(1 * MS, learner_ms * MS, busy_cores, half_share=half_share, cores=cores)
    assert least <= found.buffers <= most


@pytest.mark.parametrize("step_s", [20e-6, 1 * MS])
@pytest.mark.parametrize("learner_s", [1e-4, 4 * MS, 20 * MS])
def test_no_more_is_promised_than_what_hides_the_shorter_behind_the_longer(step_s, learner_s):
    for lockstep_s in (learner_s + step_s, learner_s + 16 * step_s):  # as runs show it
        learner = LearnerCost("callable", learner_s, cores=0.0, half_share=0.5)
        known = evidence(step_s, 16, learners=(learner,), kinds=POOLS, cores=32.0)
        most = Stats(1, 16, lockstep_s - learner_s, learner_s, 1.0).most_by_overlap
        assert overlap(known, Mode("sync"), lockstep_s, learner).buffers <= most + 1e-9


@pytest.mark.parametrize("longer", [1.0, 1.7])
def test_steps_that_take_longer_in_a_run_than_planned_do_so_in_halves(longer):
    learner = LearnerCost("observed", 4 * MS)  # it computes, on a core that they need
    known = evidence(1 * MS, 16, kinds=POOLS, cores=2.0)
    step_s = longer * predict(Mode("pool", 1), known, learner).parts.total_s
    assert overlap(known, Mode("pool", 1), 4 * MS + step_s, learner).buffers < 1.0


@pytest.mark.parametrize(("half_share", "quarter"), [(0.5, 0.25), (0.75, 0.625), (1.0, 1.0)])
def test_a_part_of_a_batch_takes_the_learner_its_rows_and_a_call(half_share, quarter):
    assert LearnerCost(seconds=2.0, half_share=half_share).part_s(0.25) == 2.0 * quarter


def test_more_sub_environments_take_more_of_the_loops_but_for_their_fixed_part():
    more = with_num_envs(evidence(1 * MS, 8), 16)
    assert more.num_envs == 16
    assert more.loops.sync_s == pytest.approx(2 * LOOPS.sync_s)
    assert more.loops.pool_s == pytest.approx(4 * US + 2 * 8 * US)
    assert more.loops.pool_fixed_s == LOOPS.pool_fixed_s


def test_first_finished_pays_where_steps_wait_for_stragglers():
    waiting = a_profile(tails(1 * MS, 20, 0.05), off_cpu=1.0, gil_free=True)
    found = predicted(waiting, 0.0, 0.0, num_envs=32, kinds=("sync", "pool", "thread"))
    assert found.first_finished > 2
    assert found.buffers < 1.2
    (note,) = explain.of_overlap(found)
    assert note.loud and "batch_size=num_envs // 4" in note.text
    even = predicted(1 * MS, 0.0, 0.0, num_envs=32)
    assert even.first_finished < 1.1
    assert explain.of_overlap(even) == []


def test_nothing_is_predicted_where_nothing_can_be_divided():
    assert predicted(1 * MS, MS, 0.0, num_envs=1) is None
    assert predicted(1 * MS, MS, 0.0, kinds=("sync", "async")) is None


def test_what_brings_a_third_more_is_loud_unless_the_machine_was_busy():
    found = predicted(1 * MS, 8 * MS, 0.0, cores=2.0)
    (note,) = explain.of_overlap(found)
    assert (note.code, note.loud) == ("overlap", True)
    assert "buffers=2 is predicted to give" in note.text
    assert not explain.of_overlap(found, sure=False)[0].loud
    less = dataclasses.replace(found, buffers_s=found.lockstep_s / 1.25)
    assert not explain.of_overlap(less)[0].loud


@pytest.mark.parametrize(
    ("inside_s", "outside_s", "most"),
    [(1.0, 1.0, 2.0), (3.0, 1.0, 4 / 3), (1.0, 0.0, 1.0), (0, 0, 1)],
)
def test_a_run_says_what_overlap_could_bring_at_the_most(inside_s, outside_s, most):
    assert Stats(1, 8, inside_s, outside_s, 8.0).most_by_overlap == pytest.approx(most)
