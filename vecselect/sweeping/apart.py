"""A heat in a process of its own, which tells what it finds as it goes."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from vecselect import processes
from vecselect.child import child_at_work, tell, tell_failure
from vecselect.measure.learner import read_learner
from vecselect.planning.apart import STALL_LIMIT_S, said_within
from vecselect.sweeping.heat import run_heat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from vecselect.request import Request
    from vecselect.sweeping.heat import Heat


class HeatLost(Exception):
    """The heat's process died, or did not answer; what it has told until then stands."""


def heat_apart(
    request: Request,
    modes: Sequence[str],
    learner_s: float | None,
    left_s: float,
    rehearse: bool,
    progress: Callable[[str], None],
    found: Callable[[Heat], None],
) -> None:
    """Runs `run_heat` in a child process, which ends with all it has started.

    Args:
        request: As for `run_heat`, like those that follow.
        modes: Who takes part.
        learner_s: Seconds of busy work between two vector steps, or None.
        left_s: Seconds after which nothing new is begun.
        rehearse: Whether to build and close one sub-environment first.
        progress: Told what the child is doing.
        found: Given all that was found, after each round.

    Raises:
        HeatLost: If the child dies or does not answer.
        ProfileError: As `run_heat` does.
    """
    context = processes.get_context(request.vector_kwargs.get("context"))
    work = processes.dumps((request, tuple(modes), learner_s, left_s, rehearse))
    with child_at_work(context, _run, work) as child:
        limit_s = time.perf_counter() + max(left_s, 0.0) + STALL_LIMIT_S
        while True:
            kind, value = said_within(child, limit_s, HeatLost, "the process it ran in")
            if kind == "done":
                return
            (found if kind == "found" else progress)(value)


def _run(pipe: Connection, work: bytes) -> None:
    """Runs in the child."""
    try:
        request, modes, learner_s, left_s, rehearse = processes.loads(work)
        learner = read_learner(learner_s or 0, request.num_envs, None)
        progress, found = partial(tell, pipe, "progress"), partial(tell, pipe, "found")
        run_heat(request, modes, learner, left_s, rehearse, progress, found)
        tell(pipe, "done")
    except BaseException as error:
        tell_failure(pipe, str(error), error.__cause__ or error)
