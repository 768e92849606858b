"""The learner: what happens between two vector steps while a race is run."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import time
from typing import TYPE_CHECKING, Any

from vecselect.errors import ProfileError, RequestError
from vecselect.measure.stand_in import StandIn
from vecselect.request import is_seconds
from vecselect.torch_ import loaded_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import gymnasium as gym

TRIES = 3
"""Calls after which a stand-in that has never been as quick as what was observed is given up."""


class Learner:
    """Something to run between two vector steps.

    Attributes:
        kind: `none`, `seconds`, `callable`, `stand-in` or `observed`.
        run: Takes the batch of observations; None where there is nothing to run.
        seconds: How long it takes, where that was given.
    """

    def __init__(
        self,
        kind: str,
        run: Callable[[Any], Any] | None = None,
        seconds: float | None = None,
    ) -> None:
        self.kind = kind
        self.run = run
        self.seconds = seconds


def torch_threads() -> int | None:
    """The threads torch computes with; None where it is not loaded."""
    torch = loaded_torch()
    return int(torch.get_num_threads()) if torch else None


def settable_threads() -> int:
    """The threads of torch or of a numerical library that `one_thread` can bring down to one."""
    threads = [torch_threads() or 1]
    if threadpoolctl := _threadpoolctl():
        threads += [found["num_threads"] for found in threadpoolctl.threadpool_info()]
    return max(threads)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Has torch, and what threadpoolctl knows if it is installed, compute in one thread."""
    torch, threadpoolctl = loaded_torch(), _threadpoolctl()
    before = torch_threads()
    limits = threadpoolctl.threadpool_limits(1) if threadpoolctl else contextlib.nullcontext()
    with limits:
        if before is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if before is not None:
                torch.set_num_threads(before)


def _threadpoolctl() -> Any:
    """The module threadpoolctl if it is installed, else None."""
    try:
        return importlib.import_module("threadpoolctl")
    except ImportError:
        return None


def check_learner(given: Any) -> None:
    """Refuses what is neither a callable nor a number of seconds.

    Raises:
        RequestError: Saying what to give instead.
    """
    if not (given is None or callable(given) or is_seconds(given)):
        raise RequestError(
            f"learner is {given!r}; give a callable that takes the batch of observations, or the "
            "seconds that your loop spends between two steps, such as 0.001."
        )


def read_learner(
    given: Any, num_envs: int, action_space: gym.Space | None, observed_s: float | None = None
) -> Learner:
    """The learner of a race.

    Args:
        given: A callable, run with the batch of observations (or without, if it takes nothing);
            seconds of busy, single-threaded work; or None. With None, and torch loaded, small
            networks stand in for the learner, on torch's threads as they are set.
        num_envs: Sub-environments in a batch.
        action_space: Of one sub-environment; needed where a network may stand in.
        observed_s: Seconds between two steps that an earlier run showed; they stand in for the
            learner where nothing is given.
    """
    if callable(given):
        return Learner("callable", _guarded(given))
    if given is not None:
        return Learner("seconds", _busy(float(given)), float(given)) if given else Learner("none")
    stand_in = None
    if loaded_torch() is not None and action_space is not None:
        stand_in = StandIn(num_envs, action_space)
    if observed_s is not None:
        return Learner("observed", _filled(stand_in, observed_s), observed_s)
    return Learner("none") if stand_in is None else Learner("stand-in", stand_in)


def _guarded(given: Callable[..., Any]) -> Callable[[Any], Any]:
    """Calls the user's learner as it wants to be called, and says so if it fails."""
    try:
        inspect.signature(given).bind(None)
        takes_observations = True
    except TypeError:
        takes_observations = False
    except ValueError:  # some builtins have no signature
        takes_observations = True

    def run(observations: Any) -> None:
        try:
            if takes_observations:
                given(observations)
            else:
                given()
        except Exception as error:
            raise ProfileError(
                f"The learner raised {type(error).__name__} while it ran between two steps: "
                f"{error}. It is called with the batch of observations, or with nothing if it "
                "takes nothing."
            ) from error

    return run


def _busy(seconds: float) -> Callable[[Any], None]:
    """Burns CPU time, not wall time: work that loses its core takes longer."""
    duration_ns, clock = int(seconds * 1e9), time.thread_time_ns

    def run(observations: Any) -> None:
        end_ns = clock() + duration_ns
        while clock() < end_ns:
            pass

    return run


def _filled(stand_in: StandIn | None, seconds: float) -> Callable[[Any], None]:
    """What stands in for the learner, if it takes no longer, and busy work for the rest."""
    if stand_in is None:
        return _busy(seconds)
    calls, least_s = 0, math.inf

    def run(observations: Any) -> None:
        nonlocal calls, least_s
        start_s = time.perf_counter()
        if calls < TRIES or least_s <= seconds:
            stand_in(observations)
            least_s = min(least_s, time.perf_counter() - start_s)
            calls += 1
        _busy(max(seconds - (time.perf_counter() - start_s), 0.0))(None)

    return run
