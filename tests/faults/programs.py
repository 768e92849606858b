"""Programs that the cases start, look at and end."""

from __future__ import annotations

import functools
import gc
import os
import signal
import time

from tests import zoo
from tests.faults.faulty import FAULTS, ZEROS, actions, make
from vecselect import auto_make_vec
from vecselect.process import contexts


def say(text):
    print(text, flush=True)


def run(mode, ending="wait", context=None, stuck=None, **arguments):
    """Makes a vector environment, says so, and goes on as it was told.

    Args:
        mode: Of the vector environment.
        ending: What follows, of `ENDINGS`.
        context: Start method.
        stuck: A row that never returns from a step.
        **arguments: Of `FaultyEnv`.
    """
    envs = make(mode, options={"context": context} if context else None, **arguments)
    envs.reset(seed=1)
    if stuck is not None:
        envs.step_async(actions({stuck: "sleep"}))
        time.sleep(0.1)
    say("ready")
    if ending == "delete":
        del envs
        gc.collect()
        say("deleted")
        time.sleep(600)
    ENDINGS[ending](envs)


def _step(envs):
    while True:
        envs.step(ZEROS)


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


def _leave_stopped(envs):
    os.kill(envs.call("pid")[3], signal.SIGSTOP)
    globals()["kept"] = envs


ENDINGS = {
    "wait": lambda envs: time.sleep(600),
    "step": _step,
    "stuck and close": _stuck_and_close,
    "use and close": _use_and_close,
    "leave": lambda envs: None,
    "leave stopped": _leave_stopped,
    "raise": lambda envs: 1 / 0,
    "close": lambda envs: envs.close(),
    "terminate": lambda envs: envs.close(terminate=True),
}


def start_fork_server():
    """Waits until it has loaded all."""
    child = contexts.get_context().Process(target=abs, args=(1,))
    child.start()
    child.join()


def build_slowly(mode):
    """Is in the middle of building for a long time."""
    start_fork_server()
    say("ready")
    make(mode, row=3, construct="sleep")


class OnlyElsewhere(zoo.EchoEnv):
    """Fails in the second step of an episode, but for the process that it was made for."""

    def __init__(self, index, fault, home):
        super().__init__(index)
        self.fault, self.home = fault, home

    def step(self, action):
        if os.getpid() != self.home and self.steps >= 1:
            FAULTS[self.fault]()
        return super().step(action)


def plan(count=8, budget_s=2.0, fault=None, cache=None, **options):
    """Plans without a pin, and says what came of it.

    Args:
        count: Number of sub-environments.
        budget_s: As in `auto_make_vec`.
        fault: What goes wrong where the environment is measured.
        cache: Folder of the plan cache, if not the program's own.
        **options: Of `auto_make_vec`.
    """
    if cache is not None:
        os.environ["VECSELECT_CACHE_DIR"] = cache
    start_fork_server()
    say("ready")
    made = ("CartPole-v1", count)
    if fault is not None:
        home = os.getpid()
        made = ([functools.partial(OnlyElsewhere, i, fault, home) for i in range(count)],)
    with auto_make_vec(*made, budget_s=budget_s, **options) as envs:
        envs.reset(seed=1)
        say(envs.mode)
    say("done")
