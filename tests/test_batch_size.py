"""Sub-environments that step one by one: each gives what a loop gives it, whoever comes first."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests import zoo
from tests.zoo import ToldEnv
from vecselect import ModeUnavailable, RequestError, StepTimeout, WorkerDied, auto_make_vec
from vecselect.backends.pool.rows import RowProcess
from vecselect.testing.contract import actors, assert_same, echoes, samples
from vecselect.whole_infos import one_by_one

MODES = ["pool:2", "thread:2"]


class Loops:
    """Each sub-environment in a loop of its own."""

    def __init__(self, env_fns, **options):
        self.each = [SyncVectorEnv([env_fn], **options) for env_fn in env_fns]

    def reset(self, seed):
        nothing = np.zeros(1), np.zeros(1, bool), np.zeros(1, bool)
        found = [env.reset(seed=seed + row) for row, env in enumerate(self.each)]
        return [(observation, *nothing, info) for observation, info in found]

    def step(self, row, action):
        return self.each[row].step([action])


def row_of(batch, index):
    """One row of a batch of any structure, as a batch."""
    if isinstance(batch, dict):
        return {key: row_of(part, index) for key, part in batch.items()}
    if isinstance(batch, np.ndarray):
        return batch[index : index + 1]
    if all(isinstance(part, (tuple, np.ndarray)) for part in batch):
        return tuple(row_of(part, index) for part in batch)
    return (batch[index],)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("autoreset_mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("kind", ["echo", "infos", "dict", "text", "tuple"])
def test_each_trajectory_is_that_of_a_loop(mode, autoreset_mode, kind):
    if kind in zoo.SPACES:
        env_fns = samples(zoo.SPACES[kind], 7)
    else:
        env_fns = echoes(7, zoo.EchoEnv if kind == "echo" else zoo.InfoEnv)
    options = {"autoreset_mode": autoreset_mode}
    loops = Loops(env_fns, **options)
    rng = np.random.default_rng(0)
    with auto_make_vec(env_fns, mode=mode, batch_size=3, vector_kwargs=options) as envs:
        envs.async_reset(seed=5)
        expected = dict(enumerate(loops.reset(5)))
        for step in range(40):
            *result, infos = envs.recv(timeout=60)
            rows = infos["env_id"].tolist()
            assert rows == sorted(rows)
            each = one_by_one(infos, len(rows))
            for index, row in enumerate(rows):
                *theirs, info = expected[row]
                ours = [row_of(part, index) for part in result]
                assert_same(ours, theirs, f"step {step}, row {row}")
                assert_same(each[index], one_by_one(info, 1)[0], f"infos of step {step}")
            actions = rng.integers(3, size=len(rows))
            envs.send(actions, infos["env_id"])
            expected.update(
                (row, loops.step(row, action)) for row, action in zip(rows, actions, strict=True)
            )
        assert envs.stats().env_steps == 120


@pytest.mark.parametrize("mode", MODES)
def test_actions_of_any_dtype_are_in_flight_beside_each_other(mode):
    env_fns = actors(zoo.ACTION_SPACES["box"], 6)
    dtypes = [np.float64, np.float32, np.float16, np.float64, np.float32, np.float16]
    with auto_make_vec(env_fns, mode=mode, batch_size=6) as envs:
        envs.async_reset()
        envs.recv(timeout=60)
        for row, dtype in enumerate(dtypes):
            envs.send(np.array([[row / 8, -row / 8]], dtype), [row])
        infos = envs.recv(timeout=60)[4]
        expected = [repr(np.array([row / 8, -row / 8], dtype)) for row, dtype in enumerate(dtypes)]
        assert infos["action"].tolist() == expected


@pytest.mark.parametrize("mode", ["pool:4", "thread:4"])
def test_those_that_are_done_do_not_wait_for_the_others(mode):
    with auto_make_vec([ToldEnv] * 4, mode=mode, batch_size=2) as envs:
        envs.async_reset(seed=1)
        envs.recv(timeout=60), envs.recv(timeout=60)
        envs.send(np.array([0, 7, 0, 7]), np.arange(4))
        assert envs.recv(timeout=60)[4]["env_id"].tolist() == [0, 2]
        for _ in range(3):
            envs.send(np.array([0, 0]), [0, 2])
            assert envs.recv(timeout=60)[4]["env_id"].tolist() == [0, 2]
        with pytest.raises(multiprocessing.TimeoutError, match="Nothing is lost"):
            envs.recv(timeout=0.01)
        assert envs.recv(timeout=60)[4]["env_id"].tolist() == [1, 3]


@pytest.mark.parametrize("mode", MODES)
def test_wrong_use_is_an_error_before_anything_is_sent(mode):
    with auto_make_vec([ToldEnv] * 4, mode=mode, batch_size=2) as envs:
        with pytest.raises(ResetNeeded):
            envs.send(np.zeros(2, int), [0, 1])
        with pytest.raises(NoAsyncCallError, match="only 0"):
            envs.recv()
        envs.async_reset(seed=1)
        with pytest.raises(AlreadyPendingCallError, match="were not received"):
            envs.send(np.zeros(1, int), [1])
        with pytest.raises(AlreadyPendingCallError):
            envs.step(np.zeros(4, int))
        with pytest.raises(AlreadyPendingCallError):
            envs.get_attr("label")
        envs.recv(timeout=60), envs.recv(timeout=60)
        with pytest.raises(NoAsyncCallError, match="needs batch_size=2 results, but only 0"):
            envs.recv()
        for wrong in ([4], [-1], [0, 0], [], "all", [0.5], [[0]], None):
            with pytest.raises(ValueError, match="Nothing was sent"):
                envs.send(np.zeros(1, int), wrong)
        with pytest.raises(ValueError, match="2 sub-environments need"):
            envs.send(np.zeros(3, int), [0, 1])
        envs.send(np.zeros(1, int), [0])
        with pytest.raises(AlreadyPendingCallError, match="\\[0\\]"):
            envs.send(np.zeros(1, int), [0])
        with pytest.raises(NoAsyncCallError, match="only 1"):
            envs.recv()
        envs.reset(seed=1)
        assert envs.get_attr("seed") == (1, 2, 3, 4)


@pytest.mark.parametrize("mode", MODES)
def test_what_one_raises_leaves_the_others_their_results(mode):
    with auto_make_vec([ToldEnv] * 4, mode=mode, batch_size=3) as envs:
        envs.async_reset(seed=1)
        envs.recv(timeout=60)
        envs.reset(seed=1)
        envs.send(np.array([1, 8, 1, 1]), np.arange(4))
        found = []
        while not found:
            try:
                found = envs.recv(timeout=60)[4]["env_id"].tolist()
            except ValueError as error:
                assert str(error) == "eight"
                if hasattr(error, "__notes__"):
                    assert "sub-environment 1 in step" in error.__notes__[0]
        assert found == [0, 2, 3]
        mask = np.array([False, True, False, False])
        envs.async_reset(seed=7, options={"reset_mask": mask})
        envs.send(np.zeros(2, int), [0, 3])
        *_, infos = envs.recv(timeout=60)
        assert infos["env_id"].tolist() == [0, 1, 3]
        envs.reset(seed=2)
        assert envs.step(np.zeros(4, int))[0][:, 1].tolist() == [2.0, 3.0, 4.0, 5.0]


def test_a_worker_that_dies_is_named():
    with auto_make_vec([ToldEnv] * 4, mode="pool:2", batch_size=2) as envs:
        envs.async_reset(seed=1)
        rows = envs.recv(timeout=60)[4]["env_id"]
        envs.send(np.array([9, 0]), rows)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            for _ in range(3):
                envs.recv(timeout=60)
        with pytest.raises(WorkerDied):
            envs.reset()


def test_a_worker_that_dies_is_replaced_where_that_was_asked_for():
    options = {"on_worker_death": "restart"}
    with auto_make_vec([ToldEnv] * 4, mode="pool:2", batch_size=4, vector_kwargs=options) as envs:
        envs.async_reset(seed=1)
        envs.recv(timeout=60)
        with pytest.warns(UserWarning, match="replaced"):
            envs.send(np.array([0, 9, 0, 0]), np.arange(4))
            _, _, _, truncated, infos = envs.recv(timeout=60)
        assert truncated[1] and not truncated[2:].any()
        assert infos["worker_restarted"][1]
        before = truncated[0]  # what this one had done when the other ended their worker counts
        envs.send(np.zeros(4, int), np.arange(4))
        assert envs.recv(timeout=60)[3].tolist() == [not before, False, False, False]
        envs.send(np.zeros(4, int), np.arange(4))
        envs.recv(timeout=60)


@pytest.mark.parametrize("mode", MODES)
def test_a_deadline_is_of_each_sub_environment(mode):
    options = {"step_timeout_s": 0.3}
    with auto_make_vec([ToldEnv] * 4, mode=mode, batch_size=1, vector_kwargs=options) as envs:
        envs.reset(seed=1)
        envs.send(np.array([7]), [3])
        with pytest.raises(StepTimeout, match="sub-environments 2-3"):
            envs.recv()
        time.sleep(0.6)
        assert envs.recv(timeout=60)[4]["env_id"].tolist() == [3]


def test_an_interrupt_loses_nothing():
    with auto_make_vec([ToldEnv] * 4, mode="pool:2", batch_size=4) as envs:
        envs.async_reset(seed=1)
        envs.recv(timeout=60)
        envs.send(np.array([0, 5, 0, 5]), np.arange(4))
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            envs.recv(timeout=60)
        assert envs.recv(timeout=60)[0][:, 3].tolist() == [1.0] * 4


def test_an_interrupt_while_jobs_are_given_leaves_none_that_was_noted_only(monkeypatch):
    put = RowProcess.put

    def interrupted(worker, job):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        put(worker, job)

    with auto_make_vec([ToldEnv] * 4, mode="pool:2", batch_size=4) as envs:
        envs.async_reset(seed=1)
        envs.recv(timeout=60)
        monkeypatch.setattr(RowProcess, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            envs.send(np.zeros(4, int), np.arange(4))
        assert envs.recv(timeout=5)[0][:, 3].tolist() == [1.0] * 4


class LargeEnv(zoo.EchoEnv):
    """Neither its actions nor its infos fit into a pipe at once."""

    def __init__(self):
        super().__init__(0)
        self.action_space = spaces.Dict(of=spaces.Box(-1, 1, (200_000,), np.float32))

    def step(self, action):
        *result, info = super().step(0)
        return *result, {**info, "text": "x" * 1_000_000}


def test_large_actions_and_large_infos_do_not_wait_for_each_other():
    program = """
