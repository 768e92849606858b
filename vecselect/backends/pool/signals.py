"""The hand-off between two processes: a semaphore per direction, spun on before it is slept on."""

from __future__ import annotations

import os
import secrets
from _multiprocessing import SemLock, sem_unlink  # type: ignore[import-not-found]
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_TRIES = 2000
"""Tries to take the semaphore before sleeping. A try with `sched_yield` costs about half a
microsecond, so a lane that waits spins for about a millisecond and then costs nothing."""

EAGER_TRIES = 60
"""How many of the tries come one right after the other, in two microseconds: lanes of equal length
end within that of each other, and a `sched_yield` between tries would notice it late."""

WATCH_PERIOD_S = 0.2
"""While it sleeps, a waiter looks up this often to see whether there is still somebody to wait for.
"""

_SEMAPHORE = 1  # multiprocessing's number for a semaphore, as opposed to a lock

_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class Signal:
    """One direction of a hand-off. Giving it makes all earlier writes visible to the taker.

    A semaphore as multiprocessing makes them, but nameless from the moment on at which the other
    side has opened it: no way of dying leaves it behind.
    """

    def __init__(self) -> None:
        self._name = f"/vecselect-{os.getpid()}-{secrets.token_hex(8)}"
        self._semaphore = SemLock(_SEMAPHORE, 0, SemLock.SEM_VALUE_MAX, self._name, False)
        resource_tracker.register(self._name, "semaphore")

    def forget_name(self) -> None:
        """Removes the name, which only serves to send the signal to a process being started."""
        if self._name:
            sem_unlink(self._name)
            resource_tracker.unregister(self._name, "semaphore")
            self._name = ""

    def __getstate__(self) -> str:
        """The name under which the other side opens it."""
        return self._name

    def __setstate__(self, name: str) -> None:
        """Opens it in the other process."""
        self._name = ""
        self._semaphore = SemLock._rebuild(0, _SEMAPHORE, SemLock.SEM_VALUE_MAX, name)

    def give(self) -> None:
        """Wakes the other side."""
        self._semaphore.release()

    def is_given(self) -> bool:
        """Whether it was given and not yet taken."""
        given: bool = self._semaphore._get_value() > 0
        return given

    def take(
        self, tries: int, check: Callable[[], None], deadline_s: Callable[[], float] | None = None
    ) -> bool:
        """Waits for the other side.

        Args:
            tries: Tries without sleeping.
            check: Called now and then while waiting long; raises if the other side has gone.
            deadline_s: Gives the seconds that are left; waits as long as it takes by default.

        Returns:
            True, or False if the time ran out.
        """
        acquire = self._semaphore.acquire
        for _ in range(min(tries, EAGER_TRIES)):
            if acquire(False):
                return True
        for _ in range(tries - EAGER_TRIES):
            if acquire(False):
                return True
            _yield()
        while True:
            period_s = WATCH_PERIOD_S
            if deadline_s is not None:
                period_s = min(period_s, max(deadline_s(), 0.0))
            if acquire(True, period_s):
                return True
            check()
            if deadline_s is not None and deadline_s() <= 0:
                return False
