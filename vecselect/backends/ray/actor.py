"""What runs in an actor: one lane, stepped here and, where that was asked for, by a pool."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
from gymnasium.vector.utils import batch_space, iterate

from vecselect import processes
from vecselect.backends.pool.arena import assembled
from vecselect.backends.pool.construction import construct
from vecselect.backends.pool.lane import Lane, LaneFailure, Sample
from vecselect.backends.pool.process import ProcessWorkers
from vecselect.backends.ray.cluster import ray
from vecselect.failures import Failed, portable
from vecselect.learner_threads import seed_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    import gymnasium as gym

    from vecselect.backends.pool.workers import Settings

INNER_CLOSE_LIMIT_S = 2.5
"""How long the worker processes of a lane may take to end."""


@dataclass(frozen=True)
class Task:
    """What an actor is given to run.

    Attributes:
        index: Of the lane.
        env_fns: The factories of its sub-environments.
        settings: How they are to run, `first_row` and the workers beside the actor included.
        global_seed: Of the process's global random generators.
    """

    index: int
    env_fns: tuple[Callable[[], gym.Env], ...]
    settings: Settings
    global_seed: int = 0

    @property
    def rows(self) -> range:
        """Indices of the lane's sub-environments."""
        first = self.settings.first_row
        return range(first, first + len(self.env_fns))


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


@dataclass(frozen=True)
class LaneSample(Sample):
    """What a lane says of its sub-environments, once they are built: the first one's, and more.

    Attributes:
        observation_spaces: Of each, where they may differ.
    """

    observation_spaces: tuple[gym.Space, ...]


def machine_id() -> str:
    """Equal in two processes only if they see the same processes under the same numbers."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown {os.urandom(16).hex()}"  # like no other: nothing is done by number then


class LaneActor:
    """An actor's class. What it returns is what Ray sends best: tuples of bytes and arrays."""

    def __init__(self) -> None:
        self._crew: _Crew | None = None

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
        """Builds the sub-environments of a `Task`; a `LaneSample` or a `Failed`, packed."""
        first_row = 0
        try:
            task: Task = processes.loads(packed)
            first_row = task.settings.first_row
            processes.seed_generators(task.global_seed)
            self._crew = _Crew(task)
            seed_torch(task.global_seed)
            return processes.dumps(self._crew.sample())
        except Exception as error:
            return processes.dumps(Failed(first_row, "", portable(error)))

    def do(self, packed: bytes) -> tuple[Any, ...] | bytes:
        """Does what is asked for.

        Args:
            packed: Info templates to learn, the name of a lane's method, and its arguments.

        Returns:
            After a step or a reset what `_Crew.batch` gives; else the reply or a `Failed`, packed.
        """
        crew = self._crew
        assert crew is not None
        try:
            templates, name, args = processes.loads(packed)
            crew.learn(templates)
            replies = crew.do(name, args)
            if name in ("step", "step_parts", "reset"):
                return crew.batch(replies)
            return processes.dumps_importable(_joined(replies))
        except LaneFailure as failure:
            assert failure.__cause__ is not None
            error = portable(failure.__cause__)
            return processes.dumps(Failed(failure.row, failure.phase, error, failure.when))
        except Exception as error:  # of a worker: it says itself which one it was, and where
            return processes.dumps(Failed(crew.first_row, "", portable(error)))

    def close(self) -> bytes | None:
        """Closes the sub-environments; a `Failed`, packed, if one of them raises."""
        crew, self._crew = self._crew, None
        try:
            if crew is not None:
                crew.close()
        except LaneFailure as failure:
            assert failure.__cause__ is not None
            return processes.dumps(Failed(failure.row, "close", portable(failure.__cause__)))
        return None


def _joined(replies: list[Any]) -> Any:
    """What a lane of one part would have replied: results by row, or nothing."""
    return {row: value for reply in replies for row, value in (reply or {}).items()}


