"""What only mode `async` does; see `test_contract` and `faults` for what it shares with others."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.vector.async_vector_env import _async_worker

from tests import zoo
from tests.faults import faulty
from tests.faults.faulty import (
    COUNT,
    REPORTED_S,
    ZEROS,
    FaultyEnv,
    actions,
    close_in_time,
    pids,
    within,
)
from tests.marks import only_full
from tests.processes import gone
from vecselect import ModeUnavailable, VecselectError, WorkerDied, auto_make_vec
from vecselect.process.contexts import get_context
from vecselect.testing.contract import assert_same, assert_same_run

make = functools.partial(faulty.make, "async")


@pytest.mark.parametrize(
    "options", [{"shared_memory": False}, *only_full({"context": "fork"}, {"context": "spawn"})]
)
def test_results_are_those_of_the_loop_however_it_is_started(options):
    oracle = SyncVectorEnv([functools.partial(zoo.InfoEnv, i) for i in range(3)])
    with make(zoo.InfoEnv, 3, options) as envs:
        assert_same_run(envs, oracle, 20)


class TorchEnv(zoo.EchoEnv):
    """Loads something that seeds as torch does."""

    def __init__(self, index=0):
        super().__init__(index)
        seeds = self.seeds = []
        if multiprocessing.parent_process():
            sys.modules["torch"] = types.SimpleNamespace(manual_seed=seeds.append)


def test_torch_is_seeded_where_an_environment_has_loaded_it():
    with make(TorchEnv) as envs:
        assert len({seed for (seed,) in envs.get_attr("seeds")}) == COUNT


def test_attributes_are_those_of_the_environment_itself():
    with auto_make_vec("CartPole-v1", 2, mode="async") as envs:
        assert envs.get_attr("spec") == (gym.make("CartPole-v1").spec,) * 2
        envs.set_attr("gravity", [1.0, 2.0])
        assert [env.gravity for env in envs.get_attr("unwrapped")] == [1.0, 2.0]
    with make() as envs:
        envs.set_attr("brand_new", 1)
        assert envs.call("__getattribute__", "brand_new") == (1,) * COUNT


def test_arguments_may_be_functions():
    with make(zoo.EchoEnv) as envs:
        envs.set_attr("twice", lambda value: 2 * value)
        assert envs.call("twice", 3) == (6,) * COUNT


def test_environments_may_not_start_processes_where_that_was_asked_for():
    with (
        make(faulty.Forks, options={"daemon": True}) as envs,
        pytest.raises(AssertionError, match="daemonic"),
    ):
        envs.reset()
        envs.step(ZEROS)


def shifting_worker(index, env_fn, pipe, *rest):
    """A worker of the user's: Gymnasium's, around an environment of its own."""

    def wrapped():
        return gym.wrappers.TransformReward(env_fn(), lambda reward: reward + 5)

    _async_worker(index, wrapped, pipe, *rest)


def test_with_a_worker_of_the_users_it_is_gymnasiums_own_with_a_safe_start():
    oracle = SyncVectorEnv([functools.partial(zoo.EchoEnv, i) for i in range(COUNT)])
    with make(zoo.EchoEnv, options={"worker": shifting_worker}) as envs:
        assert type(envs.unwrapped).__base__ is AsyncVectorEnv
        assert all(type(one) is get_context().Process for one in envs.unwrapped.processes)
        for vector in (envs, oracle):
            vector.reset(seed=1)
        assert (envs.step(ZEROS)[1] == oracle.step(ZEROS)[1] + 5).all()
    oracle.close()
    with pytest.raises(
        ModeUnavailable, match="worker function of your own cannot enforce deadlines"
    ):
        make(options={"worker": shifting_worker, "step_timeout_s": 1.0})


# What environments raise, or return wrongly


@pytest.mark.parametrize("autoreset_mode", ["NextStep", "SameStep"])
def test_a_mistaken_name_leaves_every_episode_where_it_is(autoreset_mode):
    """Also where an autoreset is due, which only the worker knows."""
    options = {"shared_memory": False, "autoreset_mode": autoreset_mode}
    fns = [functools.partial(FaultyEnv, i) for i in range(COUNT)]
    oracle = SyncVectorEnv(fns, autoreset_mode=autoreset_mode)
    mask = np.array([True, False, False, True])
    with make(options=options) as envs:
        before = pids(envs)
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        for step in range(14):
            for mistake in (
                lambda: envs.get_attr("no_such_name"),
                lambda: envs.call("step", 1),
                lambda: envs.call("do", "unpicklable", 2),
                lambda: envs.get_attr("lock"),
                lambda: envs.set_attr("note", [threading.Lock()] * COUNT),
            ):
                with pytest.raises((AttributeError, ValueError, TypeError, VecselectError)):
                    mistake()
            assert_same(envs.step(actions()), oracle.step(actions()))
            if step % 5 == 3:
                for vector in (envs, oracle):
                    masked = vector.reset(seed=step, options={"reset_mask": mask})
                    assert masked[0][:, 1].tolist()[0] == step
        assert pids(envs) == before
    oracle.close()


class Nested(faulty.Returns):
    def _good(self):
        return {"a": 1, "b": np.zeros(2, np.float32)}


def test_parts_that_do_not_fit_are_named():
    space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0, 1, (2,), np.float32)})
    with make(Nested, 2, space=space) as envs:
        envs.call("give", "observation", {"a": 1, "b": np.zeros(1, np.float32)}, 1)
        envs.reset()
        envs.step(ZEROS[:2])
        with pytest.raises(ValueError, match=r"observation\['b'\] of shape \(1,\)"):
            envs.step(ZEROS[:2])


# Workers that die, hang or cannot be started


def test_a_death_is_reported_at_once_though_another_worker_is_stuck():
    envs = make()
    envs.reset(seed=1)
    everyone = pids(envs)
    envs.step_async(actions({0: "sleep"}))
    with pytest.raises(multiprocessing.TimeoutError):
        envs.step_wait(timeout=0.05)
    os.kill(everyone[2], signal.SIGKILL)
    uses = (envs.step_wait, lambda: envs.step(ZEROS), envs.reset, lambda: envs.get_attr("label"))
    for call in uses:
        with within(REPORTED_S), pytest.raises(WorkerDied, match="make a new one") as caught:
            call()
        named = f"(pid {everyone[2]}), which runs sub-environment 2, was ended by SIGKILL"
        assert named in str(caught.value)
    close_in_time(envs, timeout=0.1)
    assert all(gone(pid, 0.5) for pid in everyone)


class WideEnv(zoo.EchoEnv):
    """Its actions do not fit into a pipe at once."""

    def __init__(self, index):
        super().__init__(index)
        self.action_space = spaces.Box(-1, 1, (1_000_000,), np.float32)


@pytest.mark.full
def test_a_handler_closes_in_the_midst_of_a_message_that_does_not_get_through():
    envs = make(WideEnv, 2)
    envs.reset(seed=1)
    everyone = [process.pid for process in envs.env.processes]
    os.kill(everyone[1], signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, lambda *_: envs.close(timeout=0.1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with within(REPORTED_S + 2.0), pytest.raises(ClosedEnvironmentError):
            envs.step(np.zeros((2, 1_000_000), np.float32))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert all(gone(pid, 0.5) for pid in everyone)


def test_closing_what_is_being_closed_does_nothing():
    envs = make()
    envs.reset(seed=1)
    envs.close()
    envs.env.close_extras()  # as of a thread that has begun to close it too


def test_what_close_raises_is_written_to_stderr_and_nothing_else(capfd):
    make(options={"context": "spawn"}, row=2, close="key").close()
    line = "vecselect: sub-environment 2 raised KeyError in close(): 'missing_key'\n"
    assert capfd.readouterr() == ("", line)


class Unloadable:
    """A factory that breaks where it is unpacked."""

    def __reduce__(self):
        return int, ("no number",)

    def __call__(self):
        return zoo.EchoEnv(1)


def test_a_factory_that_cannot_be_unpacked_says_so():
    with pytest.raises(ValueError, match="no number"):
        auto_make_vec([zoo.EchoEnv, Unloadable()], mode="async")
