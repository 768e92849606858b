"""A block of memory that processes share, without a name that could be left behind."""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any


class Memory:
    """Anonymous shared memory; sent to a child process while that is being started.

    Its size may be said later, by the process that made it: what it has to hold shows only when
    environments are built. Pages that are never written take no room, so a generous size costs
    nothing.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._on_disk = False
        try:
            self._fd = os.memfd_create("vecselect")  # not bound by /dev/shm, 64 MB in containers
        except (AttributeError, OSError):  # not Linux; an old kernel, or a sandbox that refuses it
            with tempfile.TemporaryFile() as file:
                self._fd = os.dup(file.fileno())
            self._on_disk = True

    def resize(self, size_bytes: int) -> None:
        """Gives it its size.

        Raises:
            OSError: If there is no room for it.
        """
        os.ftruncate(self._fd, size_bytes)
        if self._on_disk and hasattr(os, "posix_fallocate"):
            # A disk that turns out to be full when a page is written ends the program by a signal.
            os.posix_fallocate(self._fd, 0, size_bytes)

    def mapped(self, size_bytes: int) -> mmap.mmap:
        """A view of all of it, in any process; it has its size."""
        return mmap.mmap(self._fd, size_bytes)

    def forget_descriptor(self) -> None:
        """Closes the descriptor; what was mapped stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        """Closes the descriptor, where it was kept for workers to come."""
        self.forget_descriptor()

    def __getstate__(self) -> Any:
        """A descriptor that arrives in the child."""
        return reduction.DupFd(self._fd)

    def __setstate__(self, descriptor: Any) -> None:
        """The same memory in the child."""
        self._fd = descriptor.detach()
        self._on_disk = False
