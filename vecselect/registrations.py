"""What is registered in this process, for `gymnasium.make` in the processes it starts.

A worker begins with what Gymnasium registers itself. The usual `lambda: gym.make("ALE/Pong-v5")`,
an id that the user's own script has registered, or a spec that it has changed, would not be known
there.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import gymnasium as gym

from vecselect import processes

if TYPE_CHECKING:
    from collections.abc import Mapping

_pickled: dict[str, tuple[object, bytes, bytes | None]] = {}
_sent: dict[str, bytes] = {}
_adopted: Mapping[str, bytes] = {}


def pack() -> Mapping[str, bytes]:
    """Every registered spec, pickled. Specs may be changed in place, so each is looked at.

    Returns:
        The same mapping each time while nothing changes, so that it is pickled once for many
        factories. What cannot be pickled is left out.
    """
    global _sent
    found = {}
    for id, spec in list(gym.registry.items()):
        if (data := _pickle_of(id, spec)) is not None:
            found[id] = data
    if found != _sent:
        _sent = found
    return _sent


def _pickle_of(id: str, spec: object) -> bytes | None:
    """A spec as bytes; None where it cannot be pickled."""
    try:
        seen = pickle.dumps(spec)  # quick, and other bytes whenever the spec was changed
    except Exception:  # a lambda, say, which only the slow way can send
        seen = b""
    known = _pickled.get(id)
    if known is None or known[0] is not spec or known[1] != seen or not seen:
        try:
            known = (spec, seen, processes.dumps(spec))
        except Exception:  # pickling runs code of the user's objects: anything may come
            known = (spec, seen, None)
        _pickled[id] = known
    return known[2]


def adopt(packed: Mapping[str, bytes]) -> None:
    """Replaces the specs of known ids that are others where `packed` comes from; once for each."""
    global _adopted
    if packed == _adopted:
        return
    _adopted = packed
    for id in packed.keys() & gym.registry.keys():
        _load(packed, id)


def add_unknown(packed: Mapping[str, bytes]) -> bool:
    """Registers the ids that are not known here; whether there were any.

    Specs may import modules of the user's, and most environments need none: so only when one is
    missed.
    """
    loaded = [_load(packed, id) for id in packed.keys() - gym.registry.keys()]
    return any(loaded)


def _load(packed: Mapping[str, bytes], id: str) -> bool:
    """Registers a spec; whether that can be done."""
    try:
        gym.registry[id] = processes.loads(packed[id])
    except Exception:  # it may need a module that is not to be found here
        return False
    return True
