"""The `worker` of mode `async`: a lane of the pool's for one sub-environment, behind a pipe.

    caller                            worker
    ------                            ------
    starts it                ------>  answers `_check_spaces` in advance, builds, says how that went
    `_check_spaces`          ------>  passes over it
    requests, as of a pool   ------>  answers with what the lane leaves, or with a `Failed`
    `CLOSE`, or hangs up     ------>  closes its sub-environment and ends

What Gymnasium asks for first, while it constructs the vector environment, it waits for without a
limit: so how building went, which may take for ever, is an answer of its own.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gymnasium.vector.utils import read_from_shared_memory

from vecselect.backends.pool.arena import Arena, assembled, at, leaves, plain_rows
from vecselect.backends.pool.lane import LaneFailure
from vecselect.backends.pool.worker import WorkerLane, close_all, failed_there, packed_reply
from vecselect.learner_threads import seed_torch
from vecselect.process import children, pickling
from vecselect.process.contexts import POSIX, ParentWatch
from vecselect.process.forkserver import LOOK_S
from vecselect.process.remote_errors import Failed, portable

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    import gymnasium as gym

    from vecselect.backends.pool.settings import LaneSpec, Sample

CLOSE = b"close"
"""The command to end, beside requests as `WorkerLane` takes them, pickled."""


def stand_in(seed: int, task: bytes, sample: Sample) -> Any:
    """A factory: for Gymnasium, which builds the first one to look at, without building any.

    Args:
        seed: Of the worker's global random generators.
        task: `Work` and `LaneSpec`, pickled: what fails in unpacking is told as a failed building.
        sample: What is looked at.
    """
    return SimpleNamespace(**vars(sample), close=lambda: None)


def work(
    row: int,
    factory: Any,
    pipe: Connection,
    callers_end: Connection,
    memory: Any,
    _errors: Any,
    _autoreset_mode: Any,
    semaphore: Any = None,
) -> None:
    """Runs in a worker's process: builds a sub-environment and serves it until the end.

    Args:
        row: Index of the sub-environment.
        factory: Has `stand_in` with its arguments as its `fn`.
        pipe: The worker's end of its pipe.
        callers_end: The other one, of which an open copy would hide that the caller hangs up.
        memory: Gymnasium's shared memory for observations; None if they go through the pipe.
        semaphore: Held while the environment works; Gymnasium has it from 1.4 on.
    """
    callers_end.close()
    seed, task, _ = factory.fn.args
    children.prepare_child(seed)
    watch = ParentWatch(functools.partial(_hang_up, pipe))
    envs: list[gym.Env] = []
    hung_up = True
    try:
        pipe.send(((True, True), True))
        served = _built(row, envs, task, seed, memory)
        _send(pipe, served if isinstance(served, Failed) else None)
        pipe.recv()
        hung_up = isinstance(served, Failed) or served.until_closed(pipe, semaphore)
    except (EOFError, ConnectionError):
        pass
    finally:
        close_all(envs, row)
    watch.end_orphan(LOOK_S + 0.1 if hung_up else 0.0)


def _hang_up(pipe: Connection) -> None:
    """Ends the waiting for requests: forked siblings may hold the caller's end open."""
    if POSIX:
        with socket.socket(fileno=os.dup(pipe.fileno())) as end:
            end.shutdown(socket.SHUT_RD)


def _send(pipe: Connection, value: Any) -> None:
    pipe.send_bytes(pickling.dumps_importable(value))


def _built(row: int, envs: list[gym.Env], task: bytes, seed: int, memory: Any) -> _Served | Failed:
    """Builds the sub-environment, which is added to `envs`."""
    try:
        what, spec = pickling.loads(task)
        envs.append(what.env_fns[0]())
        seed_torch(seed)
        arena = Arena(spec.layout, mmap.mmap(-1, spec.layout.size_bytes()))
        if memory is not None:
            arrays = read_from_shared_memory(spec.observation_space, memory, spec.layout.num_envs)
            arena.observations = [{path: at(arrays, path) for path in arena.observations[0]}]
            plain = arena.observations[0].get(())
            arena.observation_rows = [plain_rows(plain, spec.layout.num_envs)]
        lane = WorkerLane(what, spec, envs, arena)
        problem, _ = lane.spaces()
        if problem:
            raise RuntimeError(problem)
        return _Served(row, lane, spec, arena, sends_observations=memory is None)
    except Exception as error:
        return Failed(row, "its constructor", portable(error))


class _Served:
    """A sub-environment that answers requests."""

    def __init__(
        self, row: int, lane: WorkerLane, spec: LaneSpec, arena: Arena, sends_observations: bool
    ) -> None:
        self._row = row
        self._lane = lane
        self._space = spec.observation_space
        self._arena = arena
        self._sends_observations = sends_observations

    def until_closed(self, pipe: Connection, semaphore: Any) -> bool:
        """Answers requests; returns whether they end because the caller has hung up."""
        while True:
            try:
                data = pipe.recv_bytes()
            except (EOFError, OSError):
                return True
            if data == CLOSE:
                return False
            try:
                name, args = pickling.loads(data)
                reply = self._reply(name, args, semaphore)
            except LaneFailure as failure:
                reply = failed_there(failure)
            except Exception as error:
                reply = Failed(self._row, "reading a command", portable(error))
            pipe.send_bytes(packed_reply(self._lane.lane, reply))

    def _reply(self, name: str, args: tuple[Any, ...], semaphore: Any) -> Any:
        moves = name in ("step", "reset")
        with semaphore if moves and semaphore else contextlib.nullcontext():
            reply = self._lane.request(0, [], name, args)
        if not moves:
            return reply
        arena, lane, row = self._arena, self._lane.lane, self._row
        observation = None
        if self._sends_observations:
            parts = {path: values[row] for path, values in lane.objects.items()}
            parts.update((path, values[row]) for path, values in arena.observations[0].items())
            ordered = (parts[leaf.path] for leaf in leaves(self._space))
            observation = assembled(self._space, ordered)
        infos = lane.infos.rest.get(row, ())
        flags = arena.rewards_data[row], arena.terminated_data[row], arena.truncated_data[row]
        return observation, infos, *flags
