"""What handing an observation to another process and back costs here."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecselect import processes
from vecselect.child import child_at_work
from vecselect.errors import ProfileError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TINY = b""
LARGE_FACTOR = 4
LARGE_MIN_BYTES = 1 << 18
"""The large message is four times the observation, and at least this: less would drown the cost per
byte in the noise of the cost per message."""

ROUNDS = 200
WARM_UP_ROUNDS = 20
DEFAULT_BUDGET_S = 0.15
LIMIT_S = 60.0
"""Seconds, beyond the budget, that the child's start and all round trips may take."""


@dataclass(frozen=True)
class IpcProfile:
    """What one round trip to another process costs: there, and the same message back.

    Attributes:
        start_method: How the echoing process was started.
        rounds: Round trips timed of each message.
        observation_bytes: Size of the observation's message, pickled.
        tiny_s: Median seconds of a round trip with nothing in it.
        observation_s: Median seconds of a round trip of the observation: the IPC cost.
        observation_p10_s: 10th percentile of the same.
        observation_p90_s: 90th percentile of the same.
        large_bytes: Size of the large message, pickled.
        large_s: Median seconds of a round trip of the large message.
        per_message_s: Seconds of a round trip that do not depend on size, and
        per_byte_s: seconds it takes longer per byte: the line of least squares through the medians.
    """

    start_method: str
    rounds: int
    observation_bytes: int
    tiny_s: float
    observation_s: float
    observation_p10_s: float
    observation_p90_s: float
    large_bytes: int
    large_s: float
    per_message_s: float
    per_byte_s: float


def measure_ipc(
    observation: Any,
    *,
    start_method: str | None = None,
    budget_s: float = DEFAULT_BUDGET_S,
) -> IpcProfile:
    """Times round trips of an observation through a pipe to a child process that echoes it.

    Three messages take turns, so that drift of the machine falls on all alike: an empty one, the
    observation, and a large one. Both ends pickle and unpickle, as Gymnasium's `AsyncVectorEnv`
    does. The child is gone when this returns, however it returns.

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
    large = bytes(max(LARGE_FACTOR * sample, LARGE_MIN_BYTES))
    messages = (TINY, observation, large)
    context = processes.get_context(start_method)
    try:
        with child_at_work(context, _echo) as child:
            # A blocked read ends when the child does, so the limit costs the round trips nothing.
            watchdog = threading.Timer(LIMIT_S + budget_s, child.kill)
            watchdog.start()
            try:
                child.pipe.recv()  # It has started: its imports are no part of a round trip.
                times_s = _round_trips(child.pipe, messages, budget_s)
            finally:
                watchdog.cancel()
    except (EOFError, ConnectionError) as error:
        raise ProfileError(
            f"The process that echoes messages died, or did not answer within {LIMIT_S:g} s."
        ) from error
    tiny_s, observation_s, large_s = np.median(times_s, axis=0).tolist()
    p10_s, p90_s = np.percentile(times_s[:, 1], [10, 90]).tolist()
    sizes = [0, sample, len(large)]
    per_byte_s, per_message_s = np.polyfit(sizes, [tiny_s, observation_s, large_s], 1).tolist()
    return IpcProfile(
        start_method=context.get_start_method(),
        rounds=len(times_s),
        observation_bytes=sample,
        tiny_s=tiny_s,
        observation_s=observation_s,
        observation_p10_s=p10_s,
        observation_p90_s=p90_s,
        large_bytes=len(large),
        large_s=large_s,
        per_message_s=max(per_message_s, 0.0),
        per_byte_s=max(per_byte_s, 0.0),
    )


def _round_trips(pipe: Connection, messages: tuple[Any, ...], budget_s: float) -> Any:
    """Seconds of each round trip; an array of shape (rounds, messages)."""
    rows = []
    orders = list(itertools.permutations(range(len(messages))))
    limit_s = time.perf_counter() + budget_s
    for round_number in range(WARM_UP_ROUNDS + ROUNDS):
        row = [0.0] * len(messages)
        # In every order in turn: a round trip is slower right after a large one.
        for index in orders[round_number % len(orders)]:
            message = messages[index]
            start_s = time.perf_counter()
            pipe.send(message)
            pipe.recv()
            row[index] = time.perf_counter() - start_s
        rows.append(row)
        if round_number > WARM_UP_ROUNDS and time.perf_counter() > limit_s:
            break
    return np.array(rows[WARM_UP_ROUNDS:])


def _echo(pipe: Connection) -> None:
    """Runs in the child: sends every message back until the parent hangs up."""
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send(TINY)
        while True:
            pipe.send(pipe.recv())
