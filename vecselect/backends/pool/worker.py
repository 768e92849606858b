"""A worker process: it steps one lane over shared memory."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.backends.pool.arena import Arena
from vecselect.backends.pool.lane import LaneFailure, keep_packed
from vecselect.backends.pool.server import (
    COMMAND,
    DONE,
    GIVEN,
    STATUS,
    Server,
    Work,
    close_all,
    sample_of,
)
from vecselect.contexts import LOOK_S, ParentWatch
from vecselect.errors import RequestError, same_instance
from vecselect.failures import Failed, portable, report_closing
from vecselect.learner_threads import seed_torch

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from threading import Event

    import gymnasium as gym

    from vecselect.backends.pool.memory import Memory
    from vecselect.backends.pool.server import Terms
    from vecselect.backends.pool.signals import Signal

STEP, REQUEST, END = 1, 2, 3
"""Commands: step with the arena's actions; do what stands in the pipe; end."""

SAMPLE = "sample"
"""What a worker that has built its sub-environments is asked for; then come the `Terms`."""

SILENT, REPLY, FAILED = 0, 1, 2
"""Statuses: all is in the arena; the rest is in the pipe; what stands there is a `Failed`."""


def serve(work: bytes, memory: Memory, go: Signal, done: Signal, pipe: Connection) -> None:
    """Builds a lane and does what the parent asks for until it asks for the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle.
    watch = ParentWatch(go.give)
    row, envs = 0, []
    try:
        task = processes.loads(work)
        processes.settle_in(task.global_seed)
        profiled = None
        if not isinstance(task, Work):  # something to do before it becomes a worker
            found = task.run(go, done, pipe)
            if found is None:
                return
            task, profiled = found
            processes.seed_generators(task.global_seed)
        row = task.first_row
        for make in task.env_fns:
            envs.append(make())
            if profiled is not None and envs[-1].unwrapped is profiled:
                raise RequestError(same_instance(0, row))
            row += 1
        del profiled
        row = task.first_row
        seed_torch(task.global_seed)
        _tell(pipe, None)
        terms = _agreed(pipe, envs, watch.gone)
        if terms is None:
            close_all(envs, task.first_row)
            watch.end_orphan()
            return
        arena = Arena(terms.layout, memory.mapped(terms.layout.size_bytes()))
        memory.forget_descriptor()
        server = Server(task, terms, envs, arena, keep_packed, keep_packed)
        _tell(pipe, server.greeting())
    except BaseException as error:
        _tell(pipe, Failed(row, "construct", portable(error)))
        for env in envs:
            env.close()
        return
    try:
        _answer(server, go, done, pipe, watch.gone)
    except (EOFError, ConnectionError):  # the parent has hung up
        pass
    finally:
        try:
            server.lane.close()
        except LaneFailure as failure:
            report_closing(failure.row, failure.__cause__)
        watch.end_orphan()


def _tell(pipe: Connection, value: Any) -> None:
    """Says how building goes; a parent that has hung up, or was killed, has no use for it."""
    data = processes.dumps_importable(value)
    with contextlib.suppress(OSError):
        pipe.send_bytes(data)


def _agreed(pipe: Connection, envs: list[gym.Env], orphaned: Event) -> Terms | None:
    """Waits for what all lanes have in common; None if this one is to end instead."""
    while not orphaned.is_set():
        if not pipe.poll(LOOK_S):  # a forked sibling may hold the other end open
            continue
        try:
            asked = processes.loads(pipe.recv_bytes())
        except (EOFError, ConnectionError):
            return None
        if asked != SAMPLE:
            return asked  # type: ignore[no-any-return]
        _tell(pipe, sample_of(envs[0]))
    return None


def _answer(server: Server, go: Signal, done: Signal, pipe: Connection, orphaned: Event) -> None:
    """Answers commands until the last one."""
    control, tries = server.control, server.task.tries
    while True:
        go.wait(tries)  # without a limit: another thread watches the parent, and gives it too
        number, command = control[GIVEN], control[COMMAND]
        if command == END or orphaned.is_set():
            return
        if number == control[DONE]:  # given twice: the parent did not know whether it had been
            continue
        try:
            reply = (
                server.step()
                if command == STEP
                else server.request(*processes.loads(pipe.recv_bytes()))
            )
        except LaneFailure as failure:
            assert failure.__cause__ is not None
            if isinstance(failure.__cause__, SystemExit):
                raise failure.__cause__ from None
            error = portable(failure.__cause__)
            reply = Failed(failure.row, failure.phase, error, failure.when)
        data = None if reply is None else _packed(server, reply)
        failed = isinstance(reply, Failed)
        control[STATUS] = SILENT if data is None else FAILED if failed else REPLY
        control[DONE] = number
        done.give()
        if data is not None:
            pipe.send_bytes(data)  # After the signal: a full pipe waits for the parent to read.


def _packed(server: Server, reply: Any) -> bytes:
    """A reply as bytes; what cannot be pickled becomes an error that can."""
    try:
        return processes.dumps_importable(reply)
    except Exception as error:
        return processes.dumps(
            Failed(server.lane.rows[0], "sending the answer of", portable(error))
        )