class _Crew:
    """A lane's sub-environments, here and in the workers beside the actor."""

    def __init__(self, task: Task) -> None:
        settings = task.settings
        self.first_row = settings.first_row
        parts = construct(task.env_fns, settings, ProcessWorkers)
        self._parts = parts
        self._workers = parts.workers
        self._arena = parts.workers.arena
        self._settings = settings
        self._first = parts.envs[0]
        self._set_rows: Set[int] = frozenset()
        self._slice = slice(task.rows.start, task.rows.stop)
        self._lane = Lane(
            parts.envs,
            self.first_row,
            parts.spec,
            self._arena,
            restart_seeds=settings.restart_seeds and settings.restart_seeds[: len(parts.envs)],
        )
        self._batched_actions = batch_space(self._first.action_space, len(task.env_fns))

    def sample(self) -> LaneSample:
        """What the caller has to know of the sub-environments."""
        rows = range(self._slice.start, self._slice.stop)
        asked: tuple[Any, ...] = ("observation_space", (), {}, rows)
        spaces: dict[int, Any] = {}
        if not self._settings.same_spaces:
            spaces = _joined(self.do("call", asked))
        return LaneSample(
            self._parts.spec.observation_space,
            self._first.action_space,
            dict(self._first.metadata),
            self._first.render_mode,
            tuple(spaces[row] for row in rows if row in spaces),
        )

    def learn(self, templates: list[Any]) -> None:
        """Begins to use info templates, here and in the workers."""
        self._lane.infos.add(templates)
        for template in templates:
            self._workers.add_template(template)

    def do(self, name: str, args: tuple[Any, ...]) -> list[Any]:
        """Calls a method of the lane; what each of its parts returned, the actor's own first.

        Raises:
            LaneFailure: If a sub-environment of the actor's own part raises.
            Exception: What one in a worker raised.
        """
        if name == "step_parts":
            name, args = "step", (self._actions(args[0]),)
        where = (0,) if name in ("step", "reset") else ()
        lane = self._lane
        own = self._part(name, args, lane.rows)
        if not self._workers.each:
            return [None if own is None else getattr(lane, name)(*own, *where)]
        workers, failures = self._workers, []

        def own_part() -> Any:
            try:
                return None if own is None else getattr(lane, name)(*own, *where)
            except LaneFailure as failure:
                failures.append(failure)
                raise LaneFailure(failure.row, failure.phase) from Exception()

        try:
            workers.begin()
            workers.ask(name, lambda rows: self._part(name, args, rows), 0)
            return workers.collect(own_part)  # type: ignore[no-any-return]
        except Exception:
            if failures:
                raise failures[0] from failures[0].__cause__
            raise

    def _part(self, name: str, args: tuple[Any, ...], rows: range) -> tuple[Any, ...] | None:
        """The arguments of a lane's method for some of its rows; None if it is not for them."""
        part = slice(rows.start - self.first_row, rows.stop - self.first_row)
        if name == "step":
            return (args[0][part],)
        if name == "reset":
            return args[0][part], args[1], args[2][part]
        if name == "call":
            mine = [row for row in args[3] if row in rows]
            return (*args[:3], mine) if mine else None
        if name == "set_attr":
            values = {row: value for row, value in args[1].items() if row in rows}
            self._set_rows = args[1].keys()
            return (args[0], values) if values else None
        return None if self._set_rows.isdisjoint(rows) else ()  # undo_set_attr

    def _actions(self, leaves: list[Any]) -> Any:
        """The actions of the lane from the arrays of their leaves, each sliceable by row."""
        if self._arena.plain_actions:
            return leaves[0]
        action_space = self._first.action_space
        return list(iterate(self._batched_actions, assembled(action_space, iter(leaves))))

    def batch(self, replies: list[Any]) -> tuple[Any, ...]:
        """What the last step or reset has left, in the order in which `RayHandle` takes it in.

        The arrays are the arena's own: they are sent before the next command is begun.
        """
        arena, part, lane = self._arena, self._slice, self._lane
        infos = dict(lane.infos.rest)
        objects = {path: values[part] for path, values in lane.objects.items()}
        for worker, reply in zip(self._workers.each, replies[1:], strict=True):
            if reply is not None:
                infos.update(reply[0])
                for path, values in reply[1].items():
                    start = worker.rows.start - self.first_row
                    objects[path][start : start + len(values)] = values
        rest = processes.dumps_importable((infos, objects)) if infos or objects else None
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
        """Ends the workers and closes the sub-environments."""
        try:
            self._workers.end(INNER_CLOSE_LIMIT_S)
        finally:
            self._lane.close()
