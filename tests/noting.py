"""Environments that note what happens to them, in whatever process, in a file."""

from __future__ import annotations

import functools
import os
import time
from collections import namedtuple

from tests.processes import until
from tests.zoo import EchoEnv, GlobalEnv


class NotingEnv(EchoEnv):
    """Notes in a file that it is built and closed, and how often it was reset and stepped by then.

    A step waits `wait_s` without computing.
    """

    def __init__(self, file, index=0, wait_s=0.0):
        super().__init__(index)
        self.file, self.wait_s = str(file), wait_s
        self.resets_made = self.steps_made = 0
        self.note("built")

    def note(self, event):
        line = f"{event} {self.index} {os.getpid()} {self.resets_made} {self.steps_made}\n"
        file = os.open(self.file, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(file, line.encode())
        os.close(file)

    def reset(self, **kwargs):
        self.resets_made += 1
        return super().reset(**kwargs)

    def step(self, action):
        self.steps_made += 1
        if self.wait_s:
            time.sleep(self.wait_s)
        return super().step(action)

    def where(self):
        return os.getpid()

    def close(self):
        self.note("closed")


class DrawingEnv(GlobalEnv, NotingEnv):
    """Observes what the process's global generators draw."""


Note = namedtuple("Note", "event index pid resets steps")


class Notes:
    """What environments have noted in a file."""

    def __init__(self, file):
        self.file = file

    def factories(self, count=4, kind=NotingEnv, **options):
        return [functools.partial(kind, self.file, index, **options) for index in range(count)]

    def all(self, event):
        text = self.file.read_text() if self.file.exists() else ""
        found = [line.split() for line in text.splitlines()]
        return [Note(name, *map(int, rest)) for name, *rest in found if name == event]

    @property
    def built(self):
        return self.all("built")

    @property
    def closed(self):
        return self.all("closed")

    def profiled(self):
        """What was closed first: in a process that does so after telling what it found."""
        return until(lambda: self.closed, 10.0)[0]
