"""A block of memory that processes share, without a name that could be left behind."""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any


class Memory:
    """Anonymous shared memory; sent to a child process while that is being started.

    Pages that are never written take no room, so a generous size costs nothing.
    """

    def __init__(self, size_bytes: int) -> None:
        self._fd = -1
        self.size_bytes = size_bytes
        if hasattr(os, "memfd_create"):  # not bound by the size of /dev/shm, 64 MB in containers
            self._fd = os.memfd_create("vecselect")
        else:
            with tempfile.TemporaryFile() as file:
                self._fd = os.dup(file.fileno())
        os.ftruncate(self._fd, size_bytes)
        self.map = mmap.mmap(self._fd, size_bytes)

    def forget_descriptor(self) -> None:
        """Closes the descriptor that was kept for sending; the mapping stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        """Closes the descriptor, where it was kept for workers to come."""
        self.forget_descriptor()

    def __getstate__(self) -> dict[str, Any]:
        """The size and a descriptor that arrives in the child."""
        return {"size_bytes": self.size_bytes, "fd": reduction.DupFd(self._fd)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Maps the same memory in the child."""
        self.size_bytes = state["size_bytes"]
        self._fd = state["fd"].detach()
        self.map = mmap.mmap(self._fd, self.size_bytes)
        self.forget_descriptor()
