"""Every mode, and how its name is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.backends.async_ import Async
from vecselect.backends.native import Native
from vecselect.backends.pool.backend import Pool
from vecselect.backends.sync import Sync
from vecselect.errors import RequestError, unknown

if TYPE_CHECKING:
    from vecselect.backends.base import Backend

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Sync(), Pool(), Async(), Native())
}
"""Every backend by its mode, the simpler ones first."""

COUNTED = frozenset({"pool"})
"""Modes whose name may be followed by the number of workers, as in `pool:4`."""


def find(mode: str) -> tuple[Backend, dict[str, int]]:
    """The backend behind a mode, and the parameters that the mode's name gives it.

    Raises:
        RequestError: If there is no such mode.
    """
    name, colon, count = mode.partition(":")
    if name not in BACKENDS:
        raise RequestError(unknown("mode", mode, ["auto", *BACKENDS]))
    if not colon:
        return BACKENDS[name], {}
    if name not in COUNTED:
        raise RequestError(f"Mode {mode!r} has a number of workers, but {name!r} takes none.")
    if not count.isdecimal():
        raise RequestError(f"Mode {mode!r}: {count!r} is no number of workers, as in 'pool:2'.")
    return BACKENDS[name], {"workers": int(count)}
