"""Workers that are Ray actors: creating them, talking to them, replacing and ending them."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect.backends.pool.infos import InfoTable
from vecselect.backends.pool.workers import (
    CLOSE_LIMIT_S,
    PENDING,
    Worker,
    Workers,
    closed_meanwhile,
)
from vecselect.backends.ray import cluster
from vecselect.backends.ray.actor import STEP, LaneActor, Place
from vecselect.errors import ModeUnavailable, WorkerDied, WorkerError, built_too_late
from vecselect.process import pickling
from vecselect.process.interrupts import DeferredInterrupts
from vecselect.process.remote_errors import Failed, RemoteTraceback, raised_there

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import gymnasium as gym

    from vecselect.backends.pool.arena import Arena
    from vecselect.backends.pool.settings import LaneSpec, Sample, Settings, Work

PLACE_LIMIT_S = 60.0
"""How long a cluster may take to find room for all actors, where no `start_timeout_s` is given."""

PLACE_TRIES = 3
"""Times that an actor is created for a lane: Ray may still place one on a node that has died."""

LOOK_S = 0.05
"""How long one lane is waited for before it is seen what has become of the others."""


class RayWorkers(Workers):
    """Workers that are Ray actors. They have a lease of the connection until they are ended."""

    def __init__(self, settings: Settings, needs: Mapping[str, float], beside: int) -> None:
        """Makes no worker yet.

        Args:
            settings: How they are to run.
            needs: What each asks of the cluster, by name: `CPU`, which binds nobody, and others.
            beside: The most worker processes that each has beside it.
        """
        super().__init__(settings)
        self._needs = needs
        # An actor keeps no deadline; the calling process does. So it steps a part of its lane.
        self._settings_there = dataclasses.replace(
            settings,
            workers=beside,
            start_timeout_s=None,
            step_timeout_s=None,
            copy=True,
            restart=False,
            caller_steps=True,
        )
        self.place_limit_s: float = settings.start_timeout_s or PLACE_LIMIT_S
        cluster.take_lease()
        self._leased = True

    def start_one(self, work: Work) -> RayWorker:
        """Creates an actor, which builds its sub-environments by itself."""
        workers = min(self._settings_there.workers, len(work.env_fns) - 1)
        settings = dataclasses.replace(self._settings_there, workers=workers)
        return RayWorker(work, self, pickling.dumps((work, settings)))

    def create_actor(self) -> Any:
        """An actor that Ray is to find a place for."""
        actor_class, resources = cluster.ray().remote(LaneActor), dict(self._needs)
        return actor_class.options(
            num_cpus=resources.pop("CPU"),
            resources=resources,
            scheduling_strategy="SPREAD",
            max_restarts=0,
            max_task_retries=0,
        ).remote()

    def no_room(self) -> ModeUnavailable:
        """Says that the cluster has found no room for all actors within the time limit."""
        total, lanes = cluster.ray().cluster_resources(), self.settings.workers
        asked = ", ".join(f"{lanes * each:g} {name}" for name, each in self._needs.items())
        there = ", ".join(f"{total.get(name, 0):g} {name}" for name in self._needs)
        return ModeUnavailable(
            f"Mode 'ray' found no room for all of its actors within {self.place_limit_s:g} s: "
            f"{lanes} lanes ask for {asked}; the cluster has {there}, some of which others may "
            "use. Ask for fewer, or with a smaller num_cpus, give more time with "
            "start_timeout_s, or add nodes."
        )

    def successor(self, worker: Worker, death: Exception) -> Worker:
        """Creates an actor in place of one that has died, if the cluster has room for another."""
        try:
            return super().successor(worker, death)
        except (ModeUnavailable, WorkerDied) as error:
            raise WorkerDied(f"{death} It was not replaced: {error}") from death

    def end(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Ends all actors within the time limit, and gives the lease back."""
        try:
            super().end(limit_s)
        finally:
            if self._leased:
                self._leased = False
                cluster.give_lease_back()

    def end_some(self, workers: Sequence[Any], limit_s: float) -> None:
        """Ends actors: asks them to close, and kills them then or after the time limit.

        With a limit of 0 they are not asked.
        """
        mine = [worker for worker in workers if not worker.ended]
        ray = cluster.ray()
        try:
            if limit_s > 0 and ray.is_initialized():
                asked = [ref for worker in mine for ref in worker.ask_to_end()]
                if asked:
                    ray.wait(asked, num_returns=len(asked), timeout=limit_s)
        finally:
            for worker in mine:
                worker.kill()


