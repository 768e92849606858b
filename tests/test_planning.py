"""From a request to a plan: which level decides, what is remembered, and what is left untouched."""

import dataclasses
import socket
import time

import gymnasium as gym
import numpy as np
import pytest
from vecselect.planning.notes import MEASURE_AGAIN, of_profile
from vecselect.store.plans import PlanStore
from vecselect.watching import Observed

from tests.compare import assert_same_run
from tests.plans import PROFILE
from tests.zoo import BusyEnv, EchoEnv, SampleEnv
from vecselect import Plan, RequestError, VecselectWarning, auto_make_vec, recommend
from vecselect.machine import read_machine
from vecselect.planning import memory

QUICK = {"budget_s": 1.0}


@pytest.fixture(autouse=True)
def one_calibration(monkeypatch):
    """The machine is measured once for all of these tests."""
    kept = getattr(one_calibration, "kept", {})
    monkeypatch.setattr(memory, "_calibrations", kept)
    monkeypatch.setattr(memory, "is_disturbed", lambda calibration, machine: False)
    yield
    one_calibration.kept = kept


def learner(observations):
    """Not nothing, and nothing that takes long."""
    return observations.sum()


def test_the_rule_measures_no_mode_and_remembers_nothing():
    plan = recommend("CartPole-v1", 2, effort="rule", **QUICK)
    assert plan.decided_by == plan.effort == "rule"
    assert (plan.estimate, plan.race, plan.calibration, plan.key) == (None, None, None, None)
    assert PlanStore().entries() == []


def test_an_estimate_predicts_every_candidate_and_starts_none(monkeypatch):
    monkeypatch.setattr("vecselect.planning.decide.run_race", pytest.fail)
    monkeypatch.setattr("vecselect.planning.decide.race_apart", pytest.fail)
    plan = recommend("CartPole-v1", 8, effort="estimate", **QUICK)
    assert plan.decided_by == "estimate"
    predicted = {one.mode for one in plan.candidates if one.predicted}
    assert {"sync", "pool:0", "async"} <= predicted
    assert plan.chosen.loop_s > 0
    assert plan.rule is not None


def test_a_learner_of_the_user_s_own_is_raced_with():
    calls = []
    plan = recommend("CartPole-v1", 2, learner=calls.append, **QUICK)
    assert plan.decided_by == "race"
    assert plan.learner == "callable"
    assert 0 < plan.learner_s < plan.chosen.loop_s
    assert 0 < plan.collection_share < 1
    assert all(batch.shape == (2, 4) for batch in calls)


def test_seconds_of_learner_dilute_what_a_mode_can_save():
    plan = recommend("CartPole-v1", 2, learner=0.05, effort="estimate", **QUICK)
    assert plan.mode == "sync"
    assert plan.collection_share < 0.01
    assert plan.chosen.loop_s > 0.05


@pytest.mark.parametrize("given", ["1 ms", -1.0, float("nan"), True, [0.001]])
def test_a_learner_is_a_callable_or_seconds(given):
    with pytest.raises(RequestError, match="learner is .*; give a callable that takes the batch"):
        recommend("CartPole-v1", 2, learner=given)


@pytest.mark.parametrize("allow", [("async",), ("nativ",), "nativ"])
def test_only_other_implementations_need_to_be_allowed(allow):
    with pytest.raises(RequestError, match="choose one of 'native'"):
        recommend("CartPole-v1", 2, allow=allow)
    with pytest.raises(RequestError, match=r"give the modes as a tuple: allow=\('native',\)"):
        recommend("CartPole-v1", 2, allow="native")


def test_a_native_environment_is_timed_but_chosen_only_where_that_is_allowed():
    plan = recommend("CartPole-v1", 32, use_store=False, budget_s=6.0)
    native = next(one for one in plan.candidates if one.mode == "native")
    assert native.measured is not None
    assert 'allow=("native",)' in native.skipped
    assert plan.mode != "native"
    allowed = recommend("CartPole-v1", 64, allow=("native",), use_store=False, budget_s=6.0)
    assert allowed.mode == "native"  # all CartPoles in a few array operations


