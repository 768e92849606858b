"""Which starts recall a plan, and what they know from runs before."""

import dataclasses
import functools
import time

import gymnasium as gym
import numpy as np
import pytest

from tests.noting import Notes
from tests.plans import BY_MODEL, THREADS_AS_SET
from tests.records import MS
from tests.zoo import BusyEnv, SampleEnv
from vecselect import auto_make_vec, build, recommend
from vecselect.errors import ProfileError
from vecselect.machine import read_machine
from vecselect.planning import cache, planner
from vecselect.planning.cache import PlanCache
from vecselect.planning.observed import chosen_anew
from vecselect.planning.plan_key import script_name
from vecselect.request import PlanningOptions, read_request
from vecselect.selection.evidence import LearnerCost, ObservedRun

pytestmark = pytest.mark.usefixtures("no_torch")


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path / "notes")


def busy():
    return BusyEnv(1 * MS)


class Load:
    """So many cores that other programs hold."""

    def __init__(self, cores):
        self.held = cores

    def cores(self):
        return self.held


def test_a_plan_is_recalled_until_more_effort_or_a_fresh_one_is_asked_for():
    first, again = (recommend("CartPole-v1", 2) for _ in range(2))
    assert not first.recalled and again.recalled
    assert dataclasses.replace(again, recalled=False) == first
    raced = recommend("CartPole-v1", 2, effort="race", budget_s=0.5)
    assert not raced.recalled
    with auto_make_vec("CartPole-v1", 2) as envs:
        assert envs.plan.recalled
        assert (envs.mode, envs.plan.effort) == (raced.mode, "race")
    fresh = recommend("CartPole-v1", 2, fresh=True)
    assert not fresh.recalled
    assert fresh.key == first.key
    assert dataclasses.replace(recommend("CartPole-v1", 2), recalled=False) == fresh
    apart = recommend("CartPole-v1", 2, use_store=False)
    assert not apart.recalled and apart.key is None
    assert [stored.plan.created for stored in PlanCache().entries()] == [fresh.created]


def test_another_callable_learner_is_planned_anew(notes, monkeypatch):
    monkeypatch.setattr(build, "ForeignLoad", functools.partial(Load, 0.0))

    def planned(learner):
        with auto_make_vec(notes.factories(3), learner=learner) as envs:
            return envs.plan

    first = planned(lambda batch: time.sleep(20 * MS))
    built = len(notes.built)
    again = planned(lambda batch: time.sleep(20 * MS))
    assert (first.recalled, again.recalled) == (False, True)
    assert len(notes.built) == built + 3
    other = planned(lambda batch: None)
    assert not other.recalled
    assert other.learner_s < first.learner_s / 2
    with pytest.raises(ProfileError, match="learner raised ZeroDivisionError"):
        planned(lambda batch: 1 / 0)
    assert len(notes.closed) == len(notes.built)
    assert recommend(notes.factories(3), learner=lambda batch: time.sleep(20 * MS)).learner_s > MS


def test_an_environment_whose_spaces_have_changed_is_planned_anew():
    plan = recommend("CartPole-v1", 2)
    plans = PlanCache()
    stored = plans.recall(plan.key)
    evidence = dataclasses.replace(plan.evidence, observation_space="Box(1)")
    key = planner.plan_key(read_request("CartPole-v1", 2), read_machine(), PlanningOptions())
    assert key.digest == stored.key
    plans.save(key, dataclasses.replace(plan, evidence=evidence))
    with auto_make_vec("CartPole-v1", 2) as envs:
        assert not envs.plan.recalled
        assert envs.plan.evidence.observation_space.startswith("Box([-4.8")


def seen(mode, inside_s, outside_s=0.0):
    return ObservedRun(mode, None, 1000, inside_s, outside_s)


