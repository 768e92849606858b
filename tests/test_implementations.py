"""Other implementations: `native=factory`, and what is allowed is timed and compared."""

import re
import threading

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from examples.batched_env import Point, Points
from tests.records import US, a_profile, evidence
from vecselect import (
    ModeUnavailable,
    Plan,
    Report,
    RequestError,
    VecselectWarning,
    auto_make_vec,
    recommend,
    sweep,
)
from vecselect.modes import Mode
from vecselect.selection.candidates import candidate_modes
from vecselect.selection.evidence import Behaviour, ImplementationCost, LearnerCost
from vecselect.selection.model import choose, predict

FRESH = {"use_store": False, "budget_s": 20.0, "learner": 0}


class Changed(Points):
    """The same, but for what a subclass or an argument says."""

    def __init__(self, num_envs, **changed):
        super().__init__(num_envs)
        vars(self).update(changed)


class Bare(VectorEnv):
    """A vector environment that says nothing of itself."""

    def __init__(self, num_envs):
        pass


class HalfRewards(Points):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        return observations, rewards / 2, *rest


class ShortEpisodes(Points):
    """Of ten steps, with the same rewards."""

    def reset(self, **arguments):
        self.count = 0
        return super().reset(**arguments)

    def step(self, actions):
        self.count += 1
        observations, rewards, terminated, truncated, infos = super().step(actions)
        self.ended |= self.count % 10 == 0
        return observations, rewards, self.ended, truncated, infos


# The factory


def test_a_factory_is_pinned_with_the_environments_arguments():
    """It takes the place of the `vector_entry_point` that is registered."""

    def make(num_envs, **kwargs):
        assert kwargs == {"g": 5.0}
        return Points(num_envs)

    with auto_make_vec("CartPole-v1", 5, mode="native", native=make, g=5.0) as envs:
        assert isinstance(envs.unwrapped, Points)
        assert (envs.num_envs, envs.plan.decided_by) == (5, "pin")
        first = envs.reset(seed=1)[0]
        assert np.array_equal(envs.reset(seed=1)[0], first)
        assert envs.step(np.zeros((5, 2), np.float32))[1].shape == (5,)


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (Points(2), r"native is Points\(num_envs=2\); give a callable that takes num_envs"),
        (lambda num_envs: gym.make("CartPole-v1"), "returned a TimeLimit|returned a .*; it must"),
        (lambda num_envs: Points(num_envs + 1), "num_envs=3 and made 4 sub-environments"),
        (lambda num_envs: Changed(num_envs, metadata={}), "Changed without 'autoreset_mode'"),
        (lambda num_envs: Changed(num_envs, metadata={"autoreset_mode": 1}), "is 1; it must be a"),
        (Bare, "Bare without .*num_envs"),
    ],
)
def test_what_is_no_such_vector_environment_is_refused(factory, says):
    with pytest.raises(RequestError, match=says):
        auto_make_vec(Point, 3, mode="native", native=factory)
    if callable(factory):
        with pytest.raises(RequestError, match=says):
            recommend(Point, 3, native=factory, allow=("native",), **FRESH)


@pytest.mark.parametrize(
    "options",
    [
        {"wrappers": [gym.wrappers.TimeAwareObservation]},
        {"vector_kwargs": {"autoreset_mode": "SameStep"}},
    ],
)
def test_what_would_be_dropped_is_refused(options):
    with pytest.raises(ModeUnavailable, match="takes no wrappers|takes no vector_kwargs"):
        auto_make_vec(Point, 2, mode="native", native=Points, **options)


# Allowed


def test_what_is_allowed_is_timed_compared_and_taken_where_it_is_the_fastest():
    plan = recommend(Point, 256, native=Points, allow=("native",), **FRESH)
    assert plan.mode == "native"  # 256 points in a few array operations
    assert "another implementation of the environment, with other random numbers" in plan.reason
    (cost,) = plan.evidence.implementations
    assert plan.candidate("native").predicted.mid == pytest.approx(cost.vector_step_s)
    assert cost.behaviour.steps == cost.reference.steps
    assert not cost.behaviour.differs(cost.reference)
    assert not [note for note in plan.notes if note.code.startswith("implementation")]
    assert Plan.from_json(plan.to_json()) == plan
    assert "mean reward" in str(Report(plan).details)


