"""From a request to a plan, and what planning does to the user's environments on the way there."""

import dataclasses
import os
import random
import sys
import threading
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tests import zoo
from tests.fake_torch import FakeTorch
from tests.noting import DrawingEnv, Notes
from tests.plans import RACE
from tests.processes import wait_until_gone
from tests.records import MS, TORCH
from tests.zoo import BusyEnv, EchoEnv, HoldingEnv
from vecselect import (
    Plan,
    RequestError,
    VecselectWarning,
    auto_make_vec,
    make,
    recommend,
)
from vecselect.backends.base import backend_of
from vecselect.machine import read_machine
from vecselect.modes import Mode
from vecselect.planning import explain, planner
from vecselect.planning.cache import PlanCache
from vecselect.planning.plan_key import script_name
from vecselect.process import generators
from vecselect.selection.evidence import HandOff, LearnerCost, ObservedRun
from vecselect.selection.model import Choice, Forecast, Parts
from vecselect.testing.contract import assert_same_run

pytestmark = pytest.mark.usefixtures("no_torch")

WAIT_S = 2e-3
LONG = {"learner": 0.5}
"""Beside a learner that takes so long no worker is worth its start."""

MOST_STEPS = 1 + 3 + 20 + 16
"""Steps of 2 ms that are made to profile: the first, the warm-up, 20 or 30 ms, a recording."""


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path / "notes")


@pytest.fixture
def machine(monkeypatch):
    """Has planning see another machine."""

    def see(**changes):
        other = dataclasses.replace(read_machine(), **changes)
        monkeypatch.setattr(planner, "read_machine", lambda: other)

    return see


@pytest.fixture
def quiet(monkeypatch):
    """No other program uses the cores."""
    monkeypatch.setattr(planner.ForeignLoad, "cores", lambda self: 0.0)


@pytest.fixture
def only_pools(monkeypatch):
    """What waits is spread out over worker processes."""
    for kind in ("thread", "async"):
        monkeypatch.setattr(backend_of(kind), "missing", lambda machine: "not here")


@pytest.fixture
def a_pool(monkeypatch):
    """A pool with as many workers as there is work for is chosen, however the machine is."""

    def most(evidence):
        return (Mode("pool", evidence.num_envs - 1),)

    monkeypatch.setattr(planner, "candidate_modes", most)


# What planning does to the user's environments


@pytest.mark.parametrize(("pool", "wait_s"), [(True, WAIT_S), (True, 0.0), (False, WAIT_S)])
def test_one_more_is_built_than_was_asked_for_and_stepped_a_little(
    notes, wait_s, pool, request, processes_end
):
    if pool:
        request.getfixturevalue("a_pool")
    options = {"learner": 0.0 if pool else 5.0}
    with auto_make_vec(notes.factories(wait_s=wait_s), **options) as envs:
        assert envs.mode in ({"pool:3"} if pool else {"sync", "pool:0", "thread:1", "thread:3"})
        assert sorted(note.index for note in notes.built) == [0, 1, 2, 3, 3]
        profiled = notes.profiled()
        assert len(notes.closed) == 1
        assert profiled.index == 3
        assert profiled.pid != os.getpid()
        assert profiled.resets <= 2 + profiled.steps // 3
        if wait_s:
            assert profiled.steps <= MOST_STEPS
        assert set(envs.get_attr("steps_made")) == set(envs.get_attr("resets_made")) == {0}
    assert len(notes.closed) == 5


@pytest.mark.parametrize("mode", ["pool:1", "async"])
def test_a_pin_builds_what_was_asked_for_and_no_more(notes, mode):
    with auto_make_vec(notes.factories(3), mode=mode) as envs:
        envs.reset(seed=1)
        indices = sorted(note.index for note in notes.built)
        # Gymnasium's own async builds one in the caller, to see its spaces.
        assert indices == ([0, 0, 1, 2] if mode == "async" else [0, 1, 2])


def test_the_process_that_profiled_becomes_the_first_worker_or_leaves_nothing(
    notes, a_pool, children_before
):
    assert recommend(notes.factories(wait_s=WAIT_S), use_store=False).mode == "pool:3"
    wait_until_gone(children_before)
    assert [note.pid for note in notes.built] == [note.pid for note in notes.closed]
    assert len(notes.built) == 1
    notes.file.unlink()
    with auto_make_vec(notes.factories(wait_s=WAIT_S)) as envs:
        assert envs.mode == "pool:3"
        profiled = notes.profiled()
        assert len(notes.closed) == 1
        assert envs.call("where")[:2] == (os.getpid(), profiled.pid)


