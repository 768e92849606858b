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

    from vecselect.backends.pool.settings import Sample

CLOSE = b"close"
"""The command to end, beside requests as `WorkerLane` takes them, pickled."""


def stand_in(seed: int, task: bytes, sample: Sample) -> Any:
    """What Gymnasium takes for a factory, and calls in the caller's process to look at the result.

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
    told_to = False
    try:
        pipe.send(((True, True), True))
        try:
            lane = _PipeLane(envs, task, seed, memory, semaphore or contextlib.nullcontext())
        except Exception as error:
            pipe.send_bytes(pickling.dumps(Failed(row, "its constructor", portable(error))))
            pipe.recv()
            return
        pipe.send_bytes(pickling.dumps_importable(None))
        pipe.recv()
        while (data := pipe.recv_bytes()) != CLOSE:
            pipe.send_bytes(lane.answer(data))
        told_to = True
    except (EOFError, OSError):  # the caller has hung up
        pass
    finally:
        close_all(envs, row)
        watch.end_orphan(0.0 if told_to else LOOK_S + 0.1)


def _hang_up(pipe: Connection) -> None:
    """Ends the waiting for requests: forked siblings may hold the caller's end open."""
    if POSIX:
        with socket.socket(fileno=os.dup(pipe.fileno())) as end:
            end.shutdown(socket.SHUT_RD)


class _PipeLane(WorkerLane):
    """A lane that takes its commands from a pipe, and answers there."""

    def __init__(
        self, envs: list[gym.Env], task: bytes, seed: int, memory: Any, semaphore: Any
    ) -> None:
        """Builds the sub-environment, which is added to `envs`; the rest is as of `work`."""
        what, spec = pickling.loads(task)
        envs.append(what.env_fns[0]())
        seed_torch(seed)
        arena = Arena(spec.layout, mmap.mmap(-1, spec.layout.size_bytes()))
        if memory is not None:
            arrays = read_from_shared_memory(spec.observation_space, memory, spec.layout.num_envs)
            arena.observations = [{path: at(arrays, path) for path in arena.observations[0]}]
            plain = arena.observations[0].get(())
            arena.observation_rows = [plain_rows(plain, spec.layout.num_envs)]
        super().__init__(what, spec, envs, arena)
        self._in_memory = memory is not None
        self._semaphore = semaphore
        problem, _ = self.spaces()
        if problem:
            raise RuntimeError(problem)

    def answer(self, data: bytes) -> bytes:
        """Does what a message says; returns the answer to send."""
        (row,) = self.lane.rows
        reply: Any
        try:
            name, args = pickling.loads(data)
            if name in ("step", "reset"):
                with self._semaphore:
                    self.request(0, [], name, args)
                reply = self._moved(row)
            else:
                reply = self.request(0, [], name, args)
        except LaneFailure as failure:
            reply = failed_there(failure)
        except Exception as error:
            reply = Failed(row, "reading a command", portable(error))
        return packed_reply(self.lane, reply)

    def _moved(self, row: int) -> tuple[Any, ...]:
        """What came of a step or reset: observation, infos, reward and flags."""
        arena, lane, observation = self._arena, self.lane, None
        if not self._in_memory:
            found: dict[Any, Any] = {**arena.observations[0], **lane.objects}
            space = self._spec.observation_space
            observation = assembled(space, (found[leaf.path][row] for leaf in leaves(space)))
        infos = lane.infos.rest.get(row, ())
        flags = arena.terminated_data[row], arena.truncated_data[row]
        return observation, infos, arena.rewards_data[row], *flags