@pytest.mark.parametrize(
    ("factory", "words"), [(HalfRewards, "a mean reward of"), (ShortEpisodes, "to episodes of 9.")]
)
def test_one_that_leads_elsewhere_is_a_warning(factory, words):
    name = f"For{factory.__name__}"  # of each environment there is one warning
    with (
        pytest.warns(VecselectWarning, match=f"native does not behave as {name} does") as caught,
        auto_make_vec(
            type(name, (Point,), {}), 16, native=factory, allow=("native",), **FRESH
        ) as envs,
    ):
        (note,) = [n for n in envs.plan.notes if n.code == "implementation-differs"]
    assert note.loud
    assert words in note.text
    assert any(str(one.message) == note.text for one in caught)


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (lambda num_envs: 1 / 0, "ZeroDivisionError: division by zero"),
        (
            lambda num_envs: Changed(
                num_envs, single_observation_space=gym.spaces.Box(-9, 9, (2,), np.float32)
            ),
            r"its observation space is Box\(-9.0, .* not Box\(-10.0",
        ),
        (
            lambda num_envs: Changed(
                num_envs, metadata={"autoreset_mode": AutoresetMode.SAME_STEP}
            ),
            "its autoreset mode is AutoresetMode.SAME_STEP, and the loop's is NEXT_STEP",
        ),
    ],
)
def test_one_that_cannot_be_chosen_is_left_out_aloud(factory, why):
    plan = recommend(Point, 2, native=factory, allow=("native",), **FRESH)
    assert plan.mode != "native"
    (note,) = [note for note in plan.notes if note.code == "implementation-left-out"]
    assert note.loud
    for text in (note.text, plan.candidate("native").skipped):
        assert re.search(why, text)


def never(num_envs):
    raise AssertionError


def test_what_is_not_allowed_is_not_even_called():
    plan = recommend(Point, 2, native=never, **FRESH)
    assert 'allow=("native",)' in plan.candidate("native").skipped


@pytest.mark.full
def test_a_race_and_a_sweep_run_a_factory_that_no_other_process_can_have():
    lock = threading.Lock()

    def locked(num_envs):
        with lock:
            return Points(num_envs)

    options = {"native": locked, "use_store": False, "budget_s": 3.0}
    plan = recommend(Point, 256, allow=("native",), effort="race", **options)
    assert plan.candidate("native").measured is not None
    found = sweep(Point, (2, 4), native=locked, modes=["sync", "native"], budget_s=3)
    assert found.of("native", 4).env_steps_per_s is not None


# By hand


COST = ImplementationCost("native", vector_step_s=30 * US, cores_used=2.0)


def test_it_is_a_candidate_where_it_was_timed_and_costs_what_was_timed():
    kinds = ("sync", "pool", "native", "envpool")
    known = evidence(100 * US, kinds=kinds, implementations=(COST,))
    assert [str(mode) for mode in candidate_modes(known)][-1] == "native"
    assert choose(known).best.mode == "native"
    assert predict(Mode("native"), known).parts.total_s == pytest.approx(30 * US)
    spinning = LearnerCost("stand-in", 100 * US, 2, 1.0, 5e-3)
    crowded = evidence(
        a_profile(100 * US), cores=2.0, implementations=(COST,), learners=(spinning,)
    )
    assert predict(Mode("native"), crowded).parts.hand_off_s > 0


def behaviour(**values):
    start = {"samples": 16, "steps": 100, "return_mean": 50.0, "return_sd": 4.0}
    return Behaviour(**{**start, "ends_mean": 5.0, "ends_sd": 1.0, **values})


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({}, False),
        ({"return_mean": 58.0}, False),  # 5.7 standard errors
        ({"return_mean": 59.0}, True),
        ({"ends_mean": 7.2}, True),
        ({"return_sd": 100.0, "return_mean": 100.0}, False),
        ({"return_mean": 50.00001, "return_sd": 0.0}, False),  # rounding
    ],
)
def test_means_differ_beyond_chance(changed, differs):
    assert behaviour().differs(behaviour(**changed)) is differs
