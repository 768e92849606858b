"""What vecselect raises.

    VecselectError
    ├── RequestError (also a ValueError)   an argument is wrong, or cannot be
    │   └── ModeUnavailable                the pinned mode cannot serve this request
    ├── ProfileError (also a RuntimeError) the environment failed while it was being measured
    ├── WorkerError (also a RuntimeError)  a worker failed in a way its own exception cannot tell
    │   ├── WorkerDied                     its process ended
    │   ├── StartError                     the system refused it a process, memory or a file
    │   └── StepTimeout                    it did not answer within `step_timeout_s`
    └── PlanError (also a ValueError)      a stored plan cannot be read
    VecselectWarning (a UserWarning)       nothing failed, but the user should know

Errors of Gymnasium pass through unchanged where they say it best: an unknown id, use after
`close()` (`gymnasium.error.ClosedEnvironmentError`), calls out of order.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import warnings
from difflib import get_close_matches
from multiprocessing import TimeoutError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType


class VecselectError(Exception):
    """Base class of all exceptions of vecselect."""


class RequestError(VecselectError, ValueError):
    """An argument is wrong, or what it asks for cannot be, whatever the mode."""


class ModeUnavailable(RequestError):
    """The pinned mode cannot serve this request; another one is never put in its place."""


class ProfileError(VecselectError, RuntimeError):
    """The environment raised, died or never returned while it was being measured."""


class WorkerError(VecselectError, RuntimeError):
    """A sub-environment raised something that cannot be rebuilt in the caller's process."""


class WorkerDied(WorkerError):
    """A worker's process ended, and its sub-environments with it."""


class StartError(WorkerError, OSError):
    """The system refused what a worker needs to start: a process, memory, or a file."""


class StepTimeout(WorkerError, TimeoutError):
    """A worker did not answer within the `step_timeout_s` that was set.

    Also a `multiprocessing.TimeoutError`.
    """


class PlanError(VecselectError, ValueError):
    """A plan could not be read from JSON."""


class VecselectWarning(UserWarning):
    """Nothing failed, but something is not as the user may think."""


def warn(text: str) -> None:
    """Gives a `VecselectWarning` at the line outside of this package that led to it."""
    own = __name__.partition(".")[0]
    frame: FrameType | None = sys._getframe()
    depth = 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == own:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(text, VecselectWarning, stacklevel=depth)


def unknown(what: str, given: object, valid: Iterable[str]) -> str:
    """Says that there is no `what` of a given name, what there is, and which was probably meant."""
    names = list(valid)
    message = f"There is no {what} {given!r}; choose one of {', '.join(map(repr, names))}."
    near = get_close_matches(str(given), names, n=1)
    return f"{message} Did you mean {near[0]!r}?" if near else message


TOO_LATE_ADVICE = (
    "Close the vector environment and make a new one, with a larger step_timeout_s if steps need "
    'longer; or use the pool with vector_kwargs={"on_worker_death": "restart"}, which replaces the '
    "worker."
)
"""What to do where a worker takes longer to answer than `step_timeout_s`."""


def built_too_late(worker: str, timeout_s: float | None) -> StepTimeout:
    """The error for a worker that takes longer to start than `start_timeout_s`."""
    return StepTimeout(
        f"{worker} has not built its sub-environments within start_timeout_s={timeout_s:g}. Give a "
        "larger start_timeout_s in vector_kwargs if they need longer."
    )


def same_instance(first: int, second: int) -> str:
    """Says that the factories of two sub-environments returned one environment."""
    return (
        f"The callables of sub-environments {first} and {second} return the same instance, so "
        "their episodes would be mixed up. Build a new environment in each call: "
        'lambda: gym.make("Pendulum-v1"), not lambda: env.'
    )


REFUSALS = {
    errno.EAGAIN: "no more processes may be started here (see ulimit -u, or the limit on the "
    "number of processes of the container)",
    errno.ENOMEM: "there is no memory for another process",
    errno.ENOSPC: "/dev/shm, or the folder for temporary files, is full (containers give it "
    "64 MB: docker run --shm-size=1g)",
    errno.EMFILE: "this process may open no more files (see ulimit -n)",
    errno.ENFILE: "the system may open no more files",
    errno.ENOSYS: "this system has no shared memory or semaphores",
}
"""What the system lacks where it refuses to start a worker."""


@contextlib.contextmanager
def refusals_named() -> Iterator[None]:
    """Converts an `OSError` while a worker is started into a `StartError`."""
    try:
        yield
    except StartError:
        raise
    except OSError as error:
        why = REFUSALS.get(error.errno or 0, f"the system said: {error}")
        raise StartError(
            f'A worker process cannot be started: {why}. Pin mode="sync", which needs none.'
        ) from error
