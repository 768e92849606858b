"""The ways to run sub-environments, one file or folder per mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.backends.async_ import Async
from vecselect.backends.native import Native
from vecselect.backends.sync import Sync
from vecselect.errors import RequestError, unknown

if TYPE_CHECKING:
    from vecselect.backends.base import Backend

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Sync(), Async(), Native())}
"""Every backend by its mode, the simpler ones first."""


def find(mode: str) -> Backend:
    """The backend behind a mode.

    Raises:
        RequestError: If there is no such mode.
    """
    if mode not in BACKENDS:
        raise RequestError(unknown("mode", mode, ["auto", *BACKENDS]))
    return BACKENDS[mode]
