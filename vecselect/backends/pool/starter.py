"""Starting workers, the first time and in place of one that died."""

from __future__ import annotations

import collections
import dataclasses
import time
import warnings
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vecselect import processes
from vecselect.backends.pool.arena import Arena
from vecselect.backends.pool.handle import CLOSE_LIMIT_S
from vecselect.backends.pool.memory import Memory
from vecselect.backends.pool.process import ProcessHandle, end_all
from vecselect.errors import VecselectWarning, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.backends.pool.arena import Layout
    from vecselect.backends.pool.construction import Settings
    from vecselect.backends.pool.handle import Handle
    from vecselect.backends.pool.infos import InfoTable
    from vecselect.backends.pool.server import Work

RESTARTS = 3
RESTART_WINDOW_S = 60.0
"""A worker is replaced this many times within this long; one that dies more often is broken."""


class Starter(Protocol):
    """What makes the workers of one vector environment, and the memory they share."""

    arena: Arena

    def __init__(self, settings: Settings, layout: Layout) -> None:
        """Makes the arena."""

    def start(self, work: Work) -> Handle:
        """Starts a worker; it builds its sub-environments by itself."""

    def all_started(self) -> None:
        """Lets go of what is needed only to start the first workers."""

    def note_seeds(self, seeds: Sequence[int | None]) -> None:
        """Takes in what the sub-environments are being reset with."""

    def replaced(self, infos: InfoTable, handle: Handle, death: Exception) -> Handle:
        """A new worker in place of one that died, its sub-environments built."""

    @staticmethod
    def end_all(handles: Sequence[Any], limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends workers within the time limit, whatever they are doing. Twice does nothing."""


class ProcessStarter:
    """Makes workers that are processes; a `Starter`."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self.settings = settings
        self._works: dict[int, Work] = {}
        self._memory = Memory(layout.size_bytes())
        self.arena = Arena(layout, self._memory.map)
        self._control = self.arena.control
        self._context = processes.get_context(settings.context)
        self._deaths: dict[int, collections.deque[float]] = collections.defaultdict(
            collections.deque
        )
        self._restarts = 0
        self._seeds: dict[int, int] = {}

    def start(self, work: Work) -> ProcessHandle:
        """Starts a worker; it builds its sub-environments by itself."""
        settings, control = self.settings, self._control[work.index]
        self._works.setdefault(work.index, work)
        if not work.global_seed:
            work = dataclasses.replace(work, global_seed=processes.child_seed(work.index))
        return ProcessHandle(
            self._context, work, self._memory, control, settings.daemon, settings.threads
        )

    def all_started(self) -> None:
        """Closes the memory's descriptor, which only a worker to come would need."""
        if not self.settings.restart:
            self._memory.forget_descriptor()

    def note_seeds(self, seeds: Sequence[int | None]) -> None:
        """Takes in what the sub-environments are being reset with."""
        for row, seed in enumerate(seeds):
            if seed is not None:
                self._seeds[row] = seed

    def replaced(self, infos: InfoTable, handle: Handle, death: Exception) -> ProcessHandle:
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
        self.end_all([handle], 0.0)
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
            new.greeting(self.settings.start_timeout_s)
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

    @staticmethod
    def end_all(handles: Sequence[Any], limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends workers: asks, and after the time limit terminates and kills."""
        end_all(handles, limit_s)

    def _fresh_seed(self, row: int) -> int | None:
        """A seed for an episode after a restart: none where none was given before."""
        seed = self._seeds.get(row)
        if seed is None:
            return None
        entropy = [seed, row, self._restarts]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])
