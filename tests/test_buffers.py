"""Buffers: together they keep the contract; each by itself gives what a loop gives its rows."""

import dataclasses
import functools
import itertools
import multiprocessing
import os
import signal
import threading
import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from vecselect import (
    ModeUnavailable,
    RequestError,
    StepTimeout,
    VecselectError,
    VecselectWarning,
    WorkerDied,
    auto_make_vec,
)
from vecselect.machine import WORKER_BYTES, read_machine
from vecselect.testing import envs as zoo
from vecselect.testing.contract import assert_same, echoes, masked_reset

MODES = ["sync", "thread:2", "pool:2"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("autoreset_mode", AutoresetMode)
@pytest.mark.parametrize("buffers", [2, 3])
def test_each_buffer_steps_by_itself_as_the_loop_steps_its_rows(mode, autoreset_mode, buffers):
    options = {"autoreset_mode": autoreset_mode}
    env_fns = [*echoes(4), *echoes(3, zoo.InfoEnv)]
    rng = np.random.default_rng(buffers)
    with auto_make_vec(env_fns, mode=mode, buffers=buffers, vector_kwargs=options) as envs:
        halves = envs.buffers
        assert [half.num_envs for half in halves] == [len(env_fns[half.rows]) for half in halves]
        observations, infos = envs.reset(seed=5)
        whole = SyncVectorEnv(env_fns, **options)
        assert_same((observations, infos), whole.reset(seed=5))
        oracles = [SyncVectorEnv(env_fns[half.rows], **options) for half in halves]
        for oracle, half in zip(oracles, halves, strict=True):
            oracle.reset(seed=[5 + row for row in range(len(env_fns))[half.rows]])
        pending = {}
        for step in range(60):  # one is begun or collected, in any order
            number = int(rng.integers(len(halves)))
            half, oracle = halves[number], oracles[number]
            if number not in pending:
                pending[number] = rng.integers(10, size=half.num_envs)
                half.step_async(pending[number])
                continue
            expected = oracle.step(pending.pop(number))
            assert_same(half.step_wait(), expected, f"step {step}")
            if autoreset_mode is AutoresetMode.DISABLED:
                arguments = masked_reset(step, expected[2] | expected[3])
                if arguments is not None:
                    copied = {"options": dict(arguments["options"])}
                    assert_same(half.reset(**arguments), oracle.reset(**copied))


@pytest.mark.parametrize("mode", MODES)
def test_the_loop_of_the_documentation_gives_the_steps_of_lockstep(mode):
    policy = lambda observations: (observations[:, 3] + observations[:, 1]).astype(int) % 10  # noqa: E731
    oracle = SyncVectorEnv(echoes(6))
    expected, observations = [], oracle.reset(seed=1)[0]
    for _ in range(12):
        result = oracle.step(policy(observations))
        observations = result[0]
        expected.append(result[:4])
    with auto_make_vec(echoes(6), mode=mode, buffers=2) as envs:
        observations, _ = envs.reset(seed=1)
        for half in envs.buffers:
            half.step_async(policy(observations[half.rows]))
        for count, half in enumerate(itertools.islice(itertools.cycle(envs.buffers), 24)):
            result = half.step_wait()
            for ours, theirs in zip(result[:4], expected[count // 2], strict=True):
                assert_same(ours, theirs[half.rows])
            half.step_async(policy(result[0]))
        for half in envs.buffers:
            half.step_wait()
        stats = envs.stats()
        assert (stats.vector_steps, stats.env_steps) == (13, 78)


@pytest.mark.parametrize("mode", MODES)
def test_calls_out_of_order_are_an_error_and_lose_nothing(mode):
    with auto_make_vec(echoes(4), mode=mode, buffers=2) as envs:
        first, second = envs.buffers
        envs.reset(seed=1)
        second.step_async(np.array([3, 4]))
        actions = np.zeros(4, int)
        for use in (
            lambda: envs.step(actions),
            lambda: envs.step_async(actions),
            envs.reset,
            lambda: envs.call("double", 1),
            lambda: envs.set_attr("label", "x"),
            lambda: second.step(actions[:2]),
            second.reset,
        ):
            with pytest.raises(AlreadyPendingCallError):
                use()
        with pytest.raises(NoAsyncCallError):
            envs.step_wait()
        with pytest.raises(NoAsyncCallError):
            first.step_wait()
        first.set_attr("label", ["a", "b"])
        assert first.call("double", 1) == (2, 3)
        assert second.step_wait()[0][:, 4].tolist() == [3.0, 4.0]
        assert envs.get_attr("label") == ("a", "b", "echo 2", "echo 3")
        envs.step_async(np.array([1, 2, 3, 4]))
        for half in envs.buffers:
            with pytest.raises(AlreadyPendingCallError):
                half.step_wait()
        assert envs.step_wait()[0][:, 4].tolist() == [1.0, 2.0, 3.0, 4.0]
        with pytest.raises(ValueError, match="2 sub-environments need"):
            first.step_async(actions)


@pytest.mark.parametrize("mode", MODES)
def test_what_one_buffer_raises_leaves_the_other_as_it_is(mode):
    with auto_make_vec(
        [*echoes(2), lambda: Fragile(2), lambda: Fragile(3)], mode=mode, buffers=2
    ) as envs:
        first, second = envs.buffers
        envs.reset(seed=1)
        first.step_async(np.array([1, 2]))
        second.step_async(np.array([9, 1]))
        with pytest.raises(ValueError, match="nine") as caught:
            second.step_wait()
        if hasattr(caught.value, "__notes__"):
            assert "sub-environment 0 " in " ".join(caught.value.__notes__)
        assert first.step_wait()[0][:, 4].tolist() == [1.0, 2.0]
        with pytest.raises(ValueError, match="nine"):
            envs.step(np.array([1, 1, 9, 9]))
        observations, _ = envs.reset(seed=3)
        assert observations[:, 1].tolist() == [3.0, 4.0, 5.0, 6.0]
        envs.step(np.array([1, 1, 2, 2]))


class Fragile(zoo.EchoEnv):
    def step(self, action):
        if action == 9:
            raise ValueError("nine")
        return super().step(action)


class Slow(zoo.EchoEnv):
    def step(self, action):
        time.sleep(0.5 if action == 9 else 0.0)
        return super().step(action)


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_timeout_of_the_whole_is_of_all_its_buffers(mode):
    with auto_make_vec([Slow] * 4, mode=mode, buffers=2) as envs:
        envs.reset(seed=1)
        envs.step_async(np.array([1, 1, 9, 1]))
        with pytest.raises(multiprocessing.TimeoutError, match="still pending"):
            envs.step_wait(timeout=0.05)
        assert envs.step_wait()[0][:, 4].tolist() == [1.0, 1.0, 9.0, 1.0]


class Mortal(zoo.EchoEnv):
    @property
    def pid(self):
        return os.getpid()

    def step(self, action):
        if action == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == 8:
            time.sleep(60)
        return super().step(action)


def test_every_worker_has_a_slice_of_each_buffer():
    with auto_make_vec([Mortal] * 6, mode="pool:2", buffers=3) as envs:
        each = [half.get_attr("pid") for half in envs.buffers]
        assert each[0] == each[1] == each[2]
        assert len(set(each[0]) - {os.getpid()}) == 2


def test_a_worker_that_dies_in_a_step_of_one_buffer_is_named_to_all():
    with auto_make_vec([Mortal] * 4, mode="pool:1", buffers=2) as envs:
        envs.reset(seed=1)
        first, second = envs.buffers
        first.step_async(np.array([1, 2]))
        second.step_async(np.array([9, 1]))
        with pytest.raises(WorkerDied, match=r"sub-environments 0-1 of buffer 1,.* SIGKILL"):
            second.step_wait()
        assert first.step_wait()[0][:, 4].tolist() == [1.0, 2.0]
        with pytest.raises(WorkerDied, match=r"0-1 of buffer 0,.* SIGKILL"):
            first.reset()
        with pytest.raises(WorkerDied):
            envs.reset()


@pytest.mark.parametrize("action", [8, 9])  # it hangs, it dies
def test_a_worker_is_replaced_once_for_all_buffers_where_that_was_asked_for(action):
    options = {"on_worker_death": "restart", "step_timeout_s": 2.0}
    with auto_make_vec([Mortal] * 4, None, "pool:1", options, buffers=2) as envs:
        envs.reset(seed=1)
        (before,) = set(envs.get_attr("pid"))
        first, second = envs.buffers
        second.step_async(np.array([action, 1]))
        with pytest.warns(VecselectWarning, match="of buffer 1, .* replaced"):
            assert second.step_wait()[3].all()
        with pytest.warns(VecselectWarning, match="of buffer 0, was ended with .* replaced"):
            assert first.step(np.array([1, 2]))[3].all()
        (after,) = set(envs.get_attr("pid"))
        assert before != after
        assert not envs.step(np.ones(4, int))[3].any()


def test_a_deadline_is_kept_in_a_buffer():
    options = {"step_timeout_s": 0.15}  # of each of the two that the worker serves
    with auto_make_vec([Slow] * 4, None, "pool:1", options, buffers=2) as envs:
        envs.reset(seed=1)
        first, second = envs.buffers
        second.step_async(np.array([9, 1]))
        with pytest.raises(StepTimeout):
            second.step_wait()
        first.step(np.array([1, 2]))


def test_a_deadline_does_not_count_the_steps_of_other_buffers():
    options = {"step_timeout_s": 0.8}
    with auto_make_vec([Slow] * 3, None, "pool:1", options, buffers=3) as envs:
        envs.reset(seed=1)
        first, second, third = envs.buffers
        for half in (first, second, third):
            half.step_async(np.array([9]))
        assert third.step_wait()[0][:, 4].tolist() == [9.0]  # after 1.5 s, 0.5 s of them its own


def test_an_interrupted_step_of_the_whole_leaves_nothing_pending():
    with auto_make_vec([Slow] * 4, mode="pool:1", buffers=2) as envs:
        envs.reset(seed=1)
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            envs.step(np.full(4, 9))
        assert envs.reset(seed=5)[0][:, 1].tolist() == [5.0, 6.0, 7.0, 8.0]
        envs.step(np.ones(4, int))


@pytest.mark.parametrize("mode", MODES)
def test_closing_ends_everything(mode):
    envs = auto_make_vec(echoes(4), mode=mode, buffers=2)
    envs.reset(seed=1)
    first, second = envs.buffers
    first.step_async(np.zeros(2, int))
    second.close()
    for one in (envs, first, second):
        with pytest.raises(ClosedEnvironmentError):
            one.reset()


class Mixed(zoo.EchoEnv):
    """Info values of one key that a half's first row has no array for; the whole's has."""

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return observation, {**info, "mixed": 1.5 if self.index == 2 else "text"}

    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, "mixed": 1.5 if self.index == 2 else "text"}


@pytest.mark.parametrize("mode", MODES)
def test_infos_that_only_the_whole_can_batch_are_those_of_the_loop(mode):
    makers = [functools.partial(Mixed, row) for row in range(4)]
    with auto_make_vec(makers, mode=mode, buffers=2) as envs:
        oracle, half_oracle = SyncVectorEnv(makers), SyncVectorEnv(makers[2:])
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        for _ in range(3):
            actions = np.arange(4)
            assert_same(envs.step(actions), oracle.step(actions))
        for half in (half_oracle, envs.buffers[1]):  # as the loop over that half alone
            with pytest.raises(ValueError, match="could not convert string to float"):
                half.reset(seed=1)
        assert envs.reset(seed=2)[1]["mixed"].tolist() == ["text", "text", 1.5, "text"]


def test_a_mask_of_one_buffer_leaves_the_other_its_observations():
    with auto_make_vec(echoes(4), mode="pool:1", buffers=2) as envs:
        oracle = SyncVectorEnv(echoes(4))
        envs.reset(seed=1), oracle.reset(seed=1)
        envs.step(np.arange(4)), oracle.step(np.arange(4))
        mask = {"reset_mask": np.array([False, False, True, False])}
        assert_same(envs.reset(options=mask), oracle.reset(options=dict(mask)))


def test_wrappers_go_around_a_buffer():
    with auto_make_vec("CartPole-v1", 4, mode="pool:1", buffers=2) as envs:
        envs.reset(seed=1)
        half = gym.wrappers.vector.RecordEpisodeStatistics(envs.buffers[1])
        half.reset(seed=2)
        for _ in range(100):
            infos = half.step(np.ones(2, int))[-1]
            if "episode" in infos:
                break
        assert infos["episode"]["l"].max() > 5


@pytest.mark.parametrize("buffers", [0, 5, 1.5, True, "2"])
def test_a_wrong_number_of_buffers_is_refused(buffers):
    with pytest.raises(RequestError, match="buffers is"):
        auto_make_vec("CartPole-v1", 4, buffers=buffers)


def test_modes_that_cannot_step_a_part_say_so():
    for mode in ("async", "native"):
        with pytest.raises(ModeUnavailable, match="buffers"):
            auto_make_vec("CartPole-v1", 4, mode=mode, buffers=2)
    with pytest.raises(ModeUnavailable, match="go on while a buffer steps"):
        auto_make_vec("CartPole-v1", 4, mode="pool:0", buffers=2)


@pytest.mark.parametrize("mode", ["pool", "thread"])
def test_a_pin_has_its_workers_in_every_buffer_or_is_refused(mode):
    with pytest.raises(ModeUnavailable, match=f"each of 2 buffers.* use '{mode}:2'"):
        auto_make_vec("CartPole-v1", 5, mode=f"{mode}:3", buffers=2)


def test_the_memory_is_looked_at_for_the_workers_that_all_buffers_share(monkeypatch):
    machine = dataclasses.replace(read_machine(), memory_available_bytes=WORKER_BYTES)
    monkeypatch.setattr("vecselect.backends.pool.backend.read_machine", lambda: machine)
    with pytest.warns(VecselectWarning, match="2 worker processes may be more") as caught:
        auto_make_vec("CartPole-v1", 4, mode="pool:2", buffers=2).close()
    assert [one.filename for one in caught] == [__file__]


def test_a_buffer_cannot_be_retuned_alone():
    with (
        auto_make_vec(echoes(4), mode="sync", buffers=2) as envs,
        pytest.raises(VecselectError, match=r"retune the whole: envs\.retune\(\)"),
    ):
        envs.buffers[0].retune()


def test_the_whole_batch_is_the_only_buffer_by_default():
    with auto_make_vec(echoes(2), mode="sync") as envs:
        (only,) = envs.buffers
        assert only is envs
        assert np.arange(2)[only.rows].tolist() == [0, 1]


def test_auto_chooses_a_mode_for_buffers_and_recalls_it():
    for recalled in (False, True):
        with auto_make_vec("CartPole-v1", 4, buffers=2) as envs:
            assert len(envs.buffers) == 2
            assert envs.plan.recalled is recalled
            envs.reset(seed=1)
            envs.step(np.zeros(4, int))