def test_the_next_start_takes_what_runs_of_this_script_have_shown():
    plan = recommend(busy, 8, use_store=True)
    plans = PlanCache()
    plans.observe(plan.key, "another_script.py", seen(plan.mode, 9.0))
    assert recommend(busy, 8).decided_by == "model"
    # The mode that was chosen turns out to take ten times as long, and another to take little.
    other = next(row.mode for row in plan.candidates if row.mode != plan.mode and row.predicted)
    plans.observe(plan.key, script_name(), seen(other, 0.001, 0.002))
    plans.observe(plan.key, script_name(), seen(plan.mode, 0.1, 0.002))
    again = recommend(busy, 8)
    assert again.recalled
    assert (again.mode, again.decided_by) == (other, "observed")
    assert {one.mode for one in again.evidence.runs} == {plan.mode, other}
    assert again.chosen.measured.mid == pytest.approx(0.003)


@pytest.mark.parametrize("provisional", [None, "Other programs kept cores busy."])
def test_threads_timed_beside_other_programs_are_no_warning_in_later_runs_either(provisional):
    learners = LearnerCost("stand-in", 50 * MS, threads=2), LearnerCost("stand-in", MS, threads=1)
    evidence = dataclasses.replace(THREADS_AS_SET.evidence, learners=learners)
    plan = dataclasses.replace(THREADS_AS_SET, evidence=evidence, provisional=provisional)
    again = chosen_anew(plan, [ObservedRun("sync", 2, 1000, 10 * MS, 50 * MS)])
    loud = [one.loud for one in again.notes if one.code == "learner-threads"]
    assert loud == [provisional is None]


def test_a_recalled_plan_promises_the_step_that_runs_have_shown():
    long = dataclasses.replace(
        BY_MODEL.evidence, learners=(LearnerCost("stand-in", 50 * MS, threads=2),)
    )
    plan = dataclasses.replace(BY_MODEL, evidence=long)
    again = chosen_anew(plan, [ObservedRun("pool:1", 2, 1000, 10 * MS, 2 * MS)])
    step_s = again.chosen.parts.total_s
    assert again.learner_s == pytest.approx(2 * MS)  # not that of the stand-in
    assert again.chosen.loop_s - again.learner_s == pytest.approx(step_s)
    assert again.collection_share == pytest.approx(step_s / (step_s + 2 * MS))


@pytest.mark.parametrize("expired", [False, True])
def test_what_runs_have_shown_outlives_the_plan(monkeypatch, expired):
    plan = recommend(busy, 8)  # sync is a candidate beside other programs, too
    PlanCache().observe(plan.key, script_name(), seen("sync", 1.0, 0.25))
    if expired:
        monkeypatch.setattr(cache, "MOST_DAYS", 0)
        monkeypatch.setattr(cache, "MOST_PROVISIONAL_DAYS", 0)
    again = recommend(busy, 8, fresh=not expired)
    assert not again.recalled
    assert [one.outside_s for one in again.evidence.runs] == [0.25]
    assert {row.mode for row in again.candidates if row.measured} == {"sync"}
    assert PlanCache().recall(plan.key).runs[script_name()]


def raises(num_envs, **options):
    raise OSError("no licence")


@pytest.mark.parametrize("kind", ["thread", "native"])
def test_what_measuring_rules_out_is_not_measured_again(kind):
    image = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    make = busy if kind == "native" else functools.partial(SampleEnv, image)
    options = {"native": raises, "allow": ("native",)} if kind == "native" else {}
    first, again = (recommend(make, 2, **options) for _ in range(2))
    assert first.evidence.ruled_out == (kind,)
    assert again.recalled


@pytest.mark.parametrize("foreign_cores", [0.0, 9.0])
def test_a_learner_that_is_slower_beside_other_programs_keeps_its_plan(
    notes, monkeypatch, foreign_cores
):
    learn_s = 5 * MS

    def learn(batch):
        time.sleep(learn_s)

    with auto_make_vec(notes.factories(3), learner=learn) as envs:
        first = envs.plan
    monkeypatch.setattr(build, "ForeignLoad", functools.partial(Load, foreign_cores))
    learn_s = 20 * MS
    with auto_make_vec(notes.factories(3), learner=learn) as envs:
        assert envs.plan.recalled is (foreign_cores > 0)
        assert envs.plan.key == first.key
