"""The hand-off between two processes: a semaphore per direction, spun on before it is slept on."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from multiprocessing.synchronize import Semaphore

DEFAULT_TRIES = 2000
"""Tries to take the semaphore before sleeping. A try with `sched_yield` costs about half a
microsecond, so a lane that waits spins for about a millisecond and then costs nothing."""

EAGER_TRIES = 60
"""How many of the tries come one right after the other, in two microseconds: lanes of equal length
end within that of each other, and a `sched_yield` between tries would notice it late."""

SPIN_LIMIT_S = 0.002
"""Where other programs want the core, each `sched_yield` may take as long as they all may keep it,
which is milliseconds. So spinning ends after this time too, however few tries there were."""

TRIES_PER_LOOK = 8
"""Tries with `sched_yield` between two looks at the clock."""

WATCH_PERIOD_S = 0.2
"""While it sleeps, the caller looks up this often to see whether there is still somebody to wait
for."""

_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class Signal:
    """One direction of a hand-off. Giving it makes all earlier writes visible to the taker.

    A semaphore as multiprocessing makes them, but nameless from the moment on at which the other
    side has opened it: no way of dying leaves it behind. Only what every system can do is asked of
    it: macOS can neither tell its value nor wait for a limited time without looking again and
    again. So workers, which wait for commands, wait without a limit.
    """

    def __init__(self, context: BaseContext) -> None:
        """Makes it.

        Args:
            context: Of the process that it is to be sent to.
        """
        self._use(context.Semaphore(0))

    def _use(self, semaphore: Semaphore) -> None:
        self._named: Semaphore | None = semaphore
        self._acquire, self._release = semaphore.acquire, semaphore.release

    def forget_name(self) -> None:
        """Removes the name, which only serves to send the signal to a process being started."""
        # multiprocessing removes it with the object that it made. The two methods are not bound to
        # that, but to the semaphore itself, which they keep open.
        self._named = None

    def __getstate__(self) -> Semaphore | None:
        """What the other side opens it by."""
        return self._named

    def __setstate__(self, semaphore: Semaphore) -> None:
        """Opens it in the other process."""
        self._use(semaphore)
        self._named = None

    def give(self) -> None:
        """Wakes the other side."""
        self._release()

    def wait(self, tries: int) -> None:
        """Waits for the other side as long as it takes.

        Args:
            tries: Tries without sleeping.
        """
        if not self._spun(tries):
            self._acquire()

    def take(
        self, tries: int, check: Callable[[], None], deadline_s: Callable[[], float] | None = None
    ) -> bool:
        """Waits for the other side, and looks up now and then.

        Args:
            tries: Tries without sleeping.
            check: Called now and then while waiting long; raises if the other side has gone.
            deadline_s: Gives the seconds that are left; waits as long as it takes by default.

        Returns:
            True, or False if the time ran out.
        """
        if self._spun(tries):
            return True
        while True:
            period_s = WATCH_PERIOD_S
            if deadline_s is not None:
                period_s = min(period_s, max(deadline_s(), 0.0))
            if self._acquire(True, period_s):
                return True
            check()
            if deadline_s is not None and deadline_s() <= 0:
                return False

    def _spun(self, tries: int) -> bool:
        """Tries to take it without sleeping; whether it was taken."""
        acquire = self._acquire
        for _ in range(min(tries, EAGER_TRIES)):
            if acquire(False):
                return True
        if tries <= EAGER_TRIES:
            return False
        until_s = time.perf_counter() + SPIN_LIMIT_S
        for _ in range(0, tries - EAGER_TRIES, TRIES_PER_LOOK):
            for _ in range(TRIES_PER_LOOK):
                if acquire(False):
                    return True
                _yield()
            if time.perf_counter() > until_s:
                return False
        return False
