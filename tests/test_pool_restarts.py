"""Deadlines of the pool's workers, and workers that are replaced after their death."""

import multiprocessing
import os
import signal
import time
import warnings

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium.vector import AutoresetMode

from tests.zoo import EchoEnv
from vecselect import RequestError, VecselectWarning, WorkerDied, auto_make_vec
from vecselect.backends.pool import restarts
from vecselect.errors import StepTimeout

DIE, SLEEP, STOP, RAISE = 6, 7, 8, 9


class ToldEnv(EchoEnv):
    """Does what the action says; a worker's process at that, never the caller's."""

    def step(self, action):
        if multiprocessing.parent_process() is not None:
            if action == DIE:
                os.kill(os.getpid(), signal.SIGKILL)
            if action == SLEEP:
                time.sleep(3600)
            if action == STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
        if action == RAISE:
            raise LookupError(f"told to, in step {self.steps}")
        observation, reward, *_, info = super().step(action)
        return observation, reward, False, self.steps >= 6, info


def made(num_envs=4, mode="pool:1", **options):
    options = {"context": None, **options}
    options = {key: value for key, value in options.items() if value is not None}
    env_fns = [lambda index=index: ToldEnv(index) for index in range(num_envs)]
    return auto_make_vec(env_fns, mode=mode, vector_kwargs=options)


def actions(num_envs=4, **told):
    batch = np.ones(num_envs, np.int64)
    for row, action in told.items():
        batch[int(row[1:])] = action
    return batch


@pytest.mark.full
def test_a_step_beyond_its_deadline_names_who_is_late_and_close_ends_it():
    with made(step_timeout_s=0.3) as envs:
        envs.reset(seed=1)
        envs.step(actions())
        for told in (SLEEP, 1):  # the second one still waits for the first to be answered
            start_s = time.monotonic()
            with pytest.raises(StepTimeout, match=r"sub-environments 0-3, has not .*=0\.3"):
                envs.step(actions(_3=told))
            assert time.monotonic() - start_s < 5
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 8
    assert not psutil.Process().children(recursive=True) or not any(
        "pool" in child.name() for child in psutil.Process().children(recursive=True)
    )


def test_a_worker_that_is_only_slow_answers_after_all():
    with made(step_timeout_s=0.3) as envs:
        envs.reset(seed=1)
        worker = envs.unwrapped._workers.each[0].process
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(multiprocessing.TimeoutError):
            envs.step(actions())
        os.kill(worker.pid, signal.SIGCONT)
        observations, _ = envs.reset(seed=1)
        assert (observations[:, 1] == [1, 2, 3, 4]).all()
        observations, *_ = envs.step(actions())
        assert (observations[:, 3] == 1).all()


@pytest.mark.full
def test_building_beyond_its_deadline_is_an_error_and_leaves_nothing():
    class Slow(EchoEnv):
        def __init__(self):
            if multiprocessing.parent_process() is not None:
                time.sleep(3600)

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(StepTimeout, match="start_timeout_s=0.5"):
        auto_make_vec(Slow, 3, mode="pool:1", vector_kwargs={"start_timeout_s": 0.5})
    left = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE
    ]
    assert not [child for child in left if "sleep" in " ".join(child.cmdline())]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_dead_worker_is_replaced_and_the_others_keep_their_state(mode):
    with made(on_worker_death="restart", autoreset_mode=mode) as envs:
        envs.reset(seed=1)
        envs.step(actions())
        with pytest.warns(VecselectWarning, match="SIGKILL.* It was replaced: .* 2-3 begin anew"):
            observations, rewards, terminated, truncated, infos = envs.step(actions(_2=DIE))
        assert truncated.tolist() == [False, False, True, True]
        assert not terminated.any()
        assert rewards[2:].tolist() == [0.0, 0.0]
        assert observations[:2, 3].tolist() == [2, 2]
        assert observations[2:, 3].tolist() == [0, 0]
        assert infos["worker_restarted"][2:].all()
        assert infos["_worker_restarted"].tolist() == [False, False, True, True]
        seeds = infos["restart_seed"][2:].tolist()
        assert len({1, 2, 3, 4, *seeds}) == 6
        assert observations[2:, 1].tolist() == seeds
        if mode is AutoresetMode.DISABLED:
            envs.reset(options={"reset_mask": truncated})
        observations, rewards, terminated, truncated, infos = envs.step(actions())
        assert not truncated.any()
        assert "worker_restarted" not in infos
        assert observations[:2, 3].tolist() == [3, 3]
        again = 0 if mode is AutoresetMode.NEXT_STEP else 1
        assert observations[2:, 3].tolist() == [again, again]
        for _ in range(20):
            step = envs.step(actions())
            if mode is AutoresetMode.DISABLED and step[3].any():
                envs.reset(options={"reset_mask": step[3]})
        assert (step[0][:, 0] == [0, 1, 2, 3]).all()


