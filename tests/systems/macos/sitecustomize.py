"""What macOS lacks: see `lacking`."""

import os
import signal
import socket  # noqa: F401 (before anything is taken away)
import sys
import types

sys.path.insert(1, os.path.dirname(os.path.dirname(__file__)))
import lacking

lacking.take_away(os, "memfd_create pidfd_open posix_fallocate sched_getaffinity sched_setaffinity")
lacking.take_away(os, "waitid eventfd")
lacking.take_away(signal, "sigtimedwait sigwaitinfo")
lacking.hide_files()
lacking.start_methods("spawn", "fork", "forkserver")

import _multiprocessing  # noqa: E402
from multiprocessing import heap, process, synchronize  # noqa: E402

heap.Arena._dir_candidates = []

LONGEST_NAME = 30


class Semaphore:
    """One whose name is short, whose value is not told, and which waits for a time by polling."""

    _rebuild = _multiprocessing.SemLock._rebuild
    SEM_VALUE_MAX = _multiprocessing.SemLock.SEM_VALUE_MAX

    def __init__(self, kind, value, maxvalue, name, unlink):
        assert len(name) <= LONGEST_NAME
        self._lock = _multiprocessing.SemLock(kind, value, maxvalue, name, unlink)

    def acquire(self, block=True, timeout=None):
        if block and timeout is not None and process.parent_process() is not None:
            raise NotImplementedError("a worker would answer up to 20 ms late")
        return self._lock.acquire(block, timeout)

    def __getattr__(self, name):
        if name in ("_get_value", "_is_zero"):
            raise NotImplementedError(name)
        return getattr(self._lock, name)

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *error):
        return self._lock.__exit__(*error)


replaced = types.SimpleNamespace(**vars(_multiprocessing))
replaced.SemLock = Semaphore
synchronize._multiprocessing = replaced
