"""Processes on Windows, where multiprocessing can only start new interpreters."""

from __future__ import annotations

import signal
import threading
from multiprocessing import context, spawn
from typing import Any

from vecselect.errors import refusals_named
from vecselect.process.forkserver import without_script

_lock = threading.Lock()
_preparation = spawn.get_preparation_data


class SpawnProcess(context.SpawnProcess):
    """A process that is a new interpreter, and does not run the user's script again."""

    parent_file = -1
    """As on POSIX, where there is no descriptor that tells of the parent's end."""

    def start(self) -> None:
        """Starts it; raises `StartError` if the system refuses that."""
        with refusals_named(), _lock:
            # multiprocessing has no other way to leave the script out.
            spawn.get_preparation_data = lambda name: without_script(_preparation(name))
            try:
                super().start()
            finally:
                spawn.get_preparation_data = _preparation

    def run(self) -> None:
        """In the process: runs what it was made for."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().run()


PROCESS_CLASSES: tuple[Any, ...] = (SpawnProcess,)
