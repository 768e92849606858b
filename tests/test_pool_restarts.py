"""Deadlines of the pool's workers, and workers that are replaced after their death."""

import multiprocessing
import os
import signal
import time
import warnings

import psutil
import pytest
from gymnasium.vector import AutoresetMode

from tests.faults.faulty import actions, make
from vecselect import VecselectWarning, WorkerDied


def made(**options):
    envs = make("pool:1", options=options)
    envs.reset(seed=1)
    return envs


def process_of(envs):
    return envs.unwrapped._workers.each[0].host.process


def assert_begin_anew(truncated, infos):
    assert truncated.tolist() == infos["_worker_restarted"].tolist() == [False, False, True, True]


def test_a_worker_that_is_only_slow_answers_after_all():
    with made(step_timeout_s=0.3) as envs:
        worker = process_of(envs)
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(multiprocessing.TimeoutError):
            envs.step(actions())
        os.kill(worker.pid, signal.SIGCONT)
        observations, _ = envs.reset(seed=1)
        assert (observations[:, 1] == [1, 2, 3, 4]).all()
        observations, *_ = envs.step(actions())
        assert (observations[:, 3] == 1).all()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_dead_worker_is_replaced_and_the_others_keep_their_state(mode):
    with made(on_worker_death="restart", autoreset_mode=mode) as envs:
        with pytest.warns(VecselectWarning, match="SIGKILL.* It was replaced: .* 2-3 begin anew"):
            observations, rewards, terminated, truncated, infos = envs.step(actions({2: "sigkill"}))
        assert_begin_anew(truncated, infos)
        assert not terminated.any()
        assert rewards[2:].tolist() == [0.0, 0.0]
        assert observations[:2, 3].tolist() == [1, 1]
        assert observations[2:, 3].tolist() == [0, 0]
        assert infos["worker_restarted"][2:].all()
        seeds = infos["restart_seed"][2:].tolist()
        assert len({1, 2, 3, 4, *seeds}) == 6
        assert observations[2:, 1].tolist() == seeds
        if mode is AutoresetMode.DISABLED:
            envs.reset(options={"reset_mask": truncated})
        observations, _, _, truncated, infos = envs.step(actions())
        assert not truncated.any()
        assert "worker_restarted" not in infos
        assert infos["index"].tolist() == [0, 1, 2, 3]  # the new worker knows their columns
        assert observations[:2, 3].tolist() == [2, 2]
        again = 0 if mode is AutoresetMode.NEXT_STEP else 1
        assert observations[2:, 3].tolist() == [again, again]
        for _ in range(20):
            step = envs.step(actions())
            ended = step[2] | step[3]
            if mode is AutoresetMode.DISABLED and ended.any():
                envs.reset(options={"reset_mask": ended})
        assert (step[0][:, 0] == [0, 1, 2, 3]).all()


def test_a_worker_that_died_before_it_was_told_of_new_infos_is_replaced():
    with made(on_worker_death="restart") as envs:
        envs.step(actions())  # its infos have keys of their own: the next step tells of them
        process = process_of(envs)
        process.kill()
        process.join(10.0)
        with pytest.warns(VecselectWarning, match="It was replaced"):
            observations, *_, truncated, infos = envs.step(actions())
        assert_begin_anew(truncated, infos)
        assert observations[:, 3].tolist() == [2, 2, 0, 0]
        observations, *_ = envs.step(actions())
        assert observations[:2, 3].tolist() == [3, 3]


def test_an_announcement_that_is_an_error_leaves_the_new_worker_in_service():
    with made(on_worker_death="restart") as envs:
        with warnings.catch_warnings():
            warnings.simplefilter("error", VecselectWarning)
            lost = "What set_attr and call had changed in them is lost"
            with pytest.raises(VecselectWarning, match=f"was replaced: .*{lost}"):
                envs.step(actions({2: "sigkill"}))
            worker = psutil.Process(process_of(envs).pid)
            observations, *_, truncated, infos = envs.step(actions())
        assert_begin_anew(truncated, infos)
        assert observations[2:, 3].tolist() == [0, 0]
    assert not worker.is_running()


def test_interrupted_while_it_is_replaced_it_is_replaced_by_the_next_call(monkeypatch):
    with made(on_worker_death="restart") as envs:
        starter, started = envs.unwrapped._workers, []
        start = starter.start

        def interrupted(work):
            started.append(work)
            if len(started) == 1:
                raise KeyboardInterrupt
            return start(work)

        monkeypatch.setattr(starter, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            envs.step(actions({2: "sigkill"}))
        with pytest.warns(VecselectWarning, match="It was replaced"):
            *_, truncated, infos = envs.step(actions())
        assert_begin_anew(truncated, infos)


def test_a_reset_is_done_by_the_worker_in_the_dead_one_s_place():
    with made(on_worker_death="restart") as envs:
        os.kill(process_of(envs).pid, signal.SIGKILL)
        with pytest.warns(VecselectWarning, match="replaced"):
            observations, _ = envs.reset(seed=11)
        assert observations[:, 1].tolist() == [11, 12, 13, 14]
        *_, truncated, infos = envs.step(actions())
        assert not truncated.any()
        assert "worker_restarted" not in infos


def test_a_call_is_not_repeated_but_the_pool_goes_on():
    with made(on_worker_death="restart") as envs:
        os.kill(process_of(envs).pid, signal.SIGKILL)
        time.sleep(0.2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VecselectWarning)
            try:
                assert envs.call("double", 2)
            except WorkerDied as error:
                assert "whether the call had taken effect" in str(error)
        *_, truncated, infos = envs.step(actions())
        assert_begin_anew(truncated, infos)
