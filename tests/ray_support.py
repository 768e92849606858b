"""What the tests of mode `ray` share: environments that do what they are told, and Ray itself."""

import functools
import os
import signal
import time
from pathlib import Path

from tests.zoo import EchoEnv
from vecselect import auto_make_vec

DIE, SLEEP, STOP, RAISE = 6, 7, 8, 9

QUIET = ("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
"""Warnings of Ray's own affairs."""


class ToldEnv(EchoEnv):
    """Does what the action says, in an actor; `close` leaves a file."""

    def __init__(self, index=0, folder=None, sleep_s=3600.0):
        super().__init__(index)
        self.folder = folder
        self.sleep_s = sleep_s

    def step(self, action):
        if action == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == SLEEP:
            time.sleep(self.sleep_s)
        if action == STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        if action == RAISE:
            raise LookupError(f"told to, in step {self.steps}")
        return super().step(action)

    def close(self):
        if self.folder:
            (Path(self.folder) / f"closed {self.index}").touch()


def told(num_envs, mode="ray:2", folder=None, **options):
    fns = [functools.partial(ToldEnv, index, folder) for index in range(num_envs)]
    return auto_make_vec(fns, mode=mode, vector_kwargs=options)


def pids(envs):
    return [handle.place.pid for handle in envs.unwrapped._workers.each]