class Holding(EchoEnv):
    """Opens a socket, as an environment that talks to a simulator does."""

    def __init__(self):
        super().__init__()
        self.socket = socket.socket()

    def close(self):
        self.socket.close()


def test_what_holds_a_socket_is_never_raced():
    plan = recommend(Holding, 2, learner=learner, **QUICK)
    assert plan.decided_by == "estimate"
    assert any("holds a socket" in note.text for note in plan.notes)


def test_environments_that_differ_from_mode_to_mode_stay_in_sync():
    class Random(EchoEnv):
        def step(self, action):
            observation, *rest = super().step(action)
            return observation + np.random.random(), *rest

    plan = recommend(Random, 2, learner=learner, **QUICK)
    assert plan.mode == "sync"
    assert "did not return the same bits" in plan.reason
    assert any(note.text.startswith("First difference: pool") for note in plan.notes)


def test_building_that_takes_longer_than_the_budget_is_not_begun():
    class Slow(EchoEnv):
        def __init__(self):
            time.sleep(0.2)
            super().__init__()

    plan = recommend(Slow, 16, learner=learner, use_store=False, **QUICK)
    assert plan.decided_by == "estimate"
    assert any("building its entrants would take about" in note.text for note in plan.notes)


def test_a_fresh_plan_takes_the_place_of_the_one_remembered():
    asked = {"effort": "estimate", **QUICK}
    first = recommend("CartPole-v1", 2, **asked)
    fresh = recommend("CartPole-v1", 2, fresh=True, **asked)
    assert not fresh.recalled
    assert fresh.key == first.key
    assert fresh.planning_s != first.planning_s
    again = recommend("CartPole-v1", 2, **asked)
    assert dataclasses.replace(again, recalled=False) == fresh


def test_a_fresh_plan_knows_the_learner_that_real_use_showed():
    asked = {"effort": "estimate", **QUICK}
    first = recommend("CartPole-v1", 2, **asked)
    PlanStore().note_observed(first.key, Observed(200, 0.1, 0.5, 2.5e-3))
    fresh = recommend("CartPole-v1", 2, fresh=True, **asked)
    assert (fresh.learner, fresh.learner_s) == ("observed", 2.5e-3)
    again = recommend("CartPole-v1", 2, fresh=True, **asked)
    assert (again.learner, again.learner_s) == ("observed", 2.5e-3)


def test_a_busy_machine_is_told_with_how_to_measure_again():
    machine = dataclasses.replace(read_machine(), cores=2.0, load_1min=9.0)
    (note,) = of_profile(machine, PROFILE, MEASURE_AGAIN)
    assert note.code == "machine-busy"
    for way in ("--fresh", "`vecselect plans forget KEY`"):
        assert way in note.text
        assert way not in of_profile(machine, PROFILE)[0].text


def test_a_plan_is_recalled_until_more_effort_is_asked_for():
    first = recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    again = recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    assert not first.recalled
    assert again.recalled
    assert dataclasses.replace(again, recalled=False) == first
    more = recommend("CartPole-v1", 2, effort="measure", learner=None, **QUICK)
    assert not more.recalled
    assert recommend("CartPole-v1", 2, effort="estimate", **QUICK).effort == "measure"
    with auto_make_vec("CartPole-v1", 2, **QUICK) as envs:
        assert envs.plan.recalled
        assert envs.mode == more.mode


@pytest.mark.parametrize(
    "change",
    [
        {"num_envs": 3},
        {"env_kwargs": {"sutton_barto_reward": True}},
        {"wrappers": [gym.wrappers.FlattenObservation]},
        {"vector_kwargs": {"copy": False}},
        {"allow": ("native",)},
        {"learner": 0.5},
    ],
)
def test_what_is_asked_for_otherwise_is_planned_anew(change):
    asked = {"num_envs": 2, "effort": "estimate", **QUICK}
    recommend("CartPole-v1", **asked)
    assert not recommend("CartPole-v1", **{**asked, **change}).recalled


def test_the_store_can_be_left_out():
    recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    plan = recommend("CartPole-v1", 2, effort="estimate", use_store=False, **QUICK)
    assert not plan.recalled
    assert plan.key is None
    assert len(PlanStore().entries()) == 1


