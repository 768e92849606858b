"""What handing an observation to another process and back costs here."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from vecselect.errors import ProfileError
from vecselect.process import contexts
from vecselect.process.isolated import child_at_work

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROUNDS = 200
WARM_UP_ROUNDS = 20
DEFAULT_BUDGET_S = 0.15
LIMIT_S = 60.0
"""Seconds, beyond the budget, that the child's start and all round trips may take."""


@dataclass(frozen=True)
class IpcProfile:
    """What one round trip to another process costs: there, and the same message back.

    Attributes:
        rounds: Round trips timed.
        observation_bytes: Size of the observation's message, pickled.
        observation_s: Median seconds of a round trip of the observation: the IPC cost.
    """

    rounds: int
    observation_bytes: int
    observation_s: float


def measure_ipc(
    observation: Any,
    *,
    start_method: str | None = None,
    budget_s: float = DEFAULT_BUDGET_S,
) -> IpcProfile:
    """Times round trips of an observation through a pipe to a child process that echoes it.

    Both ends pickle and unpickle, as Gymnasium's `AsyncVectorEnv` does. The child is gone when this
    returns, however it returns.

    Args:
        observation: A sample observation of one sub-environment; anything that pickles.
        start_method: Of multiprocessing; the safest one of this platform by default.
        budget_s: Seconds after which no further round is begun; 200 rounds at the most.

    Returns:
        The costs, in seconds per round trip.

    Raises:
        ProfileError: If the observation does not pickle, or the child does not start or stops
            answering.
    """
    try:
        sample = len(pickle.dumps(observation, protocol=pickle.HIGHEST_PROTOCOL))
    except Exception as error:  # pickling runs code of the observation's own
        raise ProfileError(f"The observation cannot be sent to another process: {error}") from error
    context = contexts.get_context(start_method)
    try:
        with child_at_work(context, _echo) as child:
            # A blocked read ends when the child does, so the limit costs the round trips nothing.
            watchdog = threading.Timer(LIMIT_S + budget_s, child.kill)
            watchdog.start()
            try:
                child.pipe.recv()  # It has started: its imports are no part of a round trip.
                times_s = _round_trips(child.pipe, observation, budget_s)
            finally:
                watchdog.cancel()
    except (EOFError, ConnectionError) as error:
        raise ProfileError(
            f"The process that echoes messages died, or did not answer within {LIMIT_S:g} s."
        ) from error
    return IpcProfile(len(times_s), sample, median(times_s))


def _round_trips(pipe: Connection, message: Any, budget_s: float) -> list[float]:
    """Seconds of each round trip."""
    times_s: list[float] = []
    limit_s = time.perf_counter() + budget_s
    for number in range(WARM_UP_ROUNDS + ROUNDS):
        start_s = time.perf_counter()
        pipe.send(message)
        pipe.recv()
        times_s.append(time.perf_counter() - start_s)
        if number > WARM_UP_ROUNDS and time.perf_counter() > limit_s:
            break
    return times_s[WARM_UP_ROUNDS:]


def _echo(pipe: Connection) -> None:
    """Runs in the child: sends every message back until the parent hangs up."""
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send(None)
        while True:
            pipe.send(pipe.recv())
