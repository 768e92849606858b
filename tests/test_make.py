"""`auto_make_vec` and `recommend` from the request to the running vector environment."""

import functools
import multiprocessing
import random
import signal
import sys
import traceback

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeAwareObservation

from tests.processes import children, until, wait_until_gone
from tests.zoo import ActingEnv, BusyEnv, EchoEnv
from vecselect import (
    AutoVectorEnv,
    Plan,
    RequestError,
    WorkerError,
    auto_make_vec,
    available_modes,
    recommend,
)
from vecselect.machine import read_machine
from vecselect.testing.contract import assert_same_run

QUICK = {"effort": "rule", "budget_s": 0.05}


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
        with pytest.raises(TypeError, match="unexpected keyword argument 'gravity'"):
            auto_make_vec("Pendulum-v1", 2, gravity=9.0, **asked)
        with pytest.raises(gym.error.DependencyNotInstalled, match="pip install simulator"):
            auto_make_vec(Lacking, 2, **asked)
        with pytest.raises(RequestError, match="^A callable that should build .* returned None"):
            auto_make_vec(lambda: None, 2, **asked)
    assert until(lambda: not multiprocessing.active_children(), 10.0)


def test_environments_of_different_spaces_are_refused_as_by_a_pin():
    makers = [lambda: gym.make("Pendulum-v1"), lambda: gym.make("CartPole-v1")]
    for asked in ({"mode": "sync"}, {"mode": "pool:1"}, {}, {"effort": "race", "budget_s": 1.5}):
        # In Gymnasium 1.1 the loop asserts it.
        with pytest.raises((RuntimeError, AssertionError), match="not equivalent|has the obs"):
            auto_make_vec(makers, **asked)


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


# What sub-environments may do, and be given, in every mode

MODES = ("sync", "pool:1", "thread:1")


def leave():
    sys.exit(3)


def fail_for_a_reason():
    try:
        raise LookupError("no such joint")
    except LookupError as error:
        raise ValueError("cannot step") from error


class Tensor:
    """An array of another library, such as a tensor of torch: so are its elements."""

    def __init__(self, values):
        self.values = np.array(values)

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return map(Tensor, self.values)

    def __array__(self, dtype=None, copy=None):
        return self.values


def used(env_fns, mode, actions=(0, 0)):
    with auto_make_vec(env_fns, mode=mode) as envs:
        envs.reset(seed=1)
        return envs.step(np.array(actions))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("phase", ["construct", "reset", "step"])
def test_a_sub_environment_that_exits_does_not_end_the_program(mode, phase, row):
    env_fns = [ActingEnv] * 2
    env_fns[row] = functools.partial(ActingEnv, phase, leave)
    with pytest.raises(WorkerError) as caught:
        used(env_fns, mode)
    if not (mode == "pool:1" and row and phase != "construct"):  # there it ends its worker
        assert "sys.exit(3)" in str(caught.value)


def test_a_signal_s_handler_ends_the_program_also_amid_a_step():
    def stop(number, frame):
        sys.exit(7)

    before = signal.signal(signal.SIGUSR1, stop)
    act = functools.partial(signal.raise_signal, signal.SIGUSR1)
    try:
        for mode in ("sync", "pool:0"):
            with pytest.raises(SystemExit, match="7"):
                used([functools.partial(ActingEnv, "step", act)] * 2, mode)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("mode", ["pool:0", "pool:1", "thread:1"])
def test_what_a_sub_environment_raises_is_shown_without_internals(mode, row):
    env_fns = [ActingEnv] * 2
    env_fns[row] = functools.partial(ActingEnv, "step", fail_for_a_reason)
    with pytest.raises(ValueError, match="cannot step") as caught:
        used(env_fns, mode)
    shown = "".join(traceback.format_exception(caught.value))
    assert "LaneFailure" not in shown
    assert "During handling" not in shown
    assert "no such joint" in shown


@pytest.mark.parametrize("mode", [*MODES, "async", "pool:2"])
def test_tensors_are_taken_as_actions(mode):
    with auto_make_vec(ActingEnv, 3, mode=mode) as envs:
        envs.reset(seed=1)
        observations, *_ = envs.step(Tensor([2, 0, 1]))
        assert observations.ravel().tolist() == [2, 0, 1]
