"""Ids that were registered in this process, for `gymnasium.make` in the processes it starts.

A worker begins with what Gymnasium registers itself. The usual `lambda: gym.make("ALE/Pong-v5")`,
or an id that the user's own script has registered, would not be known there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gymnasium as gym

from vecselect import processes

if TYPE_CHECKING:
    from collections.abc import Mapping

_pickled: dict[str, tuple[object, bytes | None]] = {}
_sent: dict[str, bytes] = {}


def pack() -> Mapping[str, bytes]:
    """Every registered spec that is none of Gymnasium's own, pickled.

    Returns:
        The same mapping each time while nothing changes, so that it is pickled once for many
        factories. What cannot be pickled is left out.
    """
    global _sent
    found = {}
    for id, spec in list(gym.registry.items()):
        made_by = spec.entry_point
        module = made_by if isinstance(made_by, str) else getattr(made_by, "__module__", None)
        if str(module).startswith("gymnasium.envs."):
            continue
        known = _pickled.get(id)
        if known is None or known[0] is not spec:
            try:
                known = (spec, processes.dumps(spec))
            except Exception:  # pickling runs code of the user's objects: anything may come
                known = (spec, None)
            _pickled[id] = known
        if known[1] is not None:
            found[id] = known[1]
    if found != _sent:
        _sent = found
    return _sent


def unpack(packed: Mapping[str, bytes]) -> bool:
    """Registers what is not known here; whether there was anything."""
    added = False
    for id, data in packed.items():
        if id not in gym.registry:
            try:
                gym.registry[id] = processes.loads(data)
            except Exception:  # it may need a module that is not to be found here
                continue
            added = True
    return added
