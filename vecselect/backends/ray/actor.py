"""What runs in an actor: a slice of the sub-environments, stepped as a pool steps all of them.

The actor steps a part of the slice itself, and may have worker processes beside it for the rest.
Both write into an arena of the actor's own, from which each batch is sent to the caller.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from vecselect.backends.pool.construction import build, make_lanes
from vecselect.backends.pool.lane import LaneFailure, Work
from vecselect.backends.pool.process import ProcessWorkers
from vecselect.backends.pool.worker import WorkerLane, close_all, packed_reply
from vecselect.backends.ray.cluster import ray
from vecselect.learner_threads import seed_torch
from vecselect.process import generators, pickling
from vecselect.process.remote_errors import Failed, portable

if TYPE_CHECKING:
    import gymnasium as gym

    from vecselect.backends.pool.lane import LaneSpec

CLOSE_LIMIT_S = 2.5
"""How long the worker processes beside an actor may take to end."""

STEP = "step_with_arrays"
"""Asks for a step with an array of actions, and its dtype's code, for each leaf of their space."""


@dataclass(frozen=True)
class Place:
    """Where an actor runs.

    Attributes:
        node: The node's address and the beginning of its id, as people read it.
        machine: Tells machines, and what counts processes on them, from each other.
        pid: Of the actor's process.
        started_s: When that was started; tells it from a later one of the same number.
    """

    node: str
    machine: str
    pid: int
    started_s: float


