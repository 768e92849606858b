"""Every backend by the kind of mode that it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecselect.backends.async_env import Async
from vecselect.backends.native import Native
from vecselect.backends.pool.backend import Pool
from vecselect.backends.ray.backend import Ray
from vecselect.backends.sync import Sync
from vecselect.backends.thread import Thread

if TYPE_CHECKING:
    from vecselect.backends.base import Backend

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Sync(), Pool(), Thread(), Async(), Native(), Ray())
}
"""Every backend by its kind, the simpler ones first."""
