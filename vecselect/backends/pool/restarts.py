"""Workers that take the place of those that died: how often, with which seeds, and what is said."""

from __future__ import annotations

import collections
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

from vecselect.errors import VecselectWarning, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Sequence

RESTARTS = 3
RESTART_WINDOW_S = 60.0
"""A worker is replaced this many times within this long; one that dies more often is broken."""


class Restarts:
    """What is known of the restarts of one vector environment.

    Attributes:
        count: How many there were.
    """

    def __init__(self) -> None:
        self.count = 0
        self._deaths: dict[int, collections.deque[float]] = collections.defaultdict(
            collections.deque
        )
        self._seeds: dict[int, int] = {}

    def note_seeds(self, seeds: Sequence[int | None], first_row: int = 0) -> None:
        """Takes in what the sub-environments from a row on are being reset with."""
        for row, seed in enumerate(seeds, first_row):
            if seed is not None:
                self._seeds[row] = seed

    def note_death(self, index: int, death: Exception) -> None:
        """Counts a death that is to be followed by a restart.

        Raises:
            WorkerDied: If that worker has died too often.
        """
        deaths, now_s = self._deaths[index], time.monotonic()
        deaths.append(now_s)
        while now_s - deaths[0] > RESTART_WINDOW_S:
            deaths.popleft()
        if len(deaths) > RESTARTS:
            raise WorkerDied(
                f"{death} It was the death number {len(deaths)} of this worker within "
                f"{RESTART_WINDOW_S:.0f} s, so it was not replaced again."
            ) from death
        self.count += 1

    def fresh_seeds(self, rows: range) -> tuple[int | None, ...]:
        """Seeds for episodes after a restart: none where none was given before."""
        return tuple(self._fresh_seed(row) for row in rows)

    def _fresh_seed(self, row: int) -> int | None:
        seed = self._seeds.get(row)
        if seed is None:
            return None
        entropy = [seed, row, self.count]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def announce(death: Exception, rows: range) -> None:
    """Warns that a worker has died and was replaced."""
    warnings.warn(
        f"{death} It was replaced: sub-environments {rows[0]}-{rows[-1]} begin anew and "
        "report their episodes as truncated. What set_attr and call had changed in them is lost: "
        "change it again.",
        VecselectWarning,
        stacklevel=3,
    )
