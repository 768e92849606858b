"""What runs in an actor: a slice of the sub-environments, stepped as a pool steps all of them.

The actor steps a part of the slice itself, and may have worker processes beside it for the rest.
Both write into an arena of the actor's own, from which each batch is sent to the caller.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from vecselect.backends.pool.construction import build, make_lanes
from vecselect.backends.pool.processes import ProcessWorkers
from vecselect.backends.pool.worker import WorkerLane, close_all, packed_reply
from vecselect.backends.ray.cluster import ray
from vecselect.learner_threads import seed_torch
from vecselect.process import generators, pickling
from vecselect.process.remote_errors import Failed, portable

if TYPE_CHECKING:
    import gymnasium as gym

    from vecselect.backends.pool.infos import Template
    from vecselect.backends.pool.settings import LaneSpec, Sample, Settings, Work

CLOSE_LIMIT_S = 2.5
"""How long the worker processes beside an actor may take to end."""

STEP = "step_with_arrays"
"""Asks for a step with an array of actions, and its dtype's code, for each leaf of their space."""


class Place(NamedTuple):
    """Where an actor runs: its node's address with the beginning of its id, and its process."""

    node: str
    pid: int


class LaneActor:
    """An actor's class. It takes and returns what Ray sends best: packed bytes, and arrays."""

    def __init__(self) -> None:
        self._envs: list[gym.Env] = []
        self._work: Work
        self._workers: ProcessWorkers
        self._lane: WorkerLane | None = None

    def place(self) -> Place:
        """Where it runs."""
        address = ray().util.get_node_ip_address()
        return Place(f"{address}/{ray().get_runtime_context().get_node_id()[:8]}", os.getpid())

    def answer(self, name: str, packed: bytes) -> tuple[Any, ...] | bytes:
        """Calls a method below with what it takes, packed.

        Returns after a step or a reset what `_batch` gives; else what the method returns, packed,
        or a `Failed` of what it raised, where a note says already which sub-environment it was.
        """
        try:
            return getattr(self, f"_{name}")(*pickling.loads(packed))  # type: ignore[no-any-return]
        except SystemExit:
            raise  # as in any worker: it ends the actor
        except BaseException as error:
            return pickling.dumps(Failed(0, "", portable(error)))

    def _build(self, work: Work, settings: Settings) -> bytes:
        """Builds the sub-environments; gives a `Sample` where that is asked for."""
        self._work = work
        generators.seed_generators(work.global_seed)
        self._workers = ProcessWorkers(settings)
        sample: Sample = build(self._envs, self._workers, work, settings)
        seed_torch(work.global_seed)
        return pickling.dumps(sample)

    def _make_lane(self, spec: LaneSpec) -> bytes:
        """Makes the lanes; gives the observation spaces where they may differ."""
        work, workers = self._work, self._workers
        layout = dataclasses.replace(spec.layout, workers=len(workers.each), slots=1)
        spec = dataclasses.replace(spec, layout=layout)
        spaces = make_lanes(self._envs, workers, work, spec)
        own = work.part(range(len(self._envs)))
        self._lane = WorkerLane(own, spec, self._envs, workers.arena)
        return pickling.dumps(("", spaces))

    def _do(
        self, templates: list[Template], name: str, args: tuple[Any, ...]
    ) -> tuple[Any, ...] | bytes:
        """Learns info templates, then calls a lane's method; gives the results by row."""
        workers, lane = self._workers, self._lane
        assert lane is not None
        lane.lane.infos.add(templates)
        for template in templates:
            workers.add_template(template)
        own: tuple[Any, ...] | None
        if name == STEP:
            for index, (code, leaf) in enumerate(zip(*args, strict=True)):
                workers.arena.action(index, code)[self._slice] = leaf
                workers.arena.action_dtypes[index] = code
            name, own = "step", (None,)
            workers.begin_step(0)
        else:
            workers.begin()
            workers.ask(name, lambda rows: self._part(name, args, rows))
            own = self._part(name, args, lane.lane.rows)
        replies = workers.collect(lambda: None if own is None else lane.request(0, [], name, own))
        if name in ("step", "reset"):
            return self._batch(replies)
        found = {row: value for reply in replies for row, value in (reply or {}).items()}
        return packed_reply(lane.lane, found)

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

    def close(self) -> None:
        """Closes the sub-environments; what one of them raises stands in Ray's logs."""
        try:
            self._workers.end(CLOSE_LIMIT_S)
        finally:
            if self._lane is None:
                close_all(self._envs, self._work.first_row)
            else:
                self._lane.close()
