"""A race in a process of its own, where nothing an environment does can harm the caller."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import replace
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.errors import ProfileError
from vecselect.failures import portable
from vecselect.measure.learner import read_learner
from vecselect.planning.rounds import Terms, run_race

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from vecselect.request import Request
    from vecselect.selection.race import RaceRecord

STALL_LIMIT_S = 30.0
"""Seconds beyond its deadline after which a race counts as never ending."""


class RaceLost(Exception):
    """The race's process died, or did not answer."""


def race_apart(
    request: Request,
    modes: Sequence[str],
    learner_s: float | None,
    terms: Terms,
    **options: Any,
) -> RaceRecord:
    """Runs `run_race` in a child process, which ends with all it has started.

    Args:
        request: What was asked for.
        modes: The entrants, the simpler ones first.
        learner_s: Seconds of busy work between two vector steps, or None.
        terms: How it is run; what `progress` is told comes from the child.
        **options: The others that `run_race` takes.

    Raises:
        RaceLost: If the child dies or does not answer.
        ProfileError: As `run_race` does.
    """
    context = processes.get_context(request.vector_kwargs.get("context"))
    ours, theirs = context.Pipe()
    # A deadline is a time of this process's clock, which other processes share on POSIX only.
    left_s = terms.deadline_s - time.perf_counter()
    progress, terms = terms.progress, replace(terms, progress=print)
    work = processes.dumps((request, tuple(modes), learner_s, terms, left_s, options))
    child = context.Process(target=_run, args=(work, theirs, processes.child_seed()))  # type: ignore[attr-defined]
    try:
        with processes.hidden_main():
            child.start()
        theirs.close()
        limit_s = time.perf_counter() + max(left_s, 0.0) + STALL_LIMIT_S
        while True:
            kind, value = _said(ours, child, limit_s)
            if kind == "progress":
                progress(value)
            elif kind == "failed":
                message, error = value
                raise ProfileError(message) from error.rebuilt()
            else:
                record: RaceRecord = processes.loads(value)
                return record
    finally:
        ours.close()
        if child.pid is not None:
            processes.end(child)


def _said(pipe: Connection, child: BaseProcess, limit_s: float) -> tuple[str, Any]:
    """The next thing the child says."""
    if not connection.wait([pipe, child.sentinel], max(limit_s - time.perf_counter(), 0.0)):
        child.kill()
        raise RaceLost(f"it did not end within {STALL_LIMIT_S:g} s of its time, and was ended")
    try:
        if not pipe.poll():
            raise EOFError
        kind, value = pipe.recv()
    except (EOFError, ConnectionError):
        child.join(processes.END_GRACE_S)
        raise RaceLost(f"its process {processes.how_it_ended(child.exitcode)}") from None
    return kind, value


def _run(work: bytes, pipe: Connection, seed: int) -> None:
    """Runs in the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends this process on Ctrl-C.
    processes.settle_in(seed)
    # What the environment prints must not get into the output of a program that asks for JSON.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        request, modes, learner_s, terms, left_s, options = processes.loads(work)
        terms = replace(
            terms,
            deadline_s=time.perf_counter() + left_s,
            progress=lambda text: pipe.send(("progress", text)),
        )
        learner = read_learner(learner_s or 0, request.num_envs, None)
        record = run_race(request, modes, learner, terms, **options)
        pipe.send(("raced", processes.dumps(record)))
    except BaseException as error:
        with contextlib.suppress(OSError):  # the parent was interrupted, and has hung up
            pipe.send(("failed", (str(error), portable(error.__cause__ or error))))