def test_what_was_profiled_before_leaves_no_trace_in_the_first_worker(notes, a_pool, monkeypatch):
    """Environments that draw from the process's own generators draw what they do under a pin."""
    found = []
    for mode in ("auto", "pool:3"):
        monkeypatch.setattr(generators, "_environments_made", 0)
        np.random.seed(5)
        random.seed(5)
        with auto_make_vec(notes.factories(4, DrawingEnv, wait_s=WAIT_S), mode=mode) as envs:
            assert envs.mode == "pool:3"
            envs.reset(seed=1)
            found.append([envs.step(np.zeros(4, np.int64))[0].tolist() for _ in range(3)])
    assert found[0] == found[1]


def test_planning_changes_no_trajectory_and_no_generator(notes, a_pool):
    np.random.seed(5)
    random.seed(5)
    before = np.random.get_state()[1].tolist(), random.getstate()
    factories = notes.factories()
    recommend(factories, learner=lambda batch: np.random.random(), use_store=False)
    for recalled in (False, True):
        with auto_make_vec(factories) as envs:
            assert envs.plan.recalled is recalled
            assert envs.mode == "pool:3"
            assert (np.random.get_state()[1].tolist(), random.getstate()) == before
            assert_same_run(envs, SyncVectorEnv(factories), steps=25, seed=3)


def test_a_process_that_does_not_answer_is_no_first_worker(notes, a_pool, monkeypatch):
    monkeypatch.setattr(planner.FirstWorker, "measure_hand_off", lambda self: None)
    with auto_make_vec(notes.factories(2)) as envs:
        assert envs.mode == "pool:1"
        envs.reset(seed=1)
        assert notes.profiled().pid not in envs.call("where")
    assert envs.plan.evidence.hand_off == HandOff()


class Recording(gym.Wrapper):
    """Leaves a file, as wrappers do that log."""

    def __init__(self, env, folder):
        super().__init__(env)
        (folder / f"{os.getpid()}.log").touch()


def test_what_records_is_not_profiled(notes, tmp_path):
    folder = tmp_path / "videos"
    plan = recommend(
        "CartPole-v1",
        2,
        wrappers=[lambda env: gym.wrappers.RecordVideo(env, str(folder))],
        env_kwargs={"render_mode": "rgb_array"},
        use_store=False,
    )
    assert plan.evidence.profile.steps > 0
    assert not folder.exists()
    # Of thunks of which the first records another one is profiled.
    folder.mkdir()
    factories = notes.factories(3)
    with auto_make_vec([lambda: Recording(factories[0](), folder), *factories[1:]], **LONG):
        assert [file.name for file in folder.iterdir()] == [f"{os.getpid()}.log"]


@pytest.mark.parametrize("phase", ["building the first one", "deciding"])
def test_whatever_ends_planning_leaves_no_process(notes, monkeypatch, phase, processes_end):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    factories = notes.factories(3)
    if phase == "deciding":
        monkeypatch.setattr(planner, "measure_learner", interrupt)
    else:
        factories[0] = interrupt
    with pytest.raises(KeyboardInterrupt):
        auto_make_vec(factories)
    assert {note.index for note in notes.built} <= {0, 2}
    here = [note.index for note in notes.built if note.pid == os.getpid()]
    assert here == [note.index for note in notes.closed if note.pid == os.getpid()]


def limited():
    return gym.make("Pendulum-v1", max_episode_steps=getattr(zoo, "LIMIT", 100))


def test_a_fresh_plan_runs_nothing_else_in_its_workers(monkeypatch, a_pool):
    monkeypatch.setattr(zoo, "LIMIT", 7, raising=False)
    with pytest.raises(RuntimeError, match="100 in a worker.*7 in this"):
        auto_make_vec(limited, 4, use_store=False, **LONG)


# Which effort decides what


def test_the_rule_measures_round_trips_and_remembers_nothing():
    plan = recommend("CartPole-v1", 2, effort="rule", budget_s=0.1)
    assert plan.decided_by == plan.effort == "rule"
    assert plan.mode == plan.evidence.rule.mode == "sync"
    assert plan.evidence.ipc.rounds > 0
    assert plan.evidence.hand_off is plan.evidence.loops is plan.evidence.race is None
    assert plan.break_even_s["async"] == plan.evidence.rule.break_even_s
    skipped = {row.mode: row.skipped for row in plan.candidates}
    assert "chooses between sync and async only" in skipped["pool"]
    assert PlanCache().entries() == []


@pytest.fixture
def no_race(monkeypatch):
    monkeypatch.setattr(planner, "TimingTask", pytest.fail)


