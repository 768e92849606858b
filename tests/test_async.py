"""Gymnasium's AsyncVectorEnv as mode `async` builds it: equal results, well-behaved workers."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import multiprocessing
import os
import pickle
import random
import signal
import sys
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.vector.async_vector_env import _async_worker

from tests import zoo
from tests.compare import assert_same_run
from tests.deeds import (
    ACTIONS,
    CLOSED_S,
    REPORTED_S,
    ZEROS,
    DoEnv,
    assert_gone,
    assert_usable,
    make,
    pids,
    within,
)
from vecselect import VecselectError, auto_make_vec, processes
from vecselect.errors import WorkerDied, WorkerError


def test_workers_lead_groups_of_their_own_and_are_deaf_to_ctrl_c():
    with make() as envs:
        envs.reset(seed=1)
        where = envs.call("where")
        assert all(pid == group != os.getpgid(0) for pid, group in where)
        for pid, _ in where:
            os.kill(pid, signal.SIGINT)
        assert_usable(envs)


def test_global_generators_differ_between_workers_and_follow_from_the_callers():
    def drawn(seed):
        np.random.seed(seed)
        random.seed(seed)
        with make(count=3) as envs:
            return envs.call("draw")

    np_state, state = np.random.get_state(), random.getstate()
    try:
        processes._environments_made, made = 0, processes._environments_made
        first = drawn(1)
        processes._environments_made = 0
        again = drawn(1)
        processes._environments_made = made
        other = drawn(2)
    finally:
        np.random.set_state(np_state)
        random.setstate(state)
    assert first == again != other
    assert len({number for numbers in first for number in numbers}) == 6


class TorchEnv(DoEnv):
    """Loads something that seeds as torch does."""

    def __init__(self, index=0):
        super().__init__(index)
        seeds = self.seeds = []
        if multiprocessing.parent_process():
            sys.modules["torch"] = types.SimpleNamespace(manual_seed=seeds.append)


def test_torch_is_seeded_where_an_environment_has_loaded_it():
    with make(TorchEnv) as envs:
        seeds = [seed for (seed,) in envs.get_attr("seeds")]
    assert len(set(seeds)) == 4


def test_attributes_are_those_of_the_environment_itself():
    with auto_make_vec("CartPole-v1", 2, mode="async") as envs:
        envs.reset(seed=3)
        assert envs.get_attr("spec") == (gym.make("CartPole-v1").spec,) * 2
        envs.set_attr("gravity", [1.0, 2.0])
        assert [env.gravity for env in envs.get_attr("unwrapped")] == [1.0, 2.0]
        assert envs.get_attr("np_random_seed") == (3, 4)
    with make() as envs:
        envs.set_attr("brand_new", 1)  # on the environment, not on something around it
        assert envs.call("__getattribute__", "brand_new") == (1,) * 4


def shifting_worker(index, env_fn, pipe, *rest):
    """A worker of the user's: Gymnasium's, around an environment of its own."""

    def wrapped():
        return gym.wrappers.TransformReward(env_fn(), lambda reward: reward + 5)

    _async_worker(index, wrapped, pipe, *rest)


def test_a_worker_of_the_users_is_guarded_too():
    oracle = SyncVectorEnv([functools.partial(DoEnv, i) for i in range(4)])
    envs = make(options={"worker": shifting_worker})
    assert envs.unwrapped.worker is shifting_worker
    for vector in (envs, oracle):
        vector.reset(seed=1)
    assert (envs.step(ACTIONS)[1] == oracle.step(ACTIONS)[1] + 5).all()
    everyone = pids(envs)
    with within(REPORTED_S), pytest.raises(WorkerError, match="left and right"):
        envs.call("do", "two arguments")
    assert_gone(everyone[2:3])
    with within(REPORTED_S), pytest.raises(WorkerDied, match="make a new one"):
        envs.reset()
    with within(CLOSED_S):
        envs.close()
    assert_gone(everyone, 0.5)
    oracle.close()


def test_environments_may_start_processes():
    with make() as envs:
        envs.call("do", "fork")
        assert_usable(envs)
    with make(options={"daemon": True}) as envs, pytest.raises(AssertionError, match="daemonic"):
        envs.call("do", "fork")


def test_results_are_those_of_the_loop_with_every_transport():
    for options in ({"shared_memory": False}, {"context": "fork"}, {"copy": False}):
        oracle = SyncVectorEnv([functools.partial(zoo.InfoEnv, i) for i in range(3)])
        with make(zoo.InfoEnv, 3, options) as envs:
            assert_same_run(envs, oracle, 20)


def test_a_forked_process_cannot_use_it_and_harms_nothing():
    with make() as envs:
        envs.reset(seed=1)
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(VecselectError):
                signal.alarm(5)
                envs.step(ZEROS)
                code = 2
            del envs
            gc.collect()
            os._exit(code - 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for refused in (copy.deepcopy, pickle.dumps):
            with pytest.raises(VecselectError, match="cannot be copied"):
                refused(envs.unwrapped)
        assert_usable(envs)