def machine_id() -> str:
    """Equal in two processes only if they see the same processes under the same numbers."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown {os.urandom(16).hex()}"  # like no other: nothing is done by number then


class LaneActor:
    """An actor's class. It takes and returns what Ray sends best: packed bytes, and arrays."""

    def __init__(self) -> None:
        self._envs: list[gym.Env] = []
        self._work: Work
        self._workers: ProcessWorkers
        self._lane: WorkerLane | None = None
        self._failed: Failed | None = None

    def place(self) -> Place:
        """Where it runs."""
        context = ray().get_runtime_context()
        address = ray().util.get_node_ip_address()
        pid = os.getpid()
        started_s = psutil.Process(pid).create_time()
        return Place(f"{address}/{context.get_node_id()[:8]}", machine_id(), pid, started_s)

    def beat(self) -> bool:
        """True: it lives."""
        return True

    def build(self, packed: bytes) -> bytes:
        """Builds by a `Work` and the `Settings` of its workers; gives a `Sample` or a `Failed`."""
        first_row = 0
        try:
            self._work, settings = work, _ = pickling.loads(packed)
            first_row = work.first_row
            generators.seed_generators(work.global_seed)
            self._workers = ProcessWorkers(settings)
            sample = build(self._envs, self._workers, work, settings)
            seed_torch(work.global_seed)
            return pickling.dumps(sample)
        except Exception as error:
            return pickling.dumps(Failed(first_row, "", portable(error)))

    def make_lane(self, packed: bytes) -> bytes:
        """Makes the lanes for a `LaneSpec`; the observation spaces, or a `Failed`, packed."""
        work, workers = self._work, self._workers
        try:
            spec: LaneSpec = pickling.loads(packed)
            layout = dataclasses.replace(spec.layout, workers=len(workers.each), slots=1)
            spec = dataclasses.replace(spec, layout=layout)
            spaces = make_lanes(self._envs, workers, work, spec)
            own = work.part(range(len(self._envs)))
            self._lane = WorkerLane(own, spec, self._envs, workers.arena)
            return pickling.dumps(spaces)
        except Exception as error:
            return pickling.dumps(Failed(work.first_row, "", portable(error)))

    def do(self, packed: bytes) -> tuple[Any, ...] | bytes:
        """Learns info templates, then calls a lane's method with arguments.

        Returns after a step or a reset what `_batch` gives; else the results by row, or a `Failed`.
        """
        workers, lane = self._workers, self._lane
        assert lane is not None
        self._failed = None
        try:
            templates, name, args = pickling.loads(packed)
            lane.lane.infos.add(templates)
            for template in templates:
                workers.add_template(template)
            workers.begin()
            own: tuple[Any, ...] | None
            if name == STEP:
                for index, (code, leaf) in enumerate(zip(*args, strict=True)):
                    workers.arena.action(index, code)[self._slice] = leaf
                    workers.arena.action_dtypes[index] = code
                name, own = "step", (None,)
                workers.step(0)
            else:
                workers.ask(name, lambda rows: self._part(name, args, rows))
                own = self._part(name, args, lane.lane.rows)
            replies = workers.collect(lambda: None if own is None else self._own(name, own))
            if name in ("step", "reset"):
                return self._batch(replies)
            found = {row: value for reply in replies for row, value in (reply or {}).items()}
            return packed_reply(lane.lane, found)
        except SystemExit:
            raise  # as in any worker: it ends the actor
        except BaseException as error:  # of a worker's: it says itself which one it was, and where
            failed = Failed(self._work.first_row, "", portable(error))
            return pickling.dumps(self._failed or failed)

    def _own(self, name: str, args: tuple[Any, ...]) -> Any:
        """Does the actor's own part of a command; notes what a sub-environment of it raises."""
        assert self._lane is not None
        try:
            return self._lane.request(0, [], name, args)
        except LaneFailure as failure:
            assert failure.__cause__ is not None
            error = portable(failure.__cause__)
            self._failed = Failed(failure.row, failure.phase, error, failure.when)
            raise

    @property
    def _slice(self) -> slice:
        return slice(self._work.rows.start, self._work.rows.stop)

    def _part(self, name: str, args: tuple[Any, ...], rows: range) -> tuple[Any, ...] | None:
        """The arguments of a lane's method for some of its rows; None if it is not for them."""
        part = slice(rows.start - self._work.first_row, rows.stop - self._work.first_row)
        if name == "step":
            return (args[0][part],)
        if name == "reset":
            return args[0][part], args[1], args[2][part]
        if name == "call":
            mine = [row for row in args[3] if row in rows]
            return (*args[:3], mine) if mine else None
        if name == "set_attr":  # also where it sets nothing: so there is nothing to undo
            return args[0], {row: value for row, value in args[1].items() if row in rows}
        return args

    def _batch(self, replies: list[Any]) -> tuple[Any, ...]:
        """What the last step or reset has left, in the order in which `RayWorker` takes it in.

        The arrays are the arena's own: they are sent before the next command is begun.
        """
        assert self._lane is not None
        arena, part, lane = self._workers.arena, self._slice, self._lane.lane
        infos: dict[int, Any] = {}
        objects: dict[Any, list[Any]] = {path: [] for path in lane.objects}
        for reply in replies:  # in the order of their rows
            if reply is not None:
                infos.update(reply[0])
                for path, values in reply[1].items():
                    objects[path] += values
        rest = packed_reply(lane, (infos, objects)) if infos or objects else None
        return (
            [array[part] for array in arena.observations[0].values()],
            arena.rewards[part].tobytes(),
            arena.terminated[part].tobytes(),
            arena.truncated[part].tobytes(),
            arena.info_ids[part].tobytes(),
            lane.infos.columns_of(part),
            rest,
        )

    def close(self) -> bytes | None:
        """Closes the sub-environments; a `Failed`, packed, if one of them raises."""
        try:
            self._workers.end(CLOSE_LIMIT_S)
        finally:
            try:
                if self._lane is None:
                    close_all(self._envs, self._work.first_row)
                else:
                    self._lane.lane.close()
                failed = None
            except LaneFailure as failure:
                assert failure.__cause__ is not None
                failed = Failed(failure.row, "close", portable(failure.__cause__))
        return None if failed is None else pickling.dumps(failed)