def test_measuring_predicts_every_candidate_and_starts_none(no_race, quiet):
    plan = recommend("CartPole-v1", 8)
    assert (plan.decided_by, plan.effort) == ("model", "measure")
    assert {"sync", "pool:0", "async"} <= {row.mode for row in plan.candidates if row.predicted}
    evidence = plan.evidence
    assert evidence.hand_off.measured
    assert evidence.hand_off.spun_s < evidence.hand_off.woken_s
    assert evidence.loops.pool_fixed_s <= evidence.loops.pool_s
    assert evidence.rule is not None and evidence.ipc is evidence.race is None
    assert evidence.observation_space.startswith("Box([-4.8")
    assert {"pool", "async"} >= set(plan.break_even_s)
    assert Plan.from_json(plan.to_json()) == plan


def test_a_race_times_what_may_be_best():
    factories = [lambda: BusyEnv(1e-3)] * 2
    plan = recommend(factories, effort="race", budget_s=1.5)
    race = plan.evidence.race
    assert (plan.decided_by, race.of(plan.mode).mode) == ("race", plan.mode)
    measured = {row.mode for row in plan.candidates if row.measured}
    assert measured == {entrant.mode for entrant in race.entrants if entrant.loop_s}
    assert plan.chosen.measured is not None
    # A plan that was raced serves a request for less effort.
    again = recommend(factories)
    assert (again.recalled, again.decided_by) == (True, "race")


def test_what_holds_a_socket_is_never_raced(no_race):
    plan = recommend(HoldingEnv, 2, effort="race", budget_s=1.0)
    assert plan.decided_by == "model"
    assert any("holds a socket" in note.text for note in plan.notes)


def test_where_modes_differ_in_a_race_sync_runs():
    class Random(EchoEnv):
        def step(self, action):
            observation, *rest = super().step(action)
            return observation + np.random.random(), *rest

    plan = recommend(Random, 2, effort="race", budget_s=1.0, use_store=False)
    assert plan.mode == "sync"
    assert any("(pool" in note.text for note in plan.notes)


def test_a_race_that_could_compare_nothing_says_so():
    (note,) = explain.of_race(dataclasses.replace(RACE, compared_steps=0))
    assert note.code == "not-repeatable"


# What cannot run, and what only one mode can run


def test_what_cannot_be_sent_anywhere_runs_here_unmeasured():
    lock = threading.Lock()

    def build_one():
        with lock:
            return EchoEnv()

    with auto_make_vec(build_one, 2) as envs:
        plan = envs.plan
        assert (envs.mode, plan.decided_by) == ("sync", "elimination")
        assert "cannot be sent to another process" in plan.reason
        assert plan.evidence.profile is None
        assert plan.key is None
        envs.reset(seed=1)


# The learner's threads


def forecast(mode, threads, step_s, learner_s=0.0, error=0.0):
    return Forecast(mode, threads, Parts(step_s, 0.0, 0.0, 0.0), learner_s, error)


def test_a_small_gain_is_said_with_its_digits():
    sync, best = forecast("sync", None, 10.8), forecast("pool:1", None, 10.0, error=0.05)
    assert "Predicted 1.03-1.14 times" in explain.reason_of_model(Choice(best, (sync, best)), None)


@pytest.mark.parametrize(("learner_s", "said"), [(100.0, "more than 10 times"), (4.0, "2.5 times")])
def test_the_advice_on_threads_speaks_of_the_rollout_and_stays_modest(learner_s, said):
    best, other = forecast("sync", 2, 1.0, learner_s), forecast("pool:1", 1, 1.0, 1.0)
    (note,) = explain.of_threads(Choice(best, (best, other)))
    assert f"to give {said} the throughput of the rollout." in note.text


@pytest.fixture
def spinning(monkeypatch, machine, quiet, only_pools):
    """Beside torch with 2 threads, of which the other one spins, on 2 cores."""
    machine(cores=2.0)
    monkeypatch.setattr(planner, "measure_learner", lambda *arguments, **options: TORCH)
    monkeypatch.setattr(make, "_warned", set())


def busy():
    return BusyEnv(1 * MS)


def test_one_thread_that_is_worth_it_is_a_warning_once_in_a_process(spinning):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            with auto_make_vec(busy, 8, use_store=False) as envs:
                assert envs.plan.learner_threads is None
                assert envs.mode in ("sync", "pool:0")
    (warning,) = [one for one in caught if issubclass(one.category, VecselectWarning)]
    text = str(warning.message)
    assert "2 threads occupy cores" in text
    assert 'learner_threads="auto"' in text and '"with envs.collecting():"' in text
    assert "pool:1 with 1 thread" in text
    assert warning.filename == __file__
    assert envs.plan.notes[0].code == "learner-threads"


