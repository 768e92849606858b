"""What the pool promises beyond the contract of every mode."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import threading
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import SyncVectorEnv

from tests import zoo
from tests.compare import assert_same, assert_same_run
from vecselect import VecselectError, auto_make_vec
from vecselect.backends.pool import link
from vecselect.backends.pool.link import EAGER_TRIES, Signal
from vecselect.errors import RequestError, WorkerDied, WorkerError
from vecselect.process import contexts


def echoes(count):
    return [functools.partial(zoo.EchoEnv, index) for index in range(count)]


class Odd(zoo.EchoEnv):
    """Does something wrong, slow or fatal when its action is 9."""

    def __init__(self, index, what):
        super().__init__(index)
        self.what = what

    def step(self, action):
        if action == 9:
            if self.what == "raise":
                raise KeyError("a key", self.index)
            if self.what == "raise oddly":
                raise TwoArguments("left", "right")
            if self.what == "exit":
                os._exit(3)
            if self.what == "sleep":
                time.sleep(1.5)
            if self.what == "shape":
                return np.zeros(1), 0.0, False, False, {}
            if self.what == "dtype":
                return np.zeros(5, complex), 0.0, False, False, {}
            if self.what == "info":
                return super().step(action)[:4] + ({"lock": threading.Lock()},)
        return super().step(action)

    @property
    def odd_label(self):
        return self.label

    @odd_label.setter
    def odd_label(self, value):
        if value == "refuse" and self.index == 3:
            raise ValueError("not here")
        self.label = value


class TwoArguments(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} {right}")


def odd(what, count=4):
    return [functools.partial(Odd, index, what) for index in range(count)]


def test_waits_are_spun_through_only_while_they_are_short(monkeypatch):
    monkeypatch.setattr(link, "SPIN_LIMIT_S", 60.0)  # no matter who else has the core
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


def test_with_a_deadline_the_caller_steps_nothing_and_any_of_them_may_be_pinned():
    options = {"step_timeout_s": 60.0}
    for mode, count in (("pool:1", 1), ("pool:3", 3), ("pool:4", 4)):
        with auto_make_vec(Pids, 4, mode=mode, vector_kwargs=options) as envs:
            pids = envs.get_attr("pid")
            assert envs.mode == mode
            assert os.getpid() not in pids
            assert len(set(pids)) == count
    with auto_make_vec(Pids, 1, mode="pool", vector_kwargs=options) as envs:
        assert envs.mode == "pool:1"


class Pids(zoo.EchoEnv):
    @property
    def pid(self):
        return os.getpid()


def test_the_final_observation_is_the_terminal_one_even_if_its_buffer_is_reused():
    for mode in ("pool:0", "pool:1"):
        options = {"autoreset_mode": "SameStep"}
        with auto_make_vec(zoo.BufferEnv, 2, mode, vector_kwargs=options) as envs:
            envs.reset()
            for _ in range(3):
                observations, *_, infos = envs.step(np.zeros(2, np.int64))
            assert observations.tolist() == [[0, 0], [0, 0]]
            assert [final.tolist() for final in infos["final_obs"]] == [[3, 3], [3, 3]]
            assert infos["final_info"]["steps"].tolist() == [3, 3]
            assert infos["steps"].tolist() == [0, 0]


@pytest.mark.parametrize("actions", [[0, 1, 2, 3], np.array([0, 1, 2, 3], np.int16)])
def test_actions_reach_the_environments_with_the_values_they_were_given(actions):
    with auto_make_vec(echoes(4), mode="pool:1") as envs:
        oracle = SyncVectorEnv(echoes(4))
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        assert_same(envs.step(actions), oracle.step(actions))


def test_float64_actions_are_not_rounded_to_the_spaces_float32():
    oracle = SyncVectorEnv([lambda: gym.make("Pendulum-v1")] * 4)
    actions = np.linspace(-1, 1, 4).reshape(4, 1) / 3
    with auto_make_vec("Pendulum-v1", 4, "pool:1") as envs:
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        for _ in range(5):
            assert_same(envs.step(actions), oracle.step(actions))


def test_without_copy_a_result_holds_until_the_second_next_step_begins():
    for mode in ("pool:0", "pool:1"):
        with auto_make_vec(echoes(4), mode=mode, vector_kwargs={"copy": False}) as envs:
            first, _ = envs.reset(seed=1)
            kept = first.copy()
            envs.step_async(np.array([1, 2, 3, 4]))
            time.sleep(0.05)
            assert_same(first, kept)
            second = envs.step_wait()[0]
            assert_same(first, kept)
            assert not np.shares_memory(first, second)


def test_without_copy_a_masked_reset_keeps_the_other_rows():
    with auto_make_vec(echoes(4), mode="pool:1", vector_kwargs={"copy": False}) as envs:
        envs.reset(seed=1)
        before = envs.step(np.array([1, 2, 3, 4]))[0].copy()
        after, _ = envs.reset(options={"reset_mask": np.array([True, False, False, True])})
        assert_same(after[1:3], before[1:3])
        assert after[0, 3] == after[3, 3] == 0


@pytest.mark.full
def test_beginning_a_step_does_not_run_the_callers_lane():
    with auto_make_vec(odd("sleep"), mode="pool:1") as envs:
        envs.reset(seed=1)
        start_s = time.monotonic()
        envs.step_async(np.full(4, 9))
        assert time.monotonic() - start_s < 1.0
        envs.step_wait()


@pytest.mark.full
def test_a_step_that_timed_out_is_still_pending():
    with auto_make_vec(odd("sleep"), mode="pool:1") as envs:
        oracle = SyncVectorEnv(echoes(4))
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        actions = np.array([1, 2, 3, 9])
        envs.step_async(actions)
        with pytest.raises(multiprocessing.TimeoutError, match="still pending"):
            envs.step_wait(timeout=0.05)
        with pytest.raises(AlreadyPendingCallError):
            envs.step(actions)
        assert_same(envs.step_wait(), oracle.step(actions))
        with pytest.raises(NoAsyncCallError):
            envs.step_wait()


@pytest.mark.parametrize("row", [0, 3])
def test_an_exception_keeps_its_type_and_leaves_the_pool_usable(row):
    with auto_make_vec(odd("raise"), mode="pool:1") as envs:
        oracle = SyncVectorEnv(echoes(4))
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        actions = np.array([1, 2, 3, 4])
        actions[row] = 9
        with pytest.raises(KeyError) as caught:
            envs.step(actions)
        assert caught.value.args == ("a key", row)
        if sys.version_info >= (3, 11):
            assert f"sub-environment {row} in step" in caught.value.__notes__[0]
        assert_same(envs.reset(seed=5), oracle.reset(seed=5))
        assert_same(envs.step(np.array([1, 2, 3, 4])), oracle.step(np.array([1, 2, 3, 4])))


def test_an_exception_that_cannot_be_rebuilt_is_named():
    with auto_make_vec(odd("raise oddly"), mode="pool:1") as envs:
        envs.reset(seed=1)
        with pytest.raises(
            WorkerError,
            match=r"3 raised TwoArguments in step \(step 1 of its episode, last .* 4\): left",
        ) as caught:
            envs.step(np.array([1, 2, 3, 9]))
        assert "TwoArguments" in str(caught.value.__cause__)
        envs.reset(seed=1)


@pytest.mark.parametrize(("what", "error"), [("shape", ValueError), ("dtype", TypeError)])
@pytest.mark.parametrize("row", [0, 3])
def test_observations_are_neither_broadcast_nor_cast(what, error, row):
    with auto_make_vec(odd(what), mode="pool:1") as envs:
        envs.reset(seed=1)
        actions = np.array([1, 2, 3, 4])
        actions[row] = 9
        with pytest.raises(error, match=f"Sub-environment {row} returned an observation"):
            envs.step(actions)
        envs.reset(seed=1)


def test_an_info_that_cannot_be_sent_is_an_error_and_no_hang():
    with auto_make_vec(odd("info"), mode="pool:1") as envs:
        envs.reset(seed=1)
        with pytest.raises(TypeError, match="pickle"):
            envs.step(np.array([1, 2, 3, 9]))
        envs.reset(seed=1)
        envs.step(np.array([1, 2, 3, 4]))


def test_a_dead_worker_is_named_and_the_pool_can_be_closed():
    envs = auto_make_vec(odd("exit"), mode="pool:1")
    envs.reset(seed=1)
    for _ in range(2):
        with pytest.raises(WorkerDied, match="sub-environments 2-3, exited with code 3"):
            envs.step(np.array([1, 2, 9, 4]))
    envs.close()
    assert envs.closed


def test_set_attr_changes_all_or_none():
    with auto_make_vec(odd("", 5), mode="pool:1") as envs:
        envs.set_attr("odd_label", ["a", "b", "c", "d", "e"])
        with pytest.raises(ValueError, match="not here"):
            envs.set_attr("odd_label", "refuse")
        assert envs.get_attr("label") == ("a", "b", "c", "d", "e")
        with pytest.raises(TypeError):
            envs.set_attr("label", [1, 2, 3, 4, threading.Lock()])
        assert envs.get_attr("label") == ("a", "b", "c", "d", "e")
        with pytest.raises(ValueError, match="5 are needed"):
            envs.set_attr("label", ["a"])


def test_a_mistaken_name_harms_nobody():
    with auto_make_vec(echoes(4), mode="pool:1") as envs:
        envs.reset(seed=1)
        for mistake in (
            lambda: envs.get_attr("no_such_name"),
            lambda: envs.call("double"),
            lambda: envs.get_attr("__reduce__")[0].__self__.nothing,
        ):
            with pytest.raises((AttributeError, TypeError)):
                mistake()
        for name in ("reset", "step", "close"):
            with pytest.raises(ValueError, match=rf"use envs.{name}\(\)"):
                envs.call(name)
        envs.step(np.array([1, 2, 3, 4]))


def test_a_step_after_the_end_of_an_episode_is_refused_where_autoreset_is_disabled():
    options = {"autoreset_mode": "Disabled"}
    with auto_make_vec(echoes(4), mode="pool:1", vector_kwargs=options) as envs:
        envs.reset(seed=1)
        actions = np.zeros(4, np.int64)
        for _ in range(3):
            envs.step(actions)
        with pytest.raises(AssertionError, match=r"\[0\] have ended"):
            envs.step(actions)
        envs.reset(options={"reset_mask": np.array([True, False, False, False])})
        assert envs.step(actions)[0][:, 3].tolist() == [1, 4, 4, 4]


def test_spaces_that_do_not_go_together_are_an_error_and_leave_no_process():
    def make(high):
        return lambda: zoo.SampleEnv(spaces.Box(0, high, (2,), np.float32))

    before = set(multiprocessing.active_children())
    with pytest.raises(RuntimeError, match="Sub-environment 3 has the observation space"):
        auto_make_vec([make(1), make(1), make(1), make(2)], mode="pool:1")
    assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize("broken", [0, 1, 3])
def test_a_factory_that_raises_is_an_error_and_leaves_no_process(broken):
    def fail():
        raise LookupError("no such track")

    env_fns = echoes(4)
    env_fns[broken] = fail
    before = set(multiprocessing.active_children())
    with pytest.raises(LookupError, match="no such track"):
        auto_make_vec(env_fns, mode="pool:1")
    assert set(multiprocessing.active_children()) == before


def test_one_instance_for_all_is_refused():
    env = zoo.EchoEnv()
    with pytest.raises(RequestError, match="same instance"):
        auto_make_vec([lambda: env] * 3, mode="pool:0")


@pytest.mark.parametrize("mode", ["pool:1", "thread:1"])
def test_it_is_not_copied_or_pickled(mode):
    import copy
    import pickle

    with auto_make_vec(echoes(3), mode=mode) as envs:
        envs.reset(seed=1)
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(VecselectError, match="cannot be copied or pickled"):
                attempt(envs.unwrapped)
        envs.step(np.array([1, 2, 3]))


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


class Point(gym.Env):
    """Its observations are arrays without a dimension."""

    observation_space = spaces.Box(-100, 100, (), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.value = 0.0
        return np.array(self.value), {}

    def step(self, action):
        self.value += 1.5
        return np.array(self.value), 1.0, False, False, {}


@pytest.mark.parametrize("mode", ["pool:1", "thread:1"])
def test_observations_without_a_dimension(mode):
    with auto_make_vec([Point] * 2, mode=mode) as envs:
        assert_same_run(envs, SyncVectorEnv([Point] * 2), steps=3)


class Own(BaseException):
    pass


class Breaks(zoo.EchoEnv):
    """Raises what is no Exception when its action is 7, 8 or 9."""

    def step(self, action):
        if action >= 7:
            raise (KeyboardInterrupt, GeneratorExit, Own)[action - 7]("broken off")
        return super().step(action)


@pytest.mark.parametrize("mode", ["pool:1", "thread:1"])
def test_what_is_no_exception_arrives_too_and_leaves_the_worker_alive(mode):
    with auto_make_vec([functools.partial(Breaks, index) for index in range(4)], mode=mode) as envs:
        oracle = SyncVectorEnv(echoes(4))
        for number, kind in enumerate([KeyboardInterrupt, GeneratorExit, Own], 7):
            assert_same(envs.reset(seed=number), oracle.reset(seed=number))
            with pytest.raises(kind, match="broken off") as caught:
                envs.step(np.array([1, 2, 3, number]))
            if sys.version_info >= (3, 11):
                assert "sub-environment 3 in step" in caught.value.__notes__[0]
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        actions = np.array([1, 2, 3, 4])
        assert_same(envs.step(actions), oracle.step(actions))
