"""The hand-off between two processes: a semaphore per direction, spun on before it is slept on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

DEFAULT_TRIES = 2000
"""Tries to take the semaphore before sleeping. A try with `sched_yield` costs about half a
microsecond, so a lane that waits spins for about a millisecond and then costs nothing."""

EAGER_TRIES = 60
"""How many of the tries come one right after the other, in two microseconds: lanes of equal length
end within that of each other, and a `sched_yield` between tries would notice it late."""

WATCH_PERIOD_S = 0.2
"""While it sleeps, a waiter looks up this often to see whether there is still somebody to wait for.
"""

_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class Signal:
    """One direction of a hand-off. Giving it makes all earlier writes visible to the taker."""

    def __init__(self, context: BaseContext) -> None:
        self._semaphore = context.Semaphore(0)

    def give(self) -> None:
        """Wakes the other side."""
        self._semaphore.release()

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