from tests.test_batch_size import *
with auto_make_vec([LargeEnv] * 4, mode="pool:2", batch_size=1) as envs:
    envs.async_reset(seed=1)
    for _ in range(16):
        *_, infos = envs.recv(timeout=20)
        time.sleep(0.02)  # the others finish meanwhile
        envs.send({"of": np.zeros((1, 200_000), np.float32)}, infos["env_id"])
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_program_that_is_killed_leaves_no_name_of_a_semaphore():
    program = """
from tests.test_batch_size import *
envs = auto_make_vec([ToldEnv] * 4, mode="pool:2", batch_size=2)
envs.reset(seed=1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], check=False, timeout=30, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (-signal.SIGKILL, "")


class InterruptedOnce(dict):
    """Ctrl-C comes when the first key has been taken out of it."""

    came = False

    def pop(self, *args):
        found = super().pop(*args)
        if not self.came:
            self.came = True
            raise KeyboardInterrupt
        return found


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupt_while_an_answer_is_taken_in_loses_nothing(mode):
    with auto_make_vec([ToldEnv] * 4, mode=mode, batch_size=4) as envs:
        envs.env._at_work = InterruptedOnce()
        envs.async_reset(seed=1)
        with pytest.raises(KeyboardInterrupt):
            envs.recv(timeout=60)
        assert envs.recv(timeout=60)[4]["env_id"].tolist() == [0, 1, 2, 3]


def test_what_cannot_be_sent_leaves_nobody_at_work():
    with auto_make_vec([ToldEnv] * 4, mode="pool:2", batch_size=2) as envs:
        with pytest.raises(TypeError, match="pickle"):
            envs.async_reset(options={"lock": threading.Lock()})
        with pytest.raises(NoAsyncCallError, match="only 0"):
            envs.recv(timeout=5)
        envs.reset(seed=1)


def test_a_loop_written_for_envpool_runs_in_a_mode_that_can():
    make = lambda id, num_envs, batch_size: auto_make_vec(id, num_envs, batch_size=batch_size)  # noqa: E731
    env = make("CartPole-v1", num_envs=8, batch_size=4)  # from here on as in EnvPool's README
    env.async_reset()
    for _ in range(20):
        obs, rew, term, trunc, info = env.recv()
        env_id = info["env_id"]
        action = np.random.default_rng(0).integers(2, size=len(env_id))
        env.send(action, env_id)
        assert len(obs) == len(rew) == len(term) == len(trunc) == len(env_id) == 4
    assert env.batch_size == 4
    assert env.mode.partition(":")[0] in ("pool", "thread")
    env.close()


def test_modes_that_cannot_and_sizes_that_cannot_be_say_so():
    for mode in ("sync", "async", "native"):
        with pytest.raises(ModeUnavailable, match="batch_size"):
            auto_make_vec("CartPole-v1", 4, mode=mode, batch_size=2)
    for size in (0, 5, 1.5, True):
        with pytest.raises(RequestError, match="batch_size is"):
            auto_make_vec("CartPole-v1", 4, batch_size=size)
    with pytest.raises(RequestError, match="exclude each other"):
        auto_make_vec("CartPole-v1", 4, batch_size=2, buffers=2)


def test_a_vector_environment_without_a_batch_size_says_how_to_get_one():
    envs = auto_make_vec("CartPole-v1", 2, mode="sync")
    with envs, pytest.raises(AttributeError, match="batch_size"):
        envs.recv()
