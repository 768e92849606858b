"""A gate that many threads wait at, and that lets all of them go at once.

A thread woken by one that runs Python finds the interpreter's lock taken, and goes back to sleep:
two switches for nothing, for each of them. So the gate is opened by a call of the system during
which the caller does without that lock, and one call is enough for all.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_BREATH_S = 1e-4
"""Threads that have nothing to do but to come through the gate are given so much time at once."""


class Gate(Protocol):
    """What some threads wait at, each of them again and again."""

    def way(self, place: int) -> Callable[[], object]:
        """What one of the threads calls to wait until it is let go."""

    def open(self) -> None:
        """Lets every thread go; all of them wait, or have nothing to do before they do."""

    def hold_open(self) -> None:
        """Does the same where some may take long to come; those who wait may have to, once more."""

    def open_for_good(self) -> None:
        """Lets every thread go, now and whenever it comes."""


def make_gate(threads: int) -> Gate:
    """A gate for so many threads, of the best kind that there is."""
    if hasattr(select, "poll"):  # not on Windows, and not where gevent has replaced it
        with contextlib.suppress(OSError):  # no descriptors left
            return Doors(threads)
    return Locks(threads)


class Doors:
    """Two doors that threads come through in turn: pipes, which are open while they hold something.

    One door is shut while everybody has come through it, and before the other is opened. So nobody
    misses an opening, and nobody comes through twice.
    """

    def __init__(self, threads: int) -> None:
        self._openings = 0
        self._passed = [0] * threads
        self._ends: list[tuple[int, int]] = []
        for _ in range(2):
            self._ends.append(os.pipe())
            for end in self._ends[-1]:
                os.set_blocking(end, False)

    def way(self, place: int) -> Callable[[], object]:
        """What one of the threads calls to wait until it is let go."""
        passed, waits = self._passed, []
        for read_end, _ in self._ends:
            poll = select.poll()
            poll.register(read_end, select.POLLIN)
            waits.append(poll.poll)

        def wait(gate: Doors = self) -> None:  # keeps the pipes open
            number = passed[place] + 1
            waits[number % 2]()
            passed[place] = number

        return wait

    def open(self) -> None:
        """Lets every thread go; all of them wait, or have nothing to do before they do."""
        while not self._open_next():
            time.sleep(_BREATH_S)

    def hold_open(self) -> None:
        """Does the same where some may take long to come; those who wait may have to, once more."""
        self._open_next()

    def _open_next(self) -> bool:
        """Opens the next door if everybody has come through the last; else holds that open.

        Returns:
            Whether it was the next one. Interrupted anywhere, it can be called again.
        """
        is_next = self._passed.count(self._openings) == len(self._passed)
        if is_next:
            self._shut(self._openings % 2)
            self._openings += 1
        self._open(self._openings % 2)
        return is_next

    def open_for_good(self) -> None:
        """Lets every thread go, now and whenever it comes."""
        for door in range(2):
            self._open(door)

    def _open(self, door: int) -> None:
        with contextlib.suppress(BlockingIOError):  # full: more than open it cannot be
            os.write(self._ends[door][1], b"o")

    def _shut(self, door: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._ends[door][0], 4096):
                pass

    def __del__(self) -> None:
        """Closes the pipes."""
        for ends in self._ends:
            for end in ends:
                os.close(end)


class Locks:
    """A lock for each thread, which it takes and the caller gives free."""

    def __init__(self, threads: int) -> None:
        self._for_good = False
        self._locks = [threading.Lock() for _ in range(threads)]
        for lock in self._locks:
            lock.acquire()

    def way(self, place: int) -> Callable[[], object]:
        """What one of the threads calls to wait until it is let go."""
        acquire = self._locks[place].acquire
        return lambda: self._for_good or acquire()

    def open(self) -> None:
        """Lets every thread go; all of them wait, or have nothing to do before they do."""
        self.hold_open()

    def hold_open(self) -> None:
        """Does the same; nobody has to wait for others here."""
        for lock in self._locks:
            if lock.locked():
                lock.release()

    def open_for_good(self) -> None:
        """Lets every thread go, now and whenever it comes."""
        self._for_good = True
        self.hold_open()
