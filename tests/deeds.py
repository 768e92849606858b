"""Environments in workers of mode `async` that do harm when they are told to.

In a module of its own, which the fork server loads once: its workers then start in milliseconds.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import gymnasium as gym
import numpy as np
import psutil
from gymnasium import spaces

from tests import zoo
from vecselect import auto_make_vec
from vecselect.errors import WorkerError

REPORTED_S = 1.5
CLOSED_S = 5.0
GRACE_S = 15.0


class TwoArguments(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def local_error():
    class Local(Exception):
        pass

    return Local("made in a function")


ERRORS = {
    "runtime": (lambda: RuntimeError("plain", 1), RuntimeError, "plain"),
    "key": (lambda: KeyError("missing"), KeyError, "missing"),
    "unicode": (lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UnicodeDecodeError, "bad"),
    "stop": (lambda: StopIteration("over"), StopIteration, "over"),
    "two arguments": (lambda: TwoArguments("left", "right"), WorkerError, "left and right"),
    "unpicklable": (Unpicklable, WorkerError, "holds a lock"),
    "local": (local_error, Exception, "made in a function"),
    "generator exit": (lambda: GeneratorExit("gone"), GeneratorExit, "gone"),
}
DEATHS = {
    "kill": (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "segfault": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
    "exit": (lambda: os._exit(3), "code 3"),
    "sys.exit": (lambda: sys.exit(4), "code 4"),
}
OTHERS = {
    "sleep": lambda: time.sleep(1000),
    "doze": lambda: time.sleep(0.6),
    "popen": lambda: subprocess.Popen(["sleep", "300"]),
    "fork": lambda: fork_once(),
}


def fork_once():
    child = multiprocessing.get_context("fork").Process(target=abs, args=(1,))
    child.start()
    child.join()


def do(deed):
    if deed in ERRORS:
        raise ERRORS[deed][0]()
    (DEATHS[deed][0] if deed in DEATHS else OTHERS[deed])()


class DoEnv(zoo.EchoEnv):
    """Does what it is told in `when`, a dict from a method's name to a deed."""

    builds = 0

    def __init__(self, index=0, row=2, note=None, **when):
        super().__init__(index)
        self.when = when if index == row else {}
        self.note = note
        self.home = os.getppid()
        if not multiprocessing.parent_process():
            DoEnv.builds += 1
            self.when = {}
        self.maybe("construct")

    def maybe(self, method):
        if method in self.when:
            do(self.when[method])

    def tell(self, method, deed, row=2):
        if self.index == row:
            self.when = {method: deed}

    def step(self, action):
        self.maybe("step")
        return super().step(action)

    def reset(self, *, seed=None, options=None):
        self.maybe("reset")
        return super().reset(seed=seed, options=options)

    def do(self, deed, row=2):
        if self.index == row:
            do(deed)

    def where(self):
        return os.getpid(), os.getpgid(0)

    def draw(self):
        return random.random(), float(np.random.random())

    def close(self):
        self.maybe("close")
        if self.note:
            open(os.path.join(self.note, f"closed {self.index}"), "w").close()


class Returns(gym.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, index, space=None, bad=None, part=0):
        self.observation_space = space or spaces.Box(-10, 10, (3,), np.float32)
        self.index, self.bad, self.part = index, bad, part
        self.steps = 0

    def observation(self):
        return np.full(self.observation_space.shape, self.steps, self.observation_space.dtype)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self.observation(), {}

    def step(self, action):
        self.steps += 1
        result = [self.observation(), 1.0, False, False, {}]
        if self.steps == 2 and self.index == 1:
            result[self.part] = self.bad
        return tuple(result)


ACTIONS = np.arange(4)
ZEROS = np.zeros(4, np.int64)


def make(kind=DoEnv, count=4, options=None, **arguments):
    env_fns = [functools.partial(kind, index, **arguments) for index in range(count)]
    return auto_make_vec(env_fns, mode="async", vector_kwargs=options)


def tell(envs, method, deed, row=2):
    envs.call("tell", method, deed, row)


def pids(envs):
    return [pid for pid, _ in envs.call("where")]


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_gone(some, limit_s=GRACE_S):
    until_s = time.monotonic() + limit_s
    while left := [pid for pid in some if running(pid)]:
        assert time.monotonic() < until_s, f"still running: {left}"
        time.sleep(0.02)


@contextlib.contextmanager
def within(limit_s):
    start_s = time.monotonic()
    yield
    assert time.monotonic() - start_s < limit_s


def assert_usable(envs, seed=5):
    """A reset brings all back, and what follows belongs together."""
    observations, infos = envs.reset(seed=seed)
    assert observations[:, 1].tolist() == [seed + i for i in range(4)]
    assert infos["index"].tolist() == [0, 1, 2, 3]
    for step in (1, 2):
        actions = (ACTIONS + step) % 10
        observations, rewards, *_, infos = envs.step(actions)
        assert observations[:, 3].tolist() == [step] * 4
        assert observations[:, 4].tolist() == actions.tolist()
        assert rewards.tolist() == [1000 * i + 10 * step + actions[i] / 10 for i in range(4)]
        assert infos["action"].tolist() == actions.tolist()


def text_of(error):
    return "\n".join([str(error), *getattr(error, "__notes__", []), str(error.__cause__)])