def test_a_worker_that_died_before_it_was_told_of_new_infos_is_replaced():
    with made(on_worker_death="restart") as envs:
        envs.reset(seed=1)
        envs.step(actions())  # its infos have keys of their own: the next step tells of them
        process = envs.unwrapped._workers.each[0].process
        process.kill()
        process.join(10.0)
        with pytest.warns(VecselectWarning, match="It was replaced"):
            observations, *_, truncated, infos = envs.step(actions())
        assert (
            truncated.tolist() == infos["_worker_restarted"].tolist() == [False, False, True, True]
        )
        assert observations[:, 3].tolist() == [2, 2, 0, 0]
        observations, *_ = envs.step(actions())
        assert observations[:2, 3].tolist() == [3, 3]


def test_without_restarts_such_a_death_is_told_by_every_call():
    with made() as envs:
        envs.reset(seed=1)
        process = envs.unwrapped._workers.each[0].process
        process.kill()
        process.join(10.0)
        for use in (envs.step, envs.step, lambda _: envs.reset()):
            with pytest.raises(WorkerDied, match=r"SIGKILL.* have workers replaced"):
                use(actions())


def test_an_announcement_that_is_an_error_leaves_the_new_worker_in_service():
    with made(on_worker_death="restart") as envs:
        envs.reset(seed=1)
        envs.step(actions())
        with warnings.catch_warnings():
            warnings.simplefilter("error", VecselectWarning)
            lost = "What set_attr and call had changed in them is lost"
            with pytest.raises(VecselectWarning, match=f"was replaced: .*{lost}"):
                envs.step(actions(_2=DIE))
            worker = psutil.Process(envs.unwrapped._workers.each[0].process.pid)
            observations, *_, truncated, infos = envs.step(actions())
        assert (
            truncated.tolist() == infos["_worker_restarted"].tolist() == [False, False, True, True]
        )
        assert observations[2:, 3].tolist() == [0, 0]
    assert not worker.is_running()


def test_interrupted_while_it_is_replaced_it_is_replaced_by_the_next_call(monkeypatch):
    with made(on_worker_death="restart") as envs:
        envs.reset(seed=1)
        starter, started = envs.unwrapped._workers, []
        start = starter.start

        def interrupted(work):
            started.append(work)
            if len(started) == 1:
                raise KeyboardInterrupt
            return start(work)

        monkeypatch.setattr(starter, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            envs.step(actions(_2=DIE))
        with pytest.warns(VecselectWarning, match="It was replaced"):
            *_, truncated, _ = envs.step(actions())
        assert truncated.tolist() == [False, False, True, True]


def test_a_reset_is_done_by_the_worker_in_the_dead_one_s_place():
    with made(on_worker_death="restart") as envs:
        envs.reset(seed=1)
        os.kill(envs.unwrapped._workers.each[0].process.pid, signal.SIGKILL)
        with pytest.warns(VecselectWarning, match="replaced"):
            observations, _ = envs.reset(seed=11)
        assert observations[:, 1].tolist() == [11, 12, 13, 14]
        *_, truncated, infos = envs.step(actions())
        assert not truncated.any()
        assert "worker_restarted" not in infos


def test_a_call_is_not_repeated_but_the_pool_goes_on():
    with made(on_worker_death="restart") as envs:
        envs.reset(seed=1)
        os.kill(envs.unwrapped._workers.each[0].process.pid, signal.SIGKILL)
        time.sleep(0.2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VecselectWarning)
            try:
                assert envs.call("double", 2)
            except WorkerDied as error:
                assert "whether the call had taken effect" in str(error)
        *_, truncated, _ = envs.step(actions())
        assert truncated.tolist() == [False, False, True, True]


@pytest.mark.full
def test_who_dies_too_often_is_not_replaced_again(monkeypatch):
    monkeypatch.setattr(restarts, "RESTARTS", 2)
    with made(on_worker_death="restart") as envs:
        envs.reset(seed=1)
        for _ in range(2):
            with pytest.warns(VecselectWarning, match="replaced"):
                envs.step(actions(_3=DIE))
            envs.step(actions())
        with pytest.raises(WorkerDied, match="has now died 3 times within 60 s"):
            envs.step(actions(_3=DIE))
        with pytest.raises(WorkerDied, match="has now died 3 times"):
            envs.reset()


def test_a_stuck_worker_is_replaced_where_there_is_a_deadline():
    with made(on_worker_death="restart", step_timeout_s=0.4) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match=r"has not answered within .*=0\.4.*replaced"):
            *_, truncated, _ = envs.step(actions(_3=STOP))
        assert truncated.tolist() == [True] * 4
        envs.step(actions())


