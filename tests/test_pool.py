"""What the pool promises beyond the contract of every mode."""

from __future__ import annotations

import functools
import multiprocessing
import os
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from tests import zoo
from vecselect import auto_make_vec
from vecselect.backends.pool import link
from vecselect.backends.pool.commands import LaneCalls
from vecselect.backends.pool.link import EAGER_TRIES, Signal
from vecselect.process import contexts
from vecselect.testing.contract import assert_same


def echoes(count):
    return [functools.partial(zoo.EchoEnv, index) for index in range(count)]


def test_waits_are_spun_through_only_while_they_are_short(monkeypatch):
    for name in ("SPIN_LIMIT_S", "LONG_YIELD_S"):  # no matter who else has the core
        monkeypatch.setattr(link, name, 60.0)
    signal, tries = Signal(contexts.get_context()), []
    comes_at = 0  # at which try it is given; never if 0

    def acquire(block):
        tries.append(block)
        return len(tries) == comes_at

    signal.acquire = acquire

    def spins():
        tries.clear()
        signal.spun(10 * EAGER_TRIES)
        return len(tries) > EAGER_TRIES

    assert [spins() for _ in range(16)] == [True] * 4 + [False] * 11 + [True]
    comes_at = 3 * EAGER_TRIES
    assert [spins() for _ in range(32)] == [False] * 15 + [True] * 17
    assert len(tries) == comes_at


def test_there_is_one_process_per_worker_and_none_more():
    before = len(psutil.Process().children(recursive=True))
    with auto_make_vec(echoes(64), mode="pool:3") as envs:
        assert len(envs.unwrapped._workers.each) == 3
        started = len(psutil.Process().children(recursive=True)) - before
        assert started in (3, 4, 5)  # the fork server and the resource tracker may be new
    with auto_make_vec(echoes(2), mode="pool:1") as envs:
        assert len(envs.unwrapped._workers.each) == 1


@pytest.mark.parametrize(
    ("factory", "actions"),
    [
        (zoo.EchoEnv, [0, 1, 2, 3]),
        (zoo.EchoEnv, np.array([0, 1, 2, 3], np.int16)),
        (lambda: gym.make("Pendulum-v1"), np.linspace(-1, 1, 4).reshape(4, 1) / 3),  # no float32
    ],
)
def test_actions_reach_the_environments_with_the_values_they_were_given(factory, actions):
    with auto_make_vec([factory] * 4, mode="pool:1") as envs:
        oracle = SyncVectorEnv([factory] * 4)
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        for _ in range(3):
            assert_same(envs.step(actions), oracle.step(actions))


@pytest.mark.parametrize("mode", ["pool:0", "pool:1"])
def test_without_copy_a_result_holds_until_the_second_next_step_begins(mode):
    with auto_make_vec(echoes(4), mode=mode, vector_kwargs={"copy": False}) as envs:
        first, _ = envs.reset(seed=1)
        kept = first.copy()
        envs.step_async(np.array([1, 2, 3, 4]))
        time.sleep(0.05)
        assert_same(first, kept)
        second = envs.step_wait()[0]
        assert_same(first, kept)
        assert not np.shares_memory(first, second)
        after, _ = envs.reset(options={"reset_mask": np.array([True, False, False, True])})
        assert_same(after[1:3], second[1:3])
        assert after[0, 3] == after[3, 3] == 0


def test_spaces_that_do_not_go_together_are_an_error_and_leave_no_process():
    def make(high):
        return lambda: zoo.SampleEnv(spaces.Box(0, high, (2,), np.float32))

    before = set(multiprocessing.active_children())
    with pytest.raises(RuntimeError, match="Sub-environment 3 has the observation space"):
        auto_make_vec([make(1), make(1), make(1), make(2)], mode="pool:1")
    assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}])
def test_an_interrupt_when_all_is_built_leaves_no_process(monkeypatch, options):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(LaneCalls, "_describe", interrupted)
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        auto_make_vec([zoo.EchoEnv] * 4, mode="pool:2", **options)
    assert set(multiprocessing.active_children()) == before


def test_workers_are_told_how_many_threads_to_use(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    with auto_make_vec(VariableEnv, 4, "pool:1", vector_kwargs={"context": "spawn"}) as envs:
        assert int(envs.get_attr("omp")[3]) >= 1
        assert envs.get_attr("mkl")[3] == "7"


class VariableEnv(zoo.EchoEnv):
    @property
    def omp(self):
        return os.environ.get("OMP_NUM_THREADS")

    @property
    def mkl(self):
        return os.environ.get("MKL_NUM_THREADS")


class Sloppy(zoo.EchoEnv):
    """Returns what is not what it should be."""

    def __init__(self, index, reward=0.0, info=None):
        super().__init__(index)
        self.reward, self.info = reward, info

    def step(self, action):
        observation, _, terminated, truncated, _ = super().step(action)
        return observation, self.reward, terminated, truncated, self.info

    def close(self):
        raise RuntimeError("stuck valve")


@pytest.mark.parametrize("mode", ["pool:0", "pool:1"])
@pytest.mark.parametrize(
    ("returned", "message"),
    [({"reward": None, "info": {}}, "reward that is no float"), ({}, "None as its info")],
)
def test_rewards_and_infos_that_are_none_are_errors(mode, returned, message, capfd):
    env_fns = [functools.partial(zoo.EchoEnv, 0), functools.partial(Sloppy, 1, **returned)]
    envs = auto_make_vec(env_fns, mode=mode, vector_kwargs={"context": "spawn"})
    envs.reset(seed=1)
    with pytest.raises(TypeError, match=f"Sub-environment 1 returned.*{message}"):
        envs.step(np.zeros(2, np.int64))
    if mode == "pool:0":
        with pytest.raises(RuntimeError, match="stuck valve"):
            envs.close()
    else:
        envs.close()
        line = "vecselect: sub-environment 1 raised RuntimeError in close(): stuck valve\n"
        assert capfd.readouterr().err == line
    assert envs.closed
    envs.close()
