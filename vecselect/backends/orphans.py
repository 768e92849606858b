"""A worker whose parent has gone: it ends, and what its environments have started with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S = 0.25
"""How often a worker looks whether its parent is still there, where no file tells it so."""

ORPHAN_GRACE_S = 1.5
"""How long a worker whose parent has gone may take to close its sub-environments."""


class ParentWatch(threading.Thread):
    """Ends this process when its parent has gone, even where a sub-environment is stuck.

    Attributes:
        gone: Set once the parent has gone.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """Begins to watch.

        Args:
            wake: Called when the parent has gone.
        """
        super().__init__(daemon=True, name="vecselect-watch-parent")
        self.gone = threading.Event()
        self._wake = wake
        self.start()

    def run(self) -> None:
        """Waits for the end of the parent, then for this process's own end, then ends it."""
        parent = multiprocessing.parent_process()
        assert parent is not None
        # A forked sibling of the parent may hold the other end of the sentinel. Where no file tells
        # of the parent itself, the parent's id does, if this is a direct child.
        file = _parent_file()
        files = [parent.sentinel] if file < 0 else [parent.sentinel, file]
        direct = file < 0 and parent.pid == os.getppid()
        while not connection.wait(files, LOOK_S if direct else None):
            if direct and os.getppid() != parent.pid:
                break
        self.gone.set()
        self._wake()
        time.sleep(ORPHAN_GRACE_S)
        _kill_own_group()
        os._exit(1)

    def end_orphan(self, wait_s: float = 0.0) -> None:
        """When all is closed: ends this process as `run` does, if there is no parent to do it.

        Args:
            wait_s: Seconds to wait for it to be seen that the parent has gone.
        """
        if self.gone.wait(wait_s):
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            _kill_own_group()


def _parent_file() -> int:
    """A descriptor that becomes readable when the parent has ended, or -1."""
    if os.name != "posix":
        return -1
    from vecselect.contexts import parent_file

    return parent_file()


def _kill_own_group() -> None:
    """Kills this process and all in its group, if it has one of its own: see `settle_in`."""
    if os.name == "posix" and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
