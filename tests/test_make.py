"""`auto_make_vec` and `recommend` from the request to the running vector environment."""

import functools
import multiprocessing
import random

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeAwareObservation

from tests.processes import children, wait_until_gone
from tests.zoo import ActingEnv, BusyEnv, EchoEnv
from vecselect import (
    AutoVectorEnv,
    Plan,
    ProfileError,
    RequestError,
    auto_make_vec,
    available_modes,
    recommend,
)
from vecselect.machine import read_machine
from vecselect.testing.contract import assert_same_run

QUICK = {"effort": "rule", "budget_s": 0.05}


def broken(phase):
    """A factory of environments that fail in a phase. Local, so that it is sent by value."""

    def fail():
        raise LookupError(f"no asset in {phase}")

    return functools.partial(ActingEnv, phase, fail)


def test_a_fast_environment_runs_as_the_rule_says_and_nothing_is_printed(capfd):
    random_state, numpy_state = random.getstate(), np.random.get_state()
    with auto_make_vec("Pendulum-v1", 8, **QUICK) as envs:
        assert isinstance(envs, AutoVectorEnv)
        assert envs.num_envs == 8
        plan = envs.plan
        assert envs.mode == plan.mode == plan.evidence.rule.mode == "sync"
        assert plan.decided_by == "rule"
        assert (plan.env, plan.num_envs, plan.pinned_by) == ("Pendulum-v1", 8, None)
        assert plan.evidence.autoreset_mode == "NextStep"
        assert {"sync", "async"} <= {candidate.mode for candidate in plan.candidates}
        assert random.getstate() == random_state
        for now, before in zip(np.random.get_state(), numpy_state, strict=True):
            assert np.array_equal(now, before)
        oracle = SyncVectorEnv([lambda: gym.make("Pendulum-v1")] * 8)
        assert_same_run(envs, oracle, 20, seed=1)
    assert capfd.readouterr() == ("", "")


def test_an_environment_above_the_rules_line_runs_in_processes():
    with auto_make_vec(BusyEnv, 2, **QUICK) as envs:
        assert envs.mode == ("async" if read_machine().cores >= 2 else "sync")
        assert envs.reset(seed=1)[0].shape == (2, 3)


def test_a_recommendation_is_a_plan_and_leaves_no_process_behind():
    recommend(EchoEnv, 2, **QUICK)  # The fork server stays: it is the interpreter's.
    before = children()
    plan = recommend(EchoEnv, 2, vector_kwargs={"autoreset_mode": "SameStep"}, **QUICK)
    assert type(plan) is Plan
    assert plan.decided_by == "rule"
    assert plan.evidence.autoreset_mode == AutoresetMode.SAME_STEP.value
    assert plan.evidence.profile.steps >= 1
    assert plan.candidate("ray") is None  # nothing is said of it unless it is allowed
    assert Plan.from_json(plan.to_json()) == plan
    wait_until_gone(before)


def test_what_building_raises_is_raised_as_by_a_pinned_mode():
    class Lacking(EchoEnv):
        def __init__(self):
            raise gym.error.DependencyNotInstalled("no simulator; run `pip install simulator`")

    for asked in (QUICK, {"mode": "sync"}, {"mode": "pool:1"}):
        with pytest.raises(LookupError, match="no asset in construct") as caught:
            auto_make_vec(broken("construct"), 2, **asked)
        assert type(caught.value) is LookupError
        with pytest.raises(TypeError, match="unexpected keyword argument 'gravity'"):
            auto_make_vec("Pendulum-v1", 2, gravity=9.0, **asked)
        with pytest.raises(gym.error.DependencyNotInstalled, match="pip install simulator"):
            auto_make_vec(Lacking, 2, **asked)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("asked", [QUICK, {"mode": "sync"}, {"mode": "pool:1"}])
def test_a_factory_that_returns_no_environment_is_a_request_error(asked):
    with pytest.raises(
        RequestError, match="^A callable that should build a sub-environment returned None"
    ) as caught:
        auto_make_vec(lambda: None, 2, **asked)
    assert type(caught.value) is RequestError


@pytest.mark.parametrize("effort", ["measure", "race"])
def test_environments_of_different_spaces_are_refused_as_by_a_pin(effort):
    makers = [lambda: gym.make("Pendulum-v1"), lambda: gym.make("CartPole-v1")]
    for asked in ({"mode": "sync"}, {"mode": "pool:1"}, {"effort": effort, "budget_s": 1.5}):
        # Gymnasium's own `SyncVectorEnv` raises an AssertionError up to 1.1.
        with pytest.raises(
            (RuntimeError, AssertionError), match="are not equivalent|has the observation space"
        ):
            auto_make_vec(makers, **asked)


@pytest.mark.parametrize("phase", ["reset", "step"])
def test_an_environment_that_fails_while_measured_is_an_error_with_its_own_chained(phase):
    recommend(EchoEnv, 2, **QUICK)  # the fork server stays
    before = children()
    with pytest.raises(ProfileError, match=rf"LookupError in {phase}\(\).*no asset") as caught:
        recommend(broken(phase), 2, **QUICK)
    cause = caught.value.__cause__
    assert type(cause) is LookupError
    assert str(cause) == f"no asset in {phase}"
    wait_until_gone(before)


def test_two_factories_of_one_instance_are_an_error_measured_and_pinned():
    env = EchoEnv()
    factories = [lambda: env, lambda: env]
    for asked in (QUICK, {"mode": "sync"}):
        with pytest.raises(RequestError, match="0 and 1 return the same instance"):
            auto_make_vec(factories, **asked)
        with pytest.raises(RequestError, match="1 and 2 return the same instance"):
            auto_make_vec([EchoEnv, *factories], **asked)
        with pytest.raises(RequestError, match="0 and 1 return the same instance"):
            auto_make_vec(lambda: env, 2, **asked)


def test_wrappers_vector_kwargs_and_keyword_arguments_are_honoured():
    with auto_make_vec(
        "Pendulum-v1",
        2,
        "sync",
        wrappers=[TimeAwareObservation],
        vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED, "copy": False},
        g=1.62,
    ) as envs:
        assert envs.get_attr("g") == (1.62, 1.62)
        assert envs.single_observation_space.shape == (4,)
        assert envs.autoreset_mode is AutoresetMode.DISABLED
        first = envs.reset(seed=1)[0]
        assert envs.step(envs.action_space.sample())[0] is first


def test_verbose_prints_the_report_once_to_stderr(capsys):
    with auto_make_vec("Pendulum-v1", 2, mode="sync", verbose=True) as envs:
        output = capsys.readouterr()
        envs.reset(seed=1)
    assert output.out == ""
    assert output.err.count("vecselect: Pendulum-v1 x 2") == 1
    assert "pinned by mode='sync'" in output.err
    assert capsys.readouterr() == ("", "")


def test_available_modes_are_every_mode_with_nothing_or_a_sentence():
    modes = available_modes()
    assert {"sync", "async", "native"} <= set(modes)
    assert modes["sync"] is None
    assert all(reason is None or reason.strip() for reason in modes.values())
