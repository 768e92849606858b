"""What other systems lack, made to fail here: the pool does without it."""

import multiprocessing
import os
import signal
import time
import types
from multiprocessing import synchronize

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tests import zoo
from tests.compare import assert_same_run
from vecselect import ModeUnavailable, auto_make_vec, processes
from vecselect.backends.pool import link

_real = synchronize._multiprocessing
LONGEST_NAME = 30


class MacSemaphore:
    """One of macOS: its names are short, its value is not told; and only callers may poll."""

    def __init__(self, kind, value, maxvalue, name, unlink):
        assert len(name) <= LONGEST_NAME
        self._semaphore = _real.SemLock(kind, value, maxvalue, name, unlink)

    def __getattr__(self, name):
        if name in ("_get_value", "_is_zero", "_count"):
            raise NotImplementedError(name)
        return getattr(self._semaphore, name)

    def acquire(self, block=True, timeout=None):
        in_worker = multiprocessing.parent_process() is not None
        if in_worker and block and timeout is not None:
            raise NotImplementedError("sem_timedwait")
        return self._semaphore.acquire(block, timeout)

    def release(self):
        self._semaphore.release()


def refused(*arguments):
    raise PermissionError(1, "Operation not permitted")


def interrupted():
    raise KeyboardInterrupt


def test_a_pool_needs_neither_values_nor_timed_waits_nor_nameless_memory(monkeypatch):
    replaced = types.SimpleNamespace(**vars(_real))
    replaced.SemLock = MacSemaphore
    monkeypatch.setattr(synchronize, "_multiprocessing", replaced)
    monkeypatch.setattr(os, "memfd_create", refused, raising=False)
    # Forked, so that the worker finds the same.
    with auto_make_vec([zoo.EchoEnv] * 4, mode="pool:1", vector_kwargs={"context": "fork"}) as envs:
        assert_same_run(envs, SyncVectorEnv([zoo.EchoEnv] * 4), steps=10)
        time.sleep(0.05)  # the worker has fallen asleep by then
        assert envs.call("double", 2) == (4,) * 4
        with monkeypatch.context() as meanwhile, pytest.raises(KeyboardInterrupt):
            meanwhile.setattr(envs.unwrapped._workers.each[0]._go, "give", interrupted)
            envs.step(np.ones(4, np.int64))
        assert envs.reset(seed=11)[0][:, 1].tolist() == [11, 12, 13, 14]
        assert envs.step(np.ones(4, np.int64))[0][:, 3].tolist() == [1] * 4


def test_memory_without_a_name_is_a_file_where_the_system_gives_no_other(monkeypatch):
    monkeypatch.setattr(os, "memfd_create", refused, raising=False)
    with auto_make_vec([zoo.EchoEnv] * 4, mode="pool:1") as envs:
        assert_same_run(envs, SyncVectorEnv([zoo.EchoEnv] * 4), steps=10)


def test_a_full_disk_is_an_error_before_anything_is_written(monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "memfd_create", refused, raising=False)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(ModeUnavailable, match="No space left"):
        auto_make_vec([zoo.EchoEnv] * 4, mode="pool:1")


def test_the_name_of_a_signal_goes_when_it_is_no_longer_needed():
    one = link.Signal(multiprocessing.get_context("spawn"))
    name = one._named._semlock.name
    one.forget_name()
    with pytest.raises(FileNotFoundError):
        _real.SemLock._rebuild(0, 1, 1, name)
    one.give()
    one.wait(0)


def test_spinning_ends_by_the_clock_where_others_have_the_core(monkeypatch):
    now_s, yields = [0.0], []

    def given_up():
        yields.append(None)
        now_s[0] += 0.012  # four other programs, a time slice each

    monkeypatch.setattr(link, "_yield", given_up)
    monkeypatch.setattr(link.time, "perf_counter", lambda: now_s[0])
    one = link.Signal(multiprocessing.get_context("spawn"))
    assert not one.take(link.DEFAULT_TRIES, lambda: None, lambda: 0.0)
    assert len(yields) <= link.TRIES_PER_LOOK


def test_a_death_is_told_where_there_is_no_sigkill(monkeypatch):
    monkeypatch.delattr(signal, "SIGKILL")
    assert processes.memory_picture(-9) == processes.memory_picture(0) == ""