@pytest.mark.parametrize("row", [0, 3])
def test_any_stuck_worker_is_replaced_and_the_others_go_on(row):
    options = {"on_worker_death": "restart", "step_timeout_s": 0.4}
    with made(mode="pool:2", **options) as envs:
        envs.reset(seed=1)
        with pytest.warns(VecselectWarning, match=r"has not answered within .*=0\.4.*replaced"):
            observations, *_, truncated, infos = envs.step(actions(**{f"_{row}": SLEEP}))
        lost = [(other < 2) == (row < 2) for other in range(4)]
        assert truncated.tolist() == lost
        assert infos["_worker_restarted"].tolist() == lost
        assert observations[:, 3].tolist() == [0 if one else 1 for one in lost]
        envs.step(actions())


def test_the_info_columns_are_known_to_the_new_worker():
    with made(on_worker_death="restart") as envs:
        envs.reset(seed=1)
        for _ in range(3):
            envs.step(actions())
        with pytest.warns(VecselectWarning, match="replaced"):
            envs.step(actions(_2=DIE))
        envs.step(actions())
        *_, infos = envs.step(actions())
        assert infos["index"].tolist() == [0, 1, 2, 3]
        assert infos["step"][2:].tolist() == [1, 1]


@pytest.mark.parametrize("what", [DIE, RAISE])
def test_who_dies_or_raises_is_reported_while_another_one_is_stuck(what):
    expected = {
        DIE: (WorkerDied, "sub-environment 2, was ended by SIGKILL"),
        RAISE: (LookupError, "told to"),
    }
    with made(3, mode="pool:2") as envs:
        envs.reset(seed=1)
        start_s = time.monotonic()
        kind, words = expected[what]
        with pytest.raises(kind, match=words):
            envs.step(actions(3, _1=SLEEP, _2=what))
        assert time.monotonic() - start_s < 5
        os.kill(envs.unwrapped._workers.each[0].process.pid, signal.SIGKILL)


def test_an_error_says_which_step_of_which_episode_it_was():
    with made() as envs:
        envs.reset(seed=1)
        for _ in range(6 + 1 + 2):  # an episode, the autoreset, and two steps
            envs.step(actions())
        with pytest.raises(LookupError) as caught:
            envs.step(actions(_3=RAISE))
        if hasattr(caught.value, "__notes__"):
            (note,) = caught.value.__notes__
            assert note == (
                "Raised by sub-environment 3 in step, step 3 of its episode, last seeded with 4."
            )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step_timeout_s": 0}, "step_timeout_s is 0"),
        ({"start_timeout_s": "1"}, "start_timeout_s is '1'"),
        ({"on_worker_death": "ignore"}, "no on_worker_death 'ignore'; choose one of 'raise'"),
    ],
)
def test_limits_that_cannot_be_are_refused(options, words):
    with pytest.raises(RequestError, match=words):
        auto_make_vec(gym.spec("CartPole-v1"), 2, mode="pool:1", vector_kwargs=options)


def test_a_loop_has_no_workers_to_limit():
    with pytest.raises(
        RequestError, match=r"it keeps no deadlines \(step_timeout_s\); use pool, thread"
    ):
        auto_make_vec("CartPole-v1", 2, mode="sync", vector_kwargs={"step_timeout_s": 1.0})