class RayWorker(Worker):
    """An actor as the caller sees it.

    Attributes:
        place: Where it runs; None until that is known.
    """

    def __init__(self, work: Work, workers: RayWorkers, packed: bytes) -> None:
        super().__init__(work)
        self.place: Place | None = None
        self._workers = workers
        self._packed = packed
        self._ray = cluster.ray()
        self._arena: Arena
        self._infos: InfoTable
        self._ref: Any = None
        self._answer: Any = PENDING
        self._death: WorkerDied | None = None
        self._slot = 0
        self._mask: list[bool] | None = None
        self._started_s = time.monotonic()
        self._create()

    def _create(self) -> None:
        self._actor = self._workers.create_actor()
        self._placed = self._actor.place.remote()
        self._begin("build", self._packed)

    def _begin(self, name: str, packed: bytes) -> None:
        self._answer = PENDING
        self._ref = self._actor.answer.remote(name, packed)

    @property
    def outstanding(self) -> bool:
        """Whether a command was given whose end has not been seen."""
        return self._ref is not None

    def built(self, timeout_s: float | None = None) -> Sample:
        """Waits until its sub-environments are built: see `Worker`.

        The time limit began when it was created. Raises `ModeUnavailable` if the cluster has no
        room for it.
        """
        self._find_place(self._started_s + self._workers.place_limit_s)
        self._packed = b""
        until_s = None if timeout_s is None else self._started_s + timeout_s
        found = self.collect(None if until_s is None else lambda: until_s - time.monotonic())
        if found is PENDING:
            raise built_too_late(self.name(), timeout_s)
        return _unless_raised(found)  # type: ignore[no-any-return]

    def _find_place(self, until_s: float) -> None:
        """Waits until the actor runs; creates another one where it has died before."""
        for tries_left in reversed(range(PLACE_TRIES)):
            left_s = max(until_s - time.monotonic(), 0.0)
            try:
                self.place = self._ray.get(self._placed, timeout=left_s)
                return
            except self._ray.exceptions.GetTimeoutError:
                raise self._workers.no_room() from None
            except self._ray.exceptions.RayError as error:
                if not tries_left:
                    text = f"{self.name()} could not start: {_cause(error)}"
                    raise WorkerDied(text) from None
            self._kill_actor()
            self._create()

    def make_lane(self, spec: LaneSpec, arena: Arena) -> None:
        """Has it make a lane of its sub-environments."""
        self._arena, self._infos = arena, InfoTable(arena)
        self._begin("make_lane", pickling.dumps((spec,)))

    def lane_made(self) -> tuple[str, list[gym.Space[Any]]]:
        """Waits for the end of `make_lane`: see `Worker`."""
        return _unless_raised(self.collect())  # type: ignore[no-any-return]

    def packed(self, name: str, args: tuple[Any, ...]) -> Any:
        """A request to call a method of the lane, with the new templates; `request` sends it."""
        if name == "step" and args[0] is None:
            arena, part = self._arena, slice(self.rows.start, self.rows.stop)
            codes = arena.action_dtypes.tolist()[: len(arena.layout.actions or ())]
            leaves = [arena.action(index, code)[part] for index, code in enumerate(codes)]
            name, args = STEP, (codes, leaves)
        # A batch of actions consists of what every process can import; arguments may not.
        dumps = pickling.dumps_importable if name in ("step", STEP) else pickling.dumps
        return dumps((self.new_templates, name, args)), args[2] if name == "reset" else None

    def request(self, data: Any, slot: int = 0) -> None:
        """Begins what `packed` made."""
        self._need_alive()
        with DeferredInterrupts():
            message, self._mask = data
            self._slot = slot
            self._begin("do", message)
            self._infos.add(self.new_templates)
            self.new_templates = []

    def collect(
        self,
        deadline_s: Callable[[], float] | None = None,
        look_around: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for the end of what was begun; see `Worker`."""
        while not self._look(LOOK_S if deadline_s is None else min(LOOK_S, max(deadline_s(), 0.0))):
            if look_around is not None:
                look_around()
            if deadline_s is not None and deadline_s() <= 0:
                return PENDING
        self._need_alive()
        answer, self._answer, self._ref = self._answer, PENDING, None
        if isinstance(answer, tuple):
            answer = self._taken_in(*answer)
        reply = None if answer is None else pickling.loads(answer)
        return self._raised(reply) if isinstance(reply, Failed) else reply

    def _look(self, timeout_s: float = 0.0) -> bool:
        """Whether there is an answer, or never will be, within a time."""
        if self._answer is PENDING and self._death is None:
            errors = self._ray.exceptions
            try:
                self._answer = self._ray.get(self._ref, timeout=timeout_s)
            except errors.GetTimeoutError:
                return False
            except errors.RayTaskError:
                raise
            except errors.RayError as error:
                self._death = WorkerDied(f"{self.name()} has died: {_cause(error)}")
        return True

    def _taken_in(
        self,
        observations: list[np.ndarray],
        rewards: bytes,
        terminated: bytes,
        truncated: bytes,
        info_ids: bytes,
        columns: dict[int, np.ndarray],
        rest: bytes | None,
    ) -> bytes | None:
        """Puts a batch into the arena; returns what that cannot hold, packed."""
        arena, part, mask = self._arena, slice(self.rows.start, self.rows.stop), self._mask
        targets = arena.observations[self._slot].values()
        for target, values in zip(targets, observations, strict=True):
            if mask is None or all(mask):
                target[part] = values
            else:  # an actor in the place of one that died does not know the others
                target[part][mask] = values[mask]
        if mask is None:
            arena.rewards[part] = np.frombuffer(rewards)
            arena.terminated[part] = np.frombuffer(terminated, np.bool_)
            arena.truncated[part] = np.frombuffer(truncated, np.bool_)
        self._infos.put(part, info_ids, columns)
        return rest

    def has_failed(self) -> bool:
        """Whether what was begun has ended in a failure that was not collected yet."""
        if not self.outstanding or not self._look() or not isinstance(self._answer, bytes):
            return False
        return isinstance(pickling.loads(self._answer), Failed)

    def drop(self, deadline_s: Callable[[], float] | None = None) -> Any:
        """Collects the answer to a command that was interrupted: see `Worker`."""
        return self.collect(deadline_s)

    def death(self) -> WorkerDied | None:
        """How it died, as far as a command has shown it; None if it lives."""
        if self.outstanding:
            self._look()
        return self._death

    def _need_alive(self) -> None:
        if self.ended:
            raise closed_meanwhile()
        if self._death is not None:
            raise WorkerDied(str(self._death))

    def name(self) -> str:
        """The lane, its node and what it runs, as the beginning of a sentence."""
        where = "no node yet" if self.place is None else f"node {self.place.node}"
        pid = "" if self.place is None else f", pid {self.place.pid}"
        return f"Lane {self.index} ({where}{pid}), {self.runs()}"

    def _raised(self, failed: Failed) -> BaseException:
        """What a sub-environment raised; where a note says already which one, nothing is added."""
        if failed.phase:
            return raised_there(failed)
        error = failed.error.rebuilt()
        if not isinstance(error, RemoteTraceback):
            return error
        text = f"{self.name()} raised {failed.error.class_name}: {failed.error.message}"
        replacement = WorkerError(text)
        replacement.__cause__ = error
        return replacement

    def ask_to_end(self) -> list[Any]:
        """Tells the actor to close its sub-environments; what to wait for, if it runs at all."""
        self.ended = True
        with contextlib.suppress(Exception):  # its node may have died
            if self._death is None and self._ray.wait([self._placed], timeout=0)[0]:
                return [self._actor.close.remote()]
        return []

    def kill(self) -> None:
        """Ends it at once."""
        self.ended = True
        self._kill_actor()

    def _kill_actor(self) -> None:
        with contextlib.suppress(Exception):  # it is gone, or Ray is
            self._ray.kill(self._actor, no_restart=True)


def _unless_raised(found: Any) -> Any:
    if isinstance(found, BaseException):
        raise found
    return found


def _cause(error: Exception) -> str:
    """What Ray says of a death, in one sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    skipped = ("class_name", "actor_id", "pid:", "namespace", "ip:", "name:")
    said = [line for line in lines if not line.startswith(skipped)]
    text = " ".join(said).partition(" Some common causes")[0] or type(error).__name__
    text = text if len(text) <= 400 else f"{text[:400]}..."
    return text if text.endswith((".", "...")) else f"{text}."
