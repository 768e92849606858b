"""Starting workers, the first time and in place of one that died."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from vecselect import processes
from vecselect.backends.pool.arena import Arena
from vecselect.backends.pool.handle import CLOSE_LIMIT_S
from vecselect.backends.pool.launch import launch
from vecselect.backends.pool.memory import Memory
from vecselect.backends.pool.process import ProcessHandle, end_all
from vecselect.backends.pool.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecselect.backends.pool.construction import Settings
    from vecselect.backends.pool.handle import Handle
    from vecselect.backends.pool.infos import InfoTable
    from vecselect.backends.pool.server import Terms, Work


class Starter(Protocol):
    """What makes the workers of one vector environment, and the memory they share."""

    arena: Arena

    def __init__(self, settings: Settings) -> None:
        """Takes in how the workers are to run."""

    def start(self, work: Work) -> Handle:
        """Starts a worker; it builds its sub-environments by itself."""

    def agree(self, terms: Terms) -> None:
        """Makes the arena, once it is known what all lanes have in common."""

    def need_no_more(self) -> None:
        """No worker is to come: lets go of what is needed only to start one."""

    def let_go(self, handles: Sequence[Handle]) -> None:
        """Has the workers begin what they were given, where they do not begin by themselves."""

    def note_seeds(self, seeds: Sequence[int | None], first_row: int = 0) -> None:
        """Takes in what the sub-environments from a row on are being reset with."""

    def replaced(self, infos: InfoTable, handle: Handle, death: Exception) -> Handle:
        """A new worker in place of one that died, its sub-environments built."""

    @staticmethod
    def end_all(handles: Sequence[Any], limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends workers within the time limit, whatever they are doing. Twice does nothing."""


class ProcessStarter:
    """Makes workers that are processes; a `Starter`."""

    arena: Arena

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._works: dict[int, Work] = {}
        self._first = settings.first_worker
        self._memory = Memory() if self._first is None else self._first.memory
        self._terms: Terms | None = None
        self._context = processes.get_context(settings.context)
        self._restarts = Restarts()

    def start(self, work: Work) -> ProcessHandle:
        """Starts a worker; it builds its sub-environments by itself."""
        settings = self.settings
        self._works.setdefault(work.index, work)
        if not work.global_seed:
            work = dataclasses.replace(work, global_seed=processes.child_seed(work.index))
        first, self._first = self._first, None
        if first is not None:
            return first.become(work)
        launched = launch(
            self._context,
            work,
            self._memory,
            daemon=settings.daemon,
            threads=settings.threads,
            name=f"vecselect-pool-{work.index}",
        )
        return ProcessHandle(work, launched)

    def agree(self, terms: Terms) -> None:
        """Makes the arena, once it is known what all lanes have in common."""
        size_bytes = terms.layout.size_bytes()
        self._memory.resize(size_bytes)
        self.arena = Arena(terms.layout, self._memory.mapped(size_bytes))
        self._terms = terms

    def need_no_more(self) -> None:
        """Closes the memory's descriptor, which only a worker to come would need."""
        self._memory.forget_descriptor()

    def let_go(self, handles: Sequence[Handle]) -> None:
        """Nothing: each begins when it is given a command."""

    def note_seeds(self, seeds: Sequence[int | None], first_row: int = 0) -> None:
        """Takes in what the sub-environments from a row on are being reset with."""
        self._restarts.note_seeds(seeds, first_row)

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
        self._restarts.note_death(handle.index, death)
        self.end_all([handle], 0.0)
        self.arena.control[handle.index] = 0
        work = dataclasses.replace(
            self._works[handle.index],
            restart_seeds=self._restarts.fresh_seeds(handle.rows),
            global_seed=processes.child_seed(handle.index + 1000 * self._restarts.count),
        )
        assert self._terms is not None
        new = self.start(work)
        try:
            new.built(self.settings.start_timeout_s)
            new.settle(self._terms, self.arena)
            new.greeting()
        except BaseException:
            end_all([new], 0.0)
            raise
        new.news = infos.templates()
        return new

    @staticmethod
    def end_all(handles: Sequence[Any], limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends workers: asks, and after the time limit terminates and kills."""
        end_all(handles, limit_s)
