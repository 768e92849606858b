"""What builds one sub-environment, here or in another process, and what it takes along there.

A worker begins with what Gymnasium registers itself. The usual `lambda: gym.make("ALE/Pong-v5")`,
an id that the user's own script has registered, or a spec that it has changed, would not be known
there: so a factory takes along the specs that are registered where it comes from. It also takes
along which warnings were shown there, so that each is shown once, and not again by every process
that builds the same environments; a warning that is new is shown at once, wherever it comes up.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

import gymnasium as gym

from vecselect.errors import RequestError
from vecselect.process import pickling
from vecselect.process.remote_errors import exit_error

Key = tuple[str, str, int]
"""Text, name of the category, and line of a warning."""

EnvFn = Callable[[], gym.Env]

HOLDS_S = 0.001
"""Seconds for which a list of what was shown serves: many factories are sent at once."""


@dataclass(frozen=True)
class EnvFactory:
    """Builds one sub-environment with its wrappers. Can be sent to other processes.

    Attributes:
        make: Builds it.
        wrappers: Put around it, in order.
        registered: What is registered in the process it was sent from.
        warned: The warnings that were shown there.
        sender: The id of that process; None where it was not sent.
    """

    make: EnvFn
    wrappers: tuple[Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]], ...] = ()
    registered: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    warned: frozenset[Key] = field(default=frozenset(), compare=False, repr=False)
    sender: int | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles it with the registered specs, and the warnings shown so far."""
        registered = self.registered or registered_specs()
        return EnvFactory, (self.make, self.wrappers, registered, shown_warnings(), os.getpid())

    def __call__(self) -> gym.Env[Any, Any]:
        """Builds a new sub-environment."""
        if self.sender in (None, os.getpid()):
            return self._build()
        adopt_specs(self.registered)
        hide(self.warned)
        try:
            return self._build()
        except gym.error.UnregisteredEnv:
            if not add_unknown_specs(self.registered):
                raise
        return self._build()

    def _build(self) -> gym.Env[Any, Any]:
        try:
            env = self.make()
            for wrapper in self.wrappers:
                env = wrapper(env)
        except SystemExit as error:
            raise exit_error(error, "A sub-environment", "its constructor")  # noqa: B904 (it has one)
        if not isinstance(env, gym.Env):
            raise RequestError(
                f"A callable that should build a sub-environment returned {env!r}, which is not a "
                "gymnasium.Env. Return the environment, as in lambda: gym.make('Pendulum-v1')."
            )
        return env


# Registered specs

_pickled: dict[str, tuple[object, bytes, bytes]] = {}
_sent: dict[str, bytes] = {}
_adopted: Mapping[str, bytes] = {}


def registered_specs() -> Mapping[str, bytes]:
    """Every registered spec, pickled. Specs may be changed in place, so each is looked at.

    It is the same mapping each time while nothing changes, so that it is pickled once for many
    factories. What cannot be pickled is left out.
    """
    global _sent
    found = {}
    for id, spec in list(gym.registry.items()):
        with contextlib.suppress(Exception):  # pickling runs code of the user's objects
            found[id] = _pickle_of(id, spec)
    if found != _sent:
        _sent = found
    return _sent


def _pickle_of(id: str, spec: object) -> bytes:
    try:
        seen = pickle.dumps(spec)  # quick, and other bytes whenever the spec was changed
    except Exception:  # a lambda, say, which only the slow way can send
        return pickling.dumps(spec)
    known = _pickled.get(id)
    if known is None or known[0] is not spec or known[1] != seen:
        _pickled[id] = known = (spec, seen, pickling.dumps(spec))
    return known[2]


def adopt_specs(packed: Mapping[str, bytes]) -> None:
    """Replaces registered specs that differ from those in `packed`; each once."""
    global _adopted
    if packed == _adopted:
        return
    _adopted = packed
    for id in packed.keys() & gym.registry.keys():
        _load(packed, id)


def add_unknown_specs(packed: Mapping[str, bytes]) -> bool:
    """Registers the ids that are not known here, and says whether there were any.

    Called only when one is missed: specs may import modules of the user's, and most environments
    need none.
    """
    loaded = [_load(packed, id) for id in packed.keys() - gym.registry.keys()]
    return any(loaded)


def _load(packed: Mapping[str, bytes], id: str) -> bool:
    """Registers a spec, and says whether that could be done."""
    with contextlib.suppress(Exception):  # it may need a module that is not to be found here
        gym.registry[id] = pickling.loads(packed[id])
        return True
    return False


# Warnings

_known: set[Key] = set()
_listed: tuple[float, frozenset[Key]] = (-HOLDS_S, frozenset())
_show: Any = None


def shown_warnings() -> frozenset[Key]:
    """The warnings that this process has shown, and those noted from others."""
    global _listed
    now_s = time.monotonic()
    if now_s - _listed[0] < HOLDS_S:
        return _listed[1]
    found = set(_known)
    for module in list(sys.modules.values()):
        registry = getattr(module, "__dict__", {}).get("__warningregistry__")
        # Beside the warnings a registry holds its version.
        keys = [key for key in list(registry or ()) if isinstance(key, tuple) and len(key) == 3]
        found.update((str(text), category.__name__, line) for text, category, line in keys)
    _listed = now_s, frozenset(found)
    return _listed[1]


def note_shown(warned: frozenset[Key]) -> None:
    """Notes warnings that another process has shown, for processes that are started later."""
    _known.update(warned)


def hide(warned: frozenset[Key]) -> None:
    """Keeps this process from repeating warnings that another one has shown."""
    global _show
    note_shown(warned)
    if warnings.showwarning is not _show_new:
        _show, warnings.showwarning = warnings.showwarning, _show_new


def _show_new(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows a warning unless it is known; stands in for `warnings.showwarning`."""
    key = (str(message), category.__name__, lineno)
    if key not in _known:
        _known.add(key)
        _show(message, category, filename, lineno, file, line)
