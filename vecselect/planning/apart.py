"""A race in a process of its own, where nothing an environment does can harm the caller."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from vecselect import processes
from vecselect.child import ChildEnded, child_at_work, tell, tell_failure, tell_not_built
from vecselect.errors import ProfileError
from vecselect.measure.learner import read_learner
from vecselect.planning.rounds import Terms, run_race

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from vecselect.child import Child
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
        Exception: As `run_race` does.
    """
    context = processes.get_context(request.vector_kwargs.get("context"))
    # A deadline is a time of this process's clock, which other processes share on POSIX only.
    left_s = terms.deadline_s - time.perf_counter()
    sent = {"block_s": terms.block_s, "max_rounds": terms.max_rounds, "stop_loss": terms.stop_loss}
    work = processes.dumps((request, tuple(modes), learner_s, sent, left_s, options))
    with child_at_work(context, _run, work) as child:
        limit_s = time.perf_counter() + max(left_s, 0.0) + STALL_LIMIT_S
        while True:
            kind, value = said_within(child, limit_s, RaceLost, "its process")
            if kind == "raced":
                record: RaceRecord = value
                return record
            terms.progress(value)


def said_within(
    child: Child, limit_s: float, lost: type[Exception], process: str
) -> tuple[str, Any]:
    """The next thing the child says.

    Args:
        child: It is ended if it says nothing in time.
        limit_s: When that is, by `time.perf_counter`: `STALL_LIMIT_S` after its own deadline.
        lost: Raised if it is ended, or has ended.
        process: What the error calls it.
    """
    if not child.stirs(max(limit_s - time.perf_counter(), 0.0)):
        child.kill()
        raise lost(f"it did not end within {STALL_LIMIT_S:g} s of its time, and was ended")
    try:
        return child.said()
    except ChildEnded as ended:
        raise lost(f"{process} {ended}") from None


def _run(pipe: Connection, work: bytes) -> None:
    """Runs in the child."""
    try:
        request, modes, learner_s, sent, left_s, options = processes.loads(work)
        deadline_s = time.perf_counter() + left_s
        terms = Terms(**sent, deadline_s=deadline_s, progress=partial(tell, pipe, "progress"))
        learner = read_learner(learner_s or 0, request.num_envs, None)
        tell(pipe, "raced", run_race(request, modes, learner, terms, **options))
    except ProfileError as error:
        tell_failure(pipe, str(error), error.__cause__ or error)
    except Exception as error:
        tell_not_built(pipe, error)
    except BaseException as error:
        tell_failure(pipe, str(error), error)