def test_where_the_plan_may_set_the_threads_it_does_and_says_nothing(spinning):
    plan = recommend(busy, 8, learner_threads="auto", use_store=False)
    assert (plan.mode, plan.learner_threads) == ("pool:1", 1)
    assert "with 1 thread for the learner" in plan.reason
    assert "learner-threads" not in {note.code for note in plan.notes}
    assert plan.chosen.threads == 1


@pytest.mark.parametrize(
    ("kind", "loud"), [("stand-in", False), ("callable", True), ("seconds", True), ("none", False)]
)
def test_overlap_beside_a_learner_that_is_assumed_is_no_warning(
    monkeypatch, machine, quiet, only_pools, kind, loud
):
    machine(cores=2.0)
    learner = LearnerCost(kind, 8 * MS, cores=0.0, half_share=0.5)
    monkeypatch.setattr(planner, "measure_learner", lambda *arguments, **options: (learner,))
    plan = recommend(busy, 8)
    assert {note.code: note.loud for note in plan.notes}["overlap"] is loud
    seen = ObservedRun("sync", None, 1000, 8 * MS, 6 * MS)
    PlanCache().observe(plan.key, script_name(), seen)
    fresh = recommend(busy, 8, fresh=True)
    assert {note.code: note.loud for note in fresh.notes}["overlap"]
    assert fresh.overlap.buffers_s == pytest.approx(6 * MS, rel=0.2)


def test_a_given_number_of_threads_is_measured_and_kept(monkeypatch):
    torch = FakeTorch(threads=4)
    monkeypatch.setitem(sys.modules, "torch", torch)
    plan = recommend("CartPole-v1", 2, learner_threads=2, use_store=False)
    assert plan.learner_threads == 2
    assert [one.threads for one in plan.evidence.learners] == [2]
    assert torch.threads == 4


# A busy machine


def test_a_plan_made_beside_other_programs_is_provisional(machine, monkeypatch):
    machine(cores=4.0, load_1min=3.0)
    monkeypatch.setattr(planner.ForeignLoad, "cores", lambda self: 3.0)
    plan = recommend(busy, 8)
    assert "kept 3.0 of 4 cores busy" in plan.provisional
    notes = {note.code: note.text for note in plan.notes}
    assert "expires after an hour" in notes["machine-busy"]
    unkept = recommend(busy, 8, use_store=False)
    notes = {note.code: note.text for note in unkept.notes}
    assert notes["machine-busy"].endswith("It is not remembered: the next start measures again.")
    assert plan.evidence.hand_off == HandOff()  # one that was measured would tell nothing
    assert plan.evidence.cores == 1.0
    assert plan.mode in ("sync", "pool:0")
    assert PlanCache().recall(plan.key).plan.provisional == plan.provisional


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"learner_threads": 0}, "learner_threads is 0"),
        ({"learner_threads": "all"}, "learner_threads is 'all'"),
        ({"allow": ("async",)}, "choose one of 'native'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_advice(options, match):
    with pytest.raises(RequestError, match=match):
        recommend("CartPole-v1", 2, **options)


# A deadline decides which modes there are to choose from


def under_deadline(effort="measure", step_timeout_s=60.0, **more):
    deadlines = {"step_timeout_s": step_timeout_s, **more}
    return recommend(
        "CartPole-v1", 4, effort=effort, vector_kwargs=deadlines, use_store=False, budget_s=1.5
    )


def test_what_runs_in_the_calling_process_is_left_out_and_the_reason_said():
    plan = under_deadline()
    skipped = {candidate.mode: candidate.skipped for candidate in plan.candidates}
    assert "cannot enforce step_timeout_s" in skipped["sync"]
    assert "pool:0" not in skipped
    assert plan.mode.partition(":")[0] in ("pool", "async")
    assert plan.break_even_s == {}
    assert not plan.evidence.caller_steps
    assert plan.candidates[0].mode == "pool:1"
    assert Plan.from_json(plan.to_json()) == plan


def test_the_rule_s_answer_gives_way_to_a_deadline():
    plan = under_deadline("rule")
    assert plan.mode == "async"
    assert "The rule says sync, but it cannot enforce step_timeout_s" in plan.reason
    assert under_deadline("rule", None, start_timeout_s=30.0).mode == "async"
    assert under_deadline("rule", None).mode == "sync"
