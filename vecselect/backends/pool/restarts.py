"""Workers that are replaced when they have died."""

from __future__ import annotations

import collections
import dataclasses
import time
from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from vecselect.backends.pool.workers import Workers, closed_meanwhile
from vecselect.errors import WorkerDied, warn
from vecselect.process import generators

if TYPE_CHECKING:
    from vecselect.backends.pool.lane import LaneSpec, Work
    from vecselect.backends.pool.workers import Arguments, Settings, Worker
    from vecselect.errors import StepTimeout

RESTARTS = 3
RESTART_WINDOW_S = 60.0
"""A worker is replaced this many times within this long; one that dies more often is broken."""


class ReplaceableWorkers(Workers):
    """Workers that are replaced when they have died, where the settings say so.

    Attributes:
        restarts: How many workers were replaced.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.restarts: int = 0
        self._works: dict[int, Work] = {}
        self._spec: LaneSpec | None = None
        self._deaths_s: dict[int, list[float]] = collections.defaultdict(list)
        self._seeds: dict[int, int] = {}

    def start(self, work: Work) -> Worker:
        """Starts a worker, and notes what it takes to start another one in its place."""
        self._works.setdefault(work.index, work)
        if not work.global_seed:
            work = dataclasses.replace(work, global_seed=generators.child_seed(work.index))
        return self.start_one(work)

    @abstractmethod
    def start_one(self, work: Work) -> Worker:
        """Starts a worker, which builds its sub-environments by itself."""

    def make_arena(self, spec: LaneSpec) -> None:
        """Makes the arena, once it is known what all lanes have in common."""
        super().make_arena(spec)
        self._spec = spec

    def successor(self, worker: Worker, death: Exception) -> Worker:
        """Starts a worker in place of one that has died and was ended; waits until it has built.

        Raises:
            Exception: What a factory raised this time.
        """
        assert self._spec is not None
        new = self.start(
            dataclasses.replace(
                self._works[worker.index],
                gives_sample=False,
                restart_seeds=self._fresh_seeds(worker.rows),
                global_seed=generators.child_seed(worker.index + 1000 * self.restarts),
            )
        )
        try:
            new.built(self.settings.start_timeout_s)
            new.make_lane(self._spec, self.arena)
            new.lane_made()
        except BaseException:
            self.end_some([new], 0.0)
            raise
        return new

    def ask(self, name: str, arguments: Arguments, slot: int = 0) -> None:
        """Notes seeds of a reset: see `Workers.ask`."""
        if name == "reset" and self.settings.restart:
            for worker in self.each:
                seeds = (arguments(worker.rows) or ((),))[0]
                given = zip(worker.rows, seeds, strict=False)
                self._seeds.update((row, seed) for row, seed in given if seed is not None)
        super().ask(name, arguments, slot)

    def _fresh_seeds(self, rows: range) -> tuple[int | None, ...]:
        """Seeds for the episodes after a restart: none where none was given before."""
        return tuple(self._fresh_seed(row) for row in rows)

    def _fresh_seed(self, row: int) -> int | None:
        if row not in self._seeds:
            return None
        entropy = [self._seeds[row], row, self.restarts]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _replace(self, place: int, death: Exception) -> None:
        if self.closed or not self.settings.restart:
            super()._replace(place, death)
        old = self.each[place]
        old.lost, old.outstanding = death, True  # until it is replaced: this may be interrupted
        try:
            self.end_some([old], 0.0)
            self._note_death(old.index, death)
            new = self.successor(old, death)
        except Exception as error:
            self._dead = error if isinstance(error, WorkerDied) else WorkerDied(str(error))
            raise
        self.each[place] = new
        if self.closed:  # while it was being made: nobody else knows of it
            self.end_some([new], 0.0)
            raise closed_meanwhile()
        new.new_templates = [*self.templates]
        # The last thing: where warnings are errors, it raises.
        warn(
            f"{death} It was replaced: sub-environments {new.rows[0]}-{new.rows[-1]} begin anew "
            "and report their episodes as truncated. What set_attr and call had changed in them is "
            "lost: change it again."
        )

    def _replace_late(self, place: int) -> StepTimeout:
        if not self.settings.restart:
            super()._replace_late(place)
        late = self._too_late(place)
        self._replace(place, late)
        return late

    def _note_death(self, index: int, death: Exception) -> None:
        """Counts a death that is to be followed by a restart.

        Raises:
            WorkerDied: If that worker has died too often.
        """
        now_s = time.monotonic()
        recent = [at_s for at_s in self._deaths_s[index] if now_s - at_s <= RESTART_WINDOW_S]
        self._deaths_s[index] = deaths_s = [*recent, now_s]
        if len(deaths_s) > RESTARTS:
            raise WorkerDied(
                f"{death} This worker has now died {len(deaths_s)} times within "
                f"{RESTART_WINDOW_S:.0f} s, so it was not replaced again."
            ) from death
        self.restarts += 1
