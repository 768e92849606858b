"""Programs that the cases start, look at and end."""

from __future__ import annotations

import functools
import gc
import os
import random
import signal
import time

import numpy as np

from tests.faults import envs as faulty
from tests.faults.support import actions, make
from vecselect import processes

ZEROS = np.zeros(4, np.int64)


def say(text):
    print(text, flush=True)


def leave_stopped(mode):
    """Ends without close(), while a worker is stopped."""
    envs = make(mode)
    envs.reset(seed=1)
    os.kill(envs.call("pid")[3], signal.SIGSTOP)
    globals()["kept"] = envs


def draw_globally(mode, seed):
    np.random.seed(seed)
    random.seed(seed)
    with make(mode, faulty.Global) as envs:
        envs.reset(seed=1)
        return [envs.step(ZEROS)[0][:, :2].tolist() for _ in range(2)]


def run(mode, note=None, kind="Fault", context=None, stuck=None, ending="wait", work_s=0.0):
    """Makes a vector environment, says so, and goes on as it was told.

    Args:
        mode: Of the vector environment.
        note: Folder in which environments note that they were closed.
        kind: Of the environments.
        context: Start method.
        stuck: A row that never returns from a step.
        ending: What follows.
        work_s: Seconds of stepping before that.
    """
    options = {"context": context} if context else None
    envs = make(mode, getattr(faulty, kind), options=options, note=note)
    envs.reset(seed=1)
    until_s = time.monotonic() + work_s
    while time.monotonic() < until_s:
        envs.step(ZEROS)
    if stuck is not None:
        batch = ZEROS.copy()
        batch[stuck] = 9 if kind == "Owner" else faulty.CODES["sleep"]
        envs.step_async(batch)
        time.sleep(0.1)
    say("ready")
    if ending == "delete":
        del envs
        gc.collect()
        say("deleted")
        time.sleep(600)
    ENDINGS[ending](envs)


def _wait(envs):
    time.sleep(600)


def _step(envs):
    while True:
        envs.step(ZEROS)


def _step_and_close(envs):
    try:
        _step(envs)
    finally:
        envs.close()


def _stuck_and_close(envs):
    try:
        envs.step(actions({3: "sleep"}))
    finally:
        envs.close()


def _use_and_close(envs):
    try:
        while True:
            envs.reset(seed=1)
            envs.step(ZEROS)
            envs.get_attr("label")
    finally:
        envs.close()


ENDINGS = {
    "wait": _wait,
    "step": _step,
    "step and close": _step_and_close,
    "stuck and close": _stuck_and_close,
    "use and close": _use_and_close,
    "leave": lambda envs: None,
    "raise": lambda envs: 1 / 0,
    "close": lambda envs: envs.close(),
    "terminate": lambda envs: envs.close(terminate=True),
}


def start_fork_server():
    """Waits until it has loaded all."""
    child = processes.get_context().Process(target=abs, args=(1,))
    child.start()
    child.join()


def plan(env="CartPole-v1", count=8, budget_s=2.0, deed=None, at=1, **options):
    """Plans without a pin, and says what came of it."""
    from vecselect import auto_make_vec

    start_fork_server()
    say("ready")
    id = env
    if deed is not None:
        home = os.getpid()
        id = [functools.partial(faulty.OnlyIn, i, deed, home, at) for i in range(count)]
    with auto_make_vec(id, None if deed else count, budget_s=budget_s, **options) as envs:
        envs.reset(seed=1)
        say(envs.mode)
    say("done")


def build_slowly(mode):
    """Is in the middle of building for a long time."""
    start_fork_server()
    say("ready")
    make(mode, when="construct", deed="sleep", row=3)
