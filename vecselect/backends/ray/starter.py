"""Creating actors, the first time and in place of one that died."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.backends.pool.workers import ReplaceableWorkers
from vecselect.backends.ray import cluster
from vecselect.backends.ray.actor import LaneActor
from vecselect.backends.ray.handle import RayHandle, end_all
from vecselect.errors import ModeUnavailable, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vecselect.backends.pool.infos import InfoTable
    from vecselect.backends.pool.workers import Settings
    from vecselect.backends.ray.actor import Task

PLACE_LIMIT_S = 60.0
"""How long a cluster may take to find room for all actors, where no `start_timeout_s` is given."""

PLACE_TRIES = 3
"""Times that an actor is created for a lane: Ray may still place one on a node that has died."""


@dataclass(frozen=True)
class Needs:
    """What an actor asks of the cluster.

    Attributes:
        num_cpus: CPUs; Ray counts them, and binds nobody to them.
        resources: Other resources, by the names that the nodes give them.
    """

    num_cpus: float
    resources: Mapping[str, float]

    def missing(self, lanes: int) -> str:
        """What so many of them ask for, and what there is, in words."""
        ray = cluster.ray()
        total, free = ray.cluster_resources(), ray.available_resources()
        wanted = {"CPU": self.num_cpus, **self.resources}
        asked = [f"{lanes * each:g} {name}" for name, each in wanted.items()]
        there = [f"{total.get(name, 0):g} {name}" for name in wanted]
        unused = [f"{free.get(name, 0):g}" for name in wanted]
        return (
            f"{lanes} lanes ask for {', '.join(asked)}; the cluster has {', '.join(there)}, of "
            f"which {', '.join(unused)} would be free"
        )


class RayWorkers(ReplaceableWorkers):
    """Workers that are Ray actors.

    Attributes:
        needs: What each of them asks of the cluster.
        infos: The info columns of the caller's arena, set once they are made.
    """

    infos: InfoTable

    def __init__(self, settings: Settings) -> None:
        """Makes no worker yet; `launch` creates the actors."""
        super().__init__(settings)
        self.needs = Needs(1.0, {})
        self._tasks: dict[int, Task] = {}

    def launch(self, tasks: Sequence[Task], handles: list[Any]) -> None:
        """Creates an actor for each task, and has them begin to build their sub-environments.

        Args:
            tasks: What they are to run.
            handles: Each is put here as soon as it is created.

        Raises:
            ModeUnavailable: If the cluster has no room for all of them within the time limit.
            WorkerDied: If an actor cannot start.
        """
        ray = cluster.ray()
        limit_s = self.settings.start_timeout_s or PLACE_LIMIT_S
        until_s = time.monotonic() + limit_s
        first = len(handles)
        for task in tasks:
            handles.append(self._created(task))
            self._tasks.setdefault(task.index, task)
        for tries_left in reversed(range(PLACE_TRIES)):
            waiting = [handle.placed for handle in handles[first:]]
            left_s = max(until_s - time.monotonic(), 0.0)
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=left_s)
            if waiting:
                text = self.needs.missing(len(tasks))
                raise ModeUnavailable(
                    f"Mode 'ray' found no room for {len(waiting)} of its actors within "
                    f"{limit_s:g} s: {text}. Ask for fewer with num_workers or a smaller num_cpus, "
                    "give more time with start_timeout_s, or add nodes."
                )
            for place, task in enumerate(tasks, first):
                try:
                    handles[place].find_place()
                except ray.exceptions.RayError as error:
                    if not tries_left:
                        name = handles[place].name()
                        raise WorkerDied(f"{name} could not start: {error}") from None
                    end_all([handles[place]], 0.0)
                    handles[place] = self._created(task)
            if all(handle.place is not None for handle in handles[first:]):
                break
        for handle, task in zip(handles[first:], tasks, strict=True):
            handle.build(task)

    def _created(self, task: Task) -> RayHandle:
        """An actor that Ray is to find a place for."""
        actor_class = (
            cluster.ray()
            .remote(LaneActor)
            .options(
                num_cpus=self.needs.num_cpus,
                resources=dict(self.needs.resources),
                scheduling_strategy="SPREAD",
                max_restarts=0,
                max_task_retries=0,
            )
        )
        cluster.take_lease()
        try:
            return RayHandle(task, actor_class.remote())
        except BaseException:
            cluster.give_lease_back()
            raise

    def start(self, work: Any) -> RayHandle:
        """Creates one actor; arguments as in `launch`."""
        handles: list[RayHandle] = []
        try:
            self.launch([work], handles)
        except BaseException:
            end_all(handles, 0.0)
            raise
        return handles[0]

    def _replace(self, place: int, death: Exception) -> None:
        with cluster.leased():  # beyond the end of the dead one, which may be the only one
            super()._replace(place, death)

    def successor(self, worker: RayHandle, death: Exception) -> RayHandle:
        """A new actor in place of one that has died: see `ReplaceableWorkers`.

        Raises:
            WorkerDied: If the cluster has no room for another.
            Exception: What a factory raised this time.
        """
        task = self._tasks[worker.index]
        fresh = self.fresh_seeds(worker.rows)
        again = dataclasses.replace(
            task,
            settings=dataclasses.replace(task.settings, restart_seeds=fresh),
            global_seed=processes.child_seed(worker.index + 1000 * self.restarts),
        )
        try:
            new = self.start(again)
        except (ModeUnavailable, WorkerDied) as error:
            raise WorkerDied(f"{death} It was not replaced: {error}") from death
        try:
            new.built(self.settings.start_timeout_s)
        except BaseException:
            end_all([new], 0.0)
            raise
        new.use(self.arena, self.infos)
        return new

    def end_some(self, workers: Sequence[RayHandle], limit_s: float) -> None:
        """Ends actors: asks them to close, and kills them then or after the time limit."""
        end_all(workers, limit_s)


def remaining_s(limit_s: float | None, start_s: float) -> float | None:
    """What is left of a time limit that began by `time.monotonic`; None without one."""
    return None if limit_s is None else max(limit_s - (time.monotonic() - start_s), 0.0)
