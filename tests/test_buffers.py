"""Buffers: together they keep the contract; each by itself gives what a loop gives its rows."""

import dataclasses
import functools
import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests import zoo
from tests.zoo import ToldEnv
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
        pending, env_steps = {}, 0
        for step in range(60):  # one is begun or collected, in any order
            number = int(rng.integers(len(halves)))
            half, oracle = halves[number], oracles[number]
            if number not in pending:
                pending[number] = rng.integers(10, size=half.num_envs)
                half.step_async(pending[number])
                continue
            expected = oracle.step(pending.pop(number))
            assert_same(half.step_wait(), expected, f"step {step}")
            env_steps += half.num_envs
            if autoreset_mode is AutoresetMode.DISABLED:
                arguments = masked_reset(step, expected[2] | expected[3])
                if arguments is not None:
                    copied = {"options": dict(arguments["options"])}
                    assert_same(half.reset(**arguments), oracle.reset(**copied))
        assert envs.stats().env_steps == env_steps


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
    with auto_make_vec([ToldEnv] * 4, mode=mode, buffers=2) as envs:
        first, second = envs.buffers
        envs.reset(seed=1)
        first.step_async(np.array([1, 2]))
        second.step_async(np.array([8, 1]))
        with pytest.raises(ValueError, match="eight") as caught:
            second.step_wait()
        notes = " ".join(getattr(caught.value, "__notes__", ["sub-environment 0 "]))
        assert "sub-environment 0 " in notes
        assert first.step_wait()[0][:, 4].tolist() == [1.0, 2.0]
        with pytest.raises(ValueError, match="eight") as caught:
            envs.step(np.array([0, 0, 8, 8]))
        assert "In buffer 1" in " ".join(getattr(caught.value, "__notes__", ["In buffer 1"]))
        assert envs.reset(seed=3)[0][:, 1].tolist() == [3.0, 4.0, 5.0, 6.0]
        envs.step(np.array([0, 0, 1, 1]))


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_timeout_of_the_whole_is_of_all_its_buffers(mode):
    with auto_make_vec([ToldEnv] * 4, mode=mode, buffers=2) as envs:
        envs.reset(seed=1)
        envs.step_async(np.array([0, 0, 5, 0]))
        with pytest.raises(multiprocessing.TimeoutError, match="still pending"):
            envs.step_wait(timeout=0.05)
        assert envs.step_wait()[0][:, 4].tolist() == [0.0, 0.0, 5.0, 0.0]


def test_every_worker_has_a_slice_of_each_buffer():
    with auto_make_vec([ToldEnv] * 6, mode="pool:2", buffers=3) as envs:
        each = [half.get_attr("pid") for half in envs.buffers]
        assert each[0] == each[1] == each[2]
        assert len(set(each[0]) - {os.getpid()}) == 2


def test_a_worker_that_dies_in_a_step_of_one_buffer_is_named_to_all():
    with auto_make_vec([ToldEnv] * 4, mode="pool:1", buffers=2) as envs:
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


@pytest.mark.parametrize("action", [6, 9])  # it hangs, it dies
def test_a_worker_is_replaced_once_for_all_buffers_where_that_was_asked_for(action):
    options = {"on_worker_death": "restart", "step_timeout_s": 2.0}
    with auto_make_vec([ToldEnv] * 4, None, "pool:1", options, buffers=2) as envs:
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
    with auto_make_vec([ToldEnv] * 4, None, "pool:1", options, buffers=2) as envs:
        envs.reset(seed=1)
        first, second = envs.buffers
        second.step_async(np.array([5, 0]))
        with pytest.raises(StepTimeout):
            second.step_wait()
        first.step(np.array([0, 0]))


def test_a_deadline_does_not_count_the_steps_of_other_buffers():
    options = {"step_timeout_s": 0.8}
    with auto_make_vec([ToldEnv] * 3, None, "pool:1", options, buffers=3) as envs:
        envs.reset(seed=1)
        first, second, third = envs.buffers
        for half in (first, second, third):
            half.step_async(np.array([5]))
        assert third.step_wait()[0][:, 4].tolist() == [5.0]  # after 1.5 s, 0.5 s of them its own


class LongInfoEnv(zoo.EchoEnv):
    """Its infos do not fit into a pipe at once."""

    def step(self, action):
        *result, info = super().step(action)
        return *result, {**info, "text": "x" * 1_000_000}


def test_buffers_are_waited_for_in_any_order_though_their_infos_fill_the_pipes():
    with auto_make_vec([LongInfoEnv] * 4, mode="pool:2", buffers=2) as envs:
        envs.reset(seed=1)
        for first, second in (envs.buffers, envs.buffers[::-1]):
            first.step_async(np.zeros(2, int))
            second.step_async(np.zeros(2, int))
            infos = [half.step_wait(timeout=20)[4] for half in (second, first)]
            assert all(len(text) == 1_000_000 for info in infos for text in info["text"])


def test_an_interrupted_step_of_the_whole_leaves_nothing_pending():
    with auto_make_vec([ToldEnv] * 4, mode="pool:1", buffers=2) as envs:
        envs.reset(seed=1)
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            envs.step(np.full(4, 5))
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


@pytest.mark.parametrize("mode", MODES)
def test_infos_that_only_the_whole_can_batch_are_those_of_the_loop(mode):
    makers = [functools.partial(Mixed, row) for row in range(4)]
    with auto_make_vec(makers, mode=mode, buffers=2) as envs:
        oracle = SyncVectorEnv(makers)
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        assert_same(envs.step(np.arange(4)), oracle.step(np.arange(4)))
        mask = {"reset_mask": np.array([False, False, True, False])}  # none of one buffer
        assert_same(envs.reset(options=mask), oracle.reset(options=dict(mask)))
        for half in (SyncVectorEnv(makers[2:]), envs.buffers[1]):  # as the loop over that half
            with pytest.raises(ValueError, match="could not convert string to float"):
                half.reset(seed=1)
        assert envs.reset(seed=2)[1]["mixed"].tolist() == ["text", "text", 1.5, "text"]


@pytest.mark.parametrize(
    ("num_envs", "buffers", "mode", "error", "match"),
    [
        *[(4, wrong, "auto", RequestError, "buffers is") for wrong in (0, 5, 1.5, True, "2")],
        (4, 2, "async", ModeUnavailable, "buffers"),
        (4, 2, "native", ModeUnavailable, "buffers"),
        (4, 2, "pool:0", ModeUnavailable, "go on while a buffer steps"),
        (5, 2, "pool:3", ModeUnavailable, "each of 2 buffers.* use 'pool:2'"),
        (5, 2, "thread:3", ModeUnavailable, "each of 2 buffers.* use 'thread:2'"),
    ],
)
def test_buffers_that_cannot_be_are_refused(num_envs, buffers, mode, error, match):
    with pytest.raises(error, match=match):
        auto_make_vec("CartPole-v1", num_envs, mode=mode, buffers=buffers)


def test_the_memory_is_looked_at_for_the_workers_that_all_buffers_share(monkeypatch):
    machine = dataclasses.replace(read_machine(), memory_available_bytes=WORKER_BYTES)
    monkeypatch.setattr("vecselect.backends.pool.construction.read_machine", lambda: machine)
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
