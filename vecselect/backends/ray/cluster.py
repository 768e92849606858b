"""Ray itself: found, started where there is none, and ended again by whoever started it."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any

from vecselect.errors import ModeUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_lock = threading.RLock()
_leases = 0
_ours = False


def ray() -> Any:
    """The module. It takes half a second to import, so it is imported where it is needed."""
    with _quiet():
        module = importlib.import_module("ray")
        importlib.import_module("ray.exceptions")
    return module


@contextlib.contextmanager
def connected(address: str | None, cpus: float) -> Iterator[None]:
    """Sees to it that this process is connected to a Ray while inside.

    That is the one it is connected to already, the one at the address or at RAY_ADDRESS, or one
    that is started here with so many CPUs.

    Raises `ModeUnavailable` if none can be reached at that address, or this process is connected to
    another one.
    """
    global _ours
    module = ray()
    address = address or os.environ.get("RAY_ADDRESS")
    with _lock:
        connected_to = module.get_runtime_context().gcs_address if module.is_initialized() else ""
        if not connected_to or address not in (None, "auto", "local", connected_to):
            started = {"num_cpus": cpus, "include_dashboard": False} if address is None else {}
            try:
                with _quiet():
                    module.init(
                        address=address or "local",
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        **started,
                    )
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                raise ModeUnavailable(
                    f"Mode 'ray' cannot reach a Ray at address={address!r}: {error} Start one with "
                    "'ray start --head', or leave the address out to have a local one started."
                ) from error
            _ours = True
        take_lease()
    try:
        yield
    finally:
        give_lease_back()


def room(needs: Mapping[str, float]) -> int:
    """The number of actors with these needs that there is room for, at least 1."""
    free = ray().available_resources()
    counts = [int(free.get(name, 0) / each) for name, each in needs.items() if each > 0]
    return max(min(counts, default=1), 1)


def take_lease() -> None:
    """Notes one more user of the connection."""
    global _leases
    with _lock:
        _leases += 1


def give_lease_back() -> None:
    """Notes one user less; the last one ends the connection, and the Ray, that we have made."""
    global _leases, _ours
    with _lock:
        _leases -= 1
        if _leases > 0 or not _ours:
            return
        _ours = False
        module = ray()
        if module.is_initialized():
            with _quiet():
                module.shutdown()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Ray from sending statistics, and from warning of its own affairs."""
    name = "RAY_USAGE_STATS_ENABLED"
    before = os.environ.get(name)
    os.environ[name] = before or "0"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ[name]