def test_what_cannot_be_told_from_others_is_not_remembered_and_the_plan_says_so():
    held = open(__file__)  # noqa: SIM115
    with held:

        def make():
            return EchoEnv(int(held is None))

        plan = recommend(lambda: EchoEnv(), 2, effort="estimate", **QUICK)
        assert plan.key is not None
    lock = __import__("threading").Lock()
    plan = recommend([Unstable(lock)] * 2, effort="estimate", **QUICK)
    assert plan.key is None
    assert plan.not_stored


class Unstable:
    """Builds environments, and cannot be told from others of its kind."""

    def __init__(self, lock):
        self.locked = lock.locked()

    def __call__(self):
        return EchoEnv()


def test_an_environment_whose_spaces_have_changed_is_planned_anew():
    plan = recommend("CartPole-v1", 2, **QUICK)
    store = PlanStore()
    stored = store.find(plan.key)
    store.save(plan.key, dataclasses.replace(plan, observation_space="Box(1)"), stored.fields)
    with auto_make_vec("CartPole-v1", 2, **QUICK) as envs:
        assert not envs.plan.recalled
        assert envs.plan.observation_space.startswith("Box([-4.8")


def test_the_next_start_plans_with_the_gap_that_was_seen():
    plan = recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    store = PlanStore()
    small = plan.chosen.loop_s / 100
    store.note_observed(plan.key, Observed(1000, 1.0, 1.0, small))
    assert recommend("CartPole-v1", 2, effort="estimate", **QUICK).recalled
    store.note_observed(plan.key, Observed(1000, 1.0, 50.0, 0.05))
    anew = recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    assert not anew.recalled
    assert (anew.learner, anew.learner_s) == ("observed", 0.05)
    assert recommend("CartPole-v1", 2, effort="estimate", **QUICK).recalled is True


def test_a_run_tells_the_store_what_it_saw(monkeypatch):
    monkeypatch.setattr("vecselect.watching.OBSERVE_NS", 30_000_000)
    with auto_make_vec(lambda: BusyEnv(1e-4), 2, effort="estimate", **QUICK) as envs:
        envs.reset(seed=1)
        for _ in range(20):
            envs.step(np.zeros(2, np.int64))
            time.sleep(0.005)
        stored = PlanStore().find(envs.plan.key)
        assert 0.004 < stored.observed.gap_s < 0.5
        assert "of the loop" in str(envs.report)


def test_an_estimate_keeps_what_was_remembered_where_that_is_as_good():
    plan = recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    other = next(mode for mode in ("pool:0", "sync", "pool:1") if mode != plan.mode)
    store = PlanStore()
    stored = store.find(plan.key)
    wide = dataclasses.replace(plan.estimate, close=("sync", "pool:0", "pool:1"))
    assert other in wide.close
    store.save(plan.key, dataclasses.replace(plan, mode=other, effort="estimate"), stored.fields)
    assert recommend("CartPole-v1", 2, effort="estimate", **QUICK).mode == other


def test_garbage_in_the_store_means_planning_again_with_one_warning():
    plan = recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    PlanStore().find(plan.key).path.write_text('{"plan": ')
    with pytest.warns(VecselectWarning, match="planned again"):
        again = recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    assert not again.recalled
    assert recommend("CartPole-v1", 2, effort="estimate", **QUICK).recalled


def test_a_recalled_plan_survives_json():
    recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    plan = recommend("CartPole-v1", 2, effort="estimate", **QUICK)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("use_store", [True, False])
def test_planning_changes_no_seeded_trajectory(use_store):
    space = gym.spaces.Box(-1, 1, (3,), np.float64)
    env_fns = [lambda: SampleEnv(space)] * 4
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()
    for _ in range(2):  # planned, and then (with the store) recalled
        envs = auto_make_vec(env_fns, learner=learner, use_store=use_store, **QUICK)
        oracle = gym.vector.SyncVectorEnv(env_fns)
        assert_same_run(envs, oracle, steps=30)
        assert np.random.get_state()[1].tolist() == before
        envs.close()
        oracle.close()
