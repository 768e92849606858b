"""Environments that do harm when they are told to."""

from __future__ import annotations

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
from gymnasium import spaces

from tests import zoo


class TwoArguments(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")
        self.left, self.right = left, right


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class Unpicklable(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no text")


def _local():
    class Local(Exception):
        pass

    return Local("made in a function")


ERRORS = {
    "runtime": lambda: RuntimeError("plain", 1),
    "key": lambda: KeyError("missing_key"),
    "two": lambda: TwoArguments("left", "right"),
    "keyword": lambda: KeywordOnly(code=5),
    "local": _local,
    "unpicklable": lambda: Unpicklable("holds a lock"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "unspeakable": Unspeakable,
    "stop_iteration": lambda: StopIteration("over"),
    "os": lambda: FileNotFoundError(2, "No such file", "track.dat"),
    "memory": lambda: MemoryError("too large"),
}


def _raise(make):
    raise make()


def _popen():
    subprocess.Popen(["sleep", "300"])


DEEDS = {
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(3),
    "sys_exit": lambda: sys.exit(0),
    "generator_exit": lambda: _raise(GeneratorExit),
    "sleep": lambda: time.sleep(1000),
    "blink": lambda: time.sleep(0.03),
    "nap": lambda: time.sleep(0.3),
    "doze": lambda: time.sleep(1.5),
    "popen": _popen,
    **{name: (lambda make=make: _raise(make)) for name, make in ERRORS.items()},
}

ECHO = 10
"""Actions below this are echoed; the others name a deed."""

CODES = {name: ECHO + number for number, name in enumerate(DEEDS)}
_BY_CODE = {code: name for name, code in CODES.items()}


class Fault(zoo.EchoEnv):
    """Echoes its actions, except where one of them names a deed.

    Deeds are also done in `reset(options={"deed": ..., "row": ...})` and `call("do", deed, row)`,
    and in construction, `render` and `close` where the argument `when` says so.
    """

    action_space = spaces.Discrete(ECHO + len(DEEDS))
    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, index=0, when=None, deed=None, row=None, note=None):
        super().__init__(index)
        self.when, self.deed, self.row, self.note = when, deed, row, note
        self.token = index
        self._maybe("construct")

    def _maybe(self, phase):
        if self.when == phase and self.row in (None, self.index):
            DEEDS[self.deed]()

    def reset(self, *, seed=None, options=None):
        if options and options.get("deed") and options.get("row") in (None, self.index):
            DEEDS[options["deed"]]()
        self._maybe("reset")
        return super().reset(seed=seed, options=None)

    def step(self, action):
        if int(action) >= ECHO:
            DEEDS[_BY_CODE[int(action)]]()
        return super().step(action)

    def render(self):
        self._maybe("render")
        return super().render()

    def do(self, deed, row):
        if row in (None, self.index):
            DEEDS[deed]()
        return self.index

    def pid(self):
        return os.getpid()

    @property
    def lock(self):
        return threading.Lock()

    def close(self):
        self._maybe("close")
        if self.note is not None:
            with open(os.path.join(self.note, f"closed {self.index}"), "w"):
                pass


class Owner(zoo.EchoEnv):
    """Owns a process that lives for as long as nobody ends it."""

    def __init__(self, index=0, note=None):
        super().__init__(index)
        self.note = note
        self.child = subprocess.Popen(["sleep", "300"])

    def step(self, action):
        if action == 9:
            time.sleep(1000)
        return super().step(action)

    def close(self):
        if self.note is not None:
            with open(os.path.join(self.note, f"closed {self.index}"), "w"):
                pass


class Forks(zoo.EchoEnv):
    """Has a step done by a process of multiprocessing."""

    def step(self, action):
        queue = multiprocessing.get_context("fork").Queue()
        child = multiprocessing.get_context("fork").Process(target=queue.put, args=(int(action),))
        child.start()
        said = queue.get()
        child.join()
        return super().step(said)


class Global(zoo.EchoEnv):
    """Draws from the global generators."""

    def step(self, action):
        observation, *rest = super().step(action)
        observation[0] = np.random.random()
        observation[1] = random.random()
        return observation, *rest


class Returns(gym.Env):
    """From its step number `at` on it returns what it was given instead of what it should."""

    action_space = spaces.Discrete(2)

    def __init__(self, index=0, space=None, bad=None, row=1, part="observation", at=2):
        self.observation_space = space or spaces.Box(-10, 10, (3,), np.float32)
        self.index, self.bad, self.row, self.part, self.at = index, bad, row, part, at
        self.steps = 0

    def _good(self):
        space = self.observation_space
        return np.full(space.shape, self.steps, space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._good(), {}

    def step(self, action):
        self.steps += 1
        result = {
            "observation": self._good(),
            "reward": float(self.steps),
            "terminated": False,
            "truncated": False,
            "info": {"steps": self.steps},
        }
        if self.steps == self.at and self.row in (None, self.index):
            result[self.part] = self.bad
        return tuple(result.values())


class Custom(gym.Space):
    """A space that only its author knows."""

    def __init__(self):
        super().__init__(None, None)

    def sample(self, mask=None, probability=None):
        return ("custom", int(self.np_random.integers(1000)))

    def contains(self, x):
        return isinstance(x, tuple)

    @property
    def is_np_flattenable(self):
        return False

    def __eq__(self, other):
        return isinstance(other, Custom)

    __hash__ = None


class OnlyIn(zoo.EchoEnv):
    """Does a deed in every process but the one that it was made for, or only there."""

    def __init__(self, index=0, deed="exit", home=0, at=1):
        super().__init__(index)
        self.deed, self.home, self.at = deed, home, at

    def step(self, action):
        if os.getpid() != self.home and self.steps >= self.at:
            DEEDS[self.deed]()
        return super().step(action)
