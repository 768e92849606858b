"""Every mode, and how its name is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.backends.async_ import Async
from vecselect.backends.native import Native
from vecselect.backends.pool.backend import Pool, count_workers
from vecselect.backends.pool.signals import EAGER_TRIES
from vecselect.backends.ray.backend import Ray
from vecselect.backends.sync import Sync
from vecselect.backends.thread import Thread, count_threads
from vecselect.errors import RequestError, unknown
from vecselect.lanes import why_not_workers

if TYPE_CHECKING:
    from vecselect.backends.base import Backend
    from vecselect.machine import Machine
    from vecselect.request import Request

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Sync(), Pool(), Async(), Thread(), Native(), Ray())
}
"""Every backend by its mode, the simpler ones first."""

COUNTED = frozenset({"pool", "thread", "ray"})
"""Modes whose name may be followed by the number of workers, as in `pool:4`."""

OTHER_IMPLEMENTATIONS = frozenset({"native"})
"""Modes that do not run the user's own environments, and so return other numbers."""

SLEEP = "sleep"
"""Follows the number of workers where they sleep at once while they wait, as in `pool:4:sleep`.
Threads always do."""


def exact(mode: str, request: Request, machine: Machine) -> str:
    """The mode by the name that says all: no number becomes the number it is.

    Args:
        mode: An existing mode.
        request: What was asked for.
        machine: The cores there are.
    """
    backend, parameters = find(mode)
    if backend.name == "thread":
        return f"thread:{count_threads(request, parameters.get('workers'))}"
    if backend.name == "pool":
        workers = count_workers(request, machine, parameters.get("workers"))
        return pool_mode(workers, sleep=bool(workers) and "tries" in parameters)
    return mode  # of `ray` without a number, as many as the cluster has room for


def why_not_so_many(mode: str, num_envs: int, caller_steps: bool) -> str | None:
    """One sentence if there is no work for as many workers as a mode's name says, else None.

    Args:
        mode: An existing mode.
        num_envs: The number of sub-environments.
        caller_steps: Whether the calling process may step a slice of its own.
    """
    backend, parameters = find(mode)
    return why_not_workers(backend.name, parameters.get("workers"), num_envs, caller_steps)


def pool_mode(workers: int, *, sleep: bool = False) -> str:
    """The name of a pool with so many workers."""
    return f"pool:{workers}:{SLEEP}" if sleep else f"pool:{workers}"


def find(mode: str, *, or_auto: bool = True) -> tuple[Backend, dict[str, int]]:
    """The backend behind a mode, and the parameters that the mode's name gives it.

    Args:
        mode: Its name.
        or_auto: Whether the user could have said `auto` in its place, for the error.

    Raises:
        RequestError: If there is no such mode.
    """
    name, *words = mode.split(":")
    if name not in BACKENDS:
        counted = [f"{known}:K" for known in BACKENDS if known in COUNTED]
        auto = ["auto"] if or_auto else []
        raise RequestError(unknown("mode", mode, [*auto, *BACKENDS, *counted]))
    if not words:
        return BACKENDS[name], {}
    if name not in COUNTED:
        raise RequestError(f"Mode {mode!r} has a number of workers, but {name!r} takes none.")
    count, *manner = words
    if not count.isdecimal():
        raise RequestError(f"Mode {mode!r}: {count!r} is no number of workers, as in '{name}:2'.")
    if name == "ray" and (manner or count == "0"):
        raise RequestError(
            f"Mode {mode!r}: after 'ray:' the number of lanes stands, each an actor, at least 1, "
            "and nothing else."
        )
    if manner and name == "thread":
        raise RequestError(
            f"Mode {mode!r}: threads always sleep while they wait, so nothing may follow their "
            f"number. Use 'thread:{count}'."
        )
    if manner not in ([], [SLEEP]):
        raise RequestError(
            f"Mode {mode!r}: after the number of workers only ':{SLEEP}' may follow, as in "
            f"'pool:2:{SLEEP}'."
        )
    parameters = {"workers": int(count)}
    return BACKENDS[name], {**parameters, "tries": EAGER_TRIES} if manner else parameters
