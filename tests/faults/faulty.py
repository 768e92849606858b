"""Environments that fail when they are told to, vector environments of them, and what to expect."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from tests import zoo
from tests.processes import gone
from vecselect import auto_make_vec

REPORTED_S = 5.0
"""A failure is reported within this: long before what else is stuck would return."""

CLOSED_S = 10.0
"""Closing takes no longer than this, whatever state it finds."""

DOZE_S = 2.0
"""Seconds of what takes long, but ends."""

COUNT = 4
ZEROS = np.zeros(COUNT, np.int64)


class TwoArguments(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")
        self.left, self.right = left, right


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class Own(BaseException):
    pass


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


UNICODE = ("utf-8", b"\xff", 0, 1, "invalid start byte")
ERRORS = {
    "runtime": (lambda: RuntimeError("plain", 1), RuntimeError, ("plain", 1), "plain"),
    "key": (lambda: KeyError("missing_key"), KeyError, ("missing_key",), "missing_key"),
    "two": (lambda: TwoArguments("l", "r"), Exception, None, "TwoArguments: l and r"),
    "keyword": (lambda: KeywordOnly(code=5), Exception, None, "code 5"),
    "local": (_local, Exception, None, "made in a function"),
    "unpicklable": (lambda: Unpicklable("holds a lock"), Exception, None, "holds a lock"),
    "unicode": (lambda: UnicodeDecodeError(*UNICODE), UnicodeDecodeError, UNICODE, UNICODE[-1]),
    "unspeakable": (Unspeakable, Exception, None, "Unspeakable"),
    "stop_iteration": (StopIteration, (StopIteration, RuntimeError), None, ""),
    "os": (lambda: OSError(2, "Gone", "track.dat"), FileNotFoundError, (2, "Gone"), "track.dat"),
    "interrupt": (KeyboardInterrupt, KeyboardInterrupt, (), ""),
    "generator_exit": (GeneratorExit, GeneratorExit, (), ""),
    "own": (lambda: Own("broken off"), BaseException, None, "broken off"),
}
"""What is raised, and what arrives: its type, its arguments where they arrive, its text."""


def _raise(make):
    raise make()


STARTED = []


def _popen():
    STARTED.append(subprocess.Popen(["sleep", "300"]))


FAULTS = {
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(3),
    "sys_exit": lambda: sys.exit(0),
    "sleep": lambda: time.sleep(1000),
    "blink": lambda: time.sleep(0.03),
    "nap": lambda: time.sleep(0.3),
    "doze": lambda: time.sleep(DOZE_S),
    "popen": _popen,
    **{name: functools.partial(_raise, make) for name, (make, *_) in ERRORS.items()},
}

ECHO = 10
"""Actions below this are echoed; the others name a fault."""

CODES = {name: ECHO + number for number, name in enumerate(FAULTS)}
_BY_CODE = {code: name for name, code in CODES.items()}


class FaultyEnv(zoo.EchoEnv):
    """Echoes its actions, except where one of them names a fault.

    Faults also happen in `reset(options={"fault": ..., "row": ...})`, in `call("do", fault, row)`,
    and in the methods named in `when`, among them `construct`.

    Args:
        index: As in `EchoEnv`.
        row: The index that `when` is for; None for all.
        note: Folder in which a file tells that it was closed.
        **when: Names of faults, by the method.
    """

    action_space = spaces.Discrete(ECHO + len(FAULTS))
    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, index=0, row=None, note=None, **when):
        super().__init__(index)
        self.note, self.token = note, index
        self.when = when if row in (None, index) else {}
        self._maybe("construct")

    def _maybe(self, method):
        if method in self.when:
            FAULTS[self.when[method]]()

    def tell(self, method, fault, row):
        """From now on a fault happens in a method of sub-environment `row`."""
        self.when = {method: fault} if row == self.index else {}

    def do(self, fault, row):
        if row in (None, self.index):
            FAULTS[fault]()
        return self.index

    def reset(self, *, seed=None, options=None):
        if options and "fault" in options:
            self.do(options["fault"], options["row"])
        self._maybe("reset")
        return super().reset(seed=seed, options=None)

    def step(self, action):
        if int(action) >= ECHO:
            FAULTS[_BY_CODE[int(action)]]()
        return super().step(action)

    def render(self):
        self._maybe("render")
        return super().render()

    def pid(self):
        return os.getpid()

    @property
    def lock(self):
        return threading.Lock()

    def close(self):
        self._maybe("close")
        if self.note is not None:
            Path(self.note, f"closed {self.index}").touch()


class Forks(zoo.EchoEnv):
    """Has a step done by a process of multiprocessing."""

    def step(self, action):
        queue = multiprocessing.get_context("fork").Queue()
        child = multiprocessing.get_context("fork").Process(target=queue.put, args=(int(action),))
        child.start()
        echoed = queue.get()
        child.join()
        return super().step(echoed)


class Returns(gym.Env):
    """Returns in step number 2 of an episode what it was given, instead of what it should."""

    action_space = spaces.Discrete(2)

    def __init__(self, index=0, space=None):
        self.observation_space = space or spaces.Box(-10, 10, (3,), np.float32)
        self.index, self.given = index, {}
        self.steps = 0

    def give(self, part, value, row):
        self.given = {part: value} if row in (None, self.index) else {}

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
        if self.steps == 2:
            result.update(self.given)
        return tuple(result.values())


HOW = {"pipes": {"shared_memory": False}, "different": {"observation_mode": "different"}}


def make(mode, kind=FaultyEnv, count=COUNT, options=None, **arguments):
    """A vector environment; after its mode may stand a start method, or a key of `HOW`."""
    mode, _, how = mode.partition(" ")
    options = {**(options or {}), **HOW.get(how, {"context": how} if how else {})}
    env_fns = [functools.partial(kind, index, **arguments) for index in range(count)]
    return auto_make_vec(env_fns, mode=mode, vector_kwargs=options)


def actions(faults=None, base=1):
    """A batch that is echoed, but for the rows that have a fault."""
    batch = (np.arange(COUNT) + base) % 10
    for row, fault in (faults or {}).items():
        batch[row] = CODES[fault]
    return batch


USES = {
    "step": lambda envs, fault, row: envs.step(actions({row: fault})),
    "reset": lambda envs, fault, row: envs.reset(options={"fault": fault, "row": row}),
    "call": lambda envs, fault, row: envs.call("do", fault, row),
    "render": lambda envs, fault, row: (envs.call("tell", "render", fault, row), envs.render()),
    "step_wait": lambda envs, fault, row: (
        envs.step_async(actions({row: fault})),  # which steps none of them itself
        envs.step_wait(timeout=60),
    ),
    "reset_wait": lambda envs, fault, row: (
        envs.reset_async(options={"fault": fault, "row": row}),
        envs.reset_wait(),
    ),
    "call_wait": lambda envs, fault, row: (envs.call_async("do", fault, row), envs.call_wait()),
}
"""Every use of a vector environment in which a fault can happen in a row."""


def use(envs, phase, fault, row):
    """Has a fault happen in a row, or in all of them if it is None, within a call."""
    if phase == "step" and row is None:
        envs.step(actions(dict.fromkeys(range(COUNT), fault)))
    else:
        USES[phase](envs, fault, row)


def pids(envs):
    return envs.call("pid")


def workers_of(envs):
    """The processes other than this one that run sub-environments."""
    return set(pids(envs)) - {os.getpid()}


@contextlib.contextmanager
def within(limit_s):
    """Fails if what is done in it takes longer."""
    start_s = time.monotonic()
    yield
    took_s = time.monotonic() - start_s
    assert took_s < limit_s, f"took {took_s:.2f} s, not {limit_s} s"


def assert_reset(result, seed):
    observations, infos = result
    rows = np.arange(COUNT)
    expected = [rows, rows + seed, observations[:, 2], 0 * rows, 0 * rows - 1]
    assert observations.tolist() == np.stack(expected, 1).tolist(), observations
    assert infos["index"].tolist() == rows.tolist(), infos


def assert_step(result, batch, steps):
    """Everything in the result belongs to this batch of actions, and to this step."""
    observations, rewards, terminated, truncated, infos = result
    rows = np.arange(COUNT)
    steps = steps + 0 * rows
    assert observations[:, [0, 3, 4]].tolist() == np.stack([rows, steps, batch], 1).tolist(), result
    assert rewards.tolist() == (1000 * rows + 10 * steps + batch / 10).tolist(), result
    for name, expected in {"index": rows, "step": steps, "action": batch}.items():
        assert infos[name].tolist() == expected.tolist(), result
    assert (terminated | truncated).tolist() == (steps >= 3 + rows % 4).tolist(), result


def assert_usable(envs, seed=11):
    """A reset brings everything back, and nothing stale is seen."""
    assert_reset(envs.reset(seed=seed), seed)
    for step in (1, 2):
        batch = actions(base=step + seed)
        assert_step(envs.step(batch), batch, step)


def text_of(error):
    """All that an exception says: its text, its notes and its causes'."""
    return "".join(traceback.format_exception(error))


def close_in_time(envs, **options):
    """Closes; fails if it takes too long, raises or leaves a worker."""
    with within(CLOSED_S):
        envs.close(**options)
    assert envs.closed
    envs.close()


@contextlib.contextmanager
def in_use(mode, **closing):
    """A vector environment after a reset; it can be closed in time, and leaves no worker."""
    envs = make(mode)
    envs.reset(seed=1)
    everyone = workers_of(envs)
    yield envs
    close_in_time(envs, **closing)
    assert all(map(gone, everyone))


def notes():
    """A folder of the case for notes, which do not count as left behind."""
    path = Path(os.environ["TMPDIR"]).parent / "notes"
    path.mkdir(exist_ok=True)
    return str(path)
