"""Programs that the cases start, look at and end."""

from __future__ import annotations

import os
import signal
import time

from tests.faults.faulty import ZEROS, actions, make
from vecselect import auto_make_vec
from vecselect.process import contexts


def say(text):
    print(text, flush=True)


def run(mode, ending="wait", stuck=None, **arguments):
    """Makes a vector environment, says so, and goes on as it was told.

    Args:
        mode: As of `faulty.make`.
        ending: What follows, of `ENDINGS`.
        stuck: A row that never returns from a step.
        **arguments: Of `FaultyEnv`.
    """
    envs = make(mode, **arguments)
    envs.reset(seed=1)
    if stuck is not None:
        envs.step_async(actions({stuck: "sleep"}))
        time.sleep(0.1)
    say("ready")
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


def plan(count=8, budget_s=2.0, cache=None, **options):
    """Plans without a pin, and says what came of it.

    Args:
        count: Number of sub-environments.
        budget_s: As in `auto_make_vec`.
        cache: Folder of the plan cache, if not the program's own.
        **options: Of `auto_make_vec`.
    """
    if cache is not None:
        os.environ["VECSELECT_CACHE_DIR"] = cache
    child = contexts.get_context().Process(target=abs, args=(1,))
    child.start()
    child.join()  # the fork server has loaded all
    say("ready")
    with auto_make_vec("CartPole-v1", count, budget_s=budget_s, **options) as envs:
        envs.reset(seed=1)
        say(envs.mode)
