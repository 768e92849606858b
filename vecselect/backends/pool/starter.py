"""Starting workers, the first time and in place of one that died."""

from __future__ import annotations

import collections
import dataclasses
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

from vecselect import processes
from vecselect.backends.pool.handle import Handle, end_all, greeted
from vecselect.errors import VecselectWarning, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.construction import Settings
    from vecselect.backends.pool.infos import InfoTable
    from vecselect.backends.pool.memory import Memory
    from vecselect.backends.pool.worker import Work

RESTARTS = 3
RESTART_WINDOW_S = 60.0
"""A worker is replaced this many times within this long; one that dies more often is broken."""


class Starter:
    """What it takes to start the workers of one pool."""

    def __init__(
        self, settings: Settings, works: Sequence[Work], memory: Memory, arena: Arena
    ) -> None:
        self.settings = settings
        self._works = works
        self._memory = memory
        self._control = arena.control
        self._context = processes.get_context(settings.context)
        self._deaths: dict[int, collections.deque[float]] = collections.defaultdict(
            collections.deque
        )
        self._restarts = 0
        self._seeds: dict[int, int] = {}

    def start(self, work: Work) -> Handle:
        """Starts a worker; it builds its sub-environments by itself."""
        settings = self.settings
        control = self._control[work.index]
        return Handle(self._context, work, self._memory, control, settings.daemon, settings.threads)

    def note_seeds(self, seeds: Sequence[int | None]) -> None:
        """Takes in what the sub-environments are being reset with."""
        for row, seed in enumerate(seeds):
            if seed is not None:
                self._seeds[row] = seed

    def replaced(self, infos: InfoTable, handle: Handle, death: Exception) -> Handle:
        """A new worker in place of one that died, its sub-environments built.

        Args:
            infos: The info templates learned so far.
            handle: The dead one.
            death: How it ended.

        Raises:
            WorkerDied: If that worker has died too often.
            Exception: What a factory raised this time.
        """
        deaths, now_s = self._deaths[handle.index], time.monotonic()
        deaths.append(now_s)
        while now_s - deaths[0] > RESTART_WINDOW_S:
            deaths.popleft()
        if len(deaths) > RESTARTS:
            raise WorkerDied(
                f"{death} It was the death number {len(deaths)} of this worker within "
                f"{RESTART_WINDOW_S:.0f} s, so it was not replaced again."
            ) from death
        self._restarts += 1
        end_all([handle], 0.0)
        self._control[handle.index] = 0
        rows = handle.rows
        fresh = tuple(self._fresh_seed(row) for row in rows)
        work = dataclasses.replace(
            self._works[handle.index],
            restart_seeds=fresh,
            global_seed=processes.child_seed(handle.index + 1000 * self._restarts),
        )
        new = self.start(work)
        try:
            greeted(new, self.settings.start_timeout_s)
        except BaseException:
            end_all([new], 0.0)
            raise
        new.news = infos.templates()
        warnings.warn(
            f"{death} It was replaced: sub-environments {rows[0]}-{rows[-1]} begin anew and "
            "report their episodes as truncated.",
            VecselectWarning,
            stacklevel=2,
        )
        return new

    def _fresh_seed(self, row: int) -> int | None:
        """A seed for an episode after a restart: none where none was given before."""
        seed = self._seeds.get(row)
        if seed is None:
            return None
        entropy = [seed, row, self._restarts]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])
