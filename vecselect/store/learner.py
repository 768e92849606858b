"""What makes two learners the same one, in this process and in any later one.

What a learner does decides how long it takes, and not what it has learned so far. So its code is
told as an environment's is, down to what it closes over and the globals that it uses. Of the
objects on the way, a policy or an optimizer, count:

* the class,
* the numbers among the attributes: `A(0)` and `A(0.05)` may sleep that long,
* the shape, kind and device of arrays and tensors, but never their content: weights change with
  every update, and may live on another device. A wider layer is another learner, a trained one is
  not. A module of torch needs no rule of its own: its layers are attributes.

Not counted is what tells one run from another rather than one learner from another: texts that an
object holds (names of runs, folders), readings of the clock, collections that grow, generators. An
environment counts by its class, whatever it holds. What cannot be looked into counts by its class
too: a learner is never refused, since at the worst a plan is recalled that was made for a learner
much like it, and that is what real use corrects.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vecselect.store.code import name_of
from vecselect.store.identity import Walk, digest

if TYPE_CHECKING:
    import types
    from collections.abc import Mapping

MOST_VALUES = 5000
"""Values looked at; the many layers of a huge network after that count by their class. It bounds
what looking costs to tens of milliseconds."""

DEEPEST = 40
MOST_ITEMS = 32
"""A longer list or set grows, or is data: its kind counts."""

MOST_NAMES = 256
_COLLECTIONS = (tuple, list, set, frozenset, collections.deque)

CLOCK = 1e8
"""Floats beyond this are readings of a clock, or sums: no learner is told by them."""


def identify_learner(learner: Any) -> str:
    """A short text that is the same for the same learner; nothing of it is called.

    Args:
        learner: A callable.
    """
    kind = learner if hasattr(learner, "__qualname__") else type(learner)
    name = f"{getattr(kind, '__module__', '')}.{kind.__qualname__}"
    try:
        return f"{name} {digest(_LearnerWalk().whole(learner))[:16]}"
    except Exception:  # looking into it runs code of its own
        return name


class _LearnerWalk(Walk):
    """A walk that refuses nothing, and goes by the rule above."""

    def __init__(self) -> None:
        super().__init__()
        self.left = MOST_VALUES
        self.in_object = False

    def of(self, value: Any, place: str = "") -> Any:
        kind = type(value)
        if kind is str and self.in_object:
            return ["text"]
        if kind is float and abs(value) >= CLOCK:
            return ["clock"]
        if self.left <= 1 or len(self.above) >= DEEPEST:
            return ["more", name_of(kind)]
        depth, in_object = len(self.above), self.in_object
        try:
            return super().of(value, place)
        except Exception:
            del self.above[depth:], self.places[depth:]
            self.in_object = in_object
            return ["only", name_of(kind)]

    def _object(self, value: Any, kind: type) -> Any:
        if issubclass(kind, (gym.Env, gym.vector.VectorEnv)):
            return ["environment", name_of(kind)]
        if hasattr(kind, "shape") and hasattr(kind, "dtype"):
            device = str(getattr(value, "device", None))
            return ["array", name_of(kind), list(map(int, value.shape)), str(value.dtype), device]
        if isinstance(value, tuple):
            return ["object", self.of(kind), [self.of(item) for item in value]]
        told = self.of(kind)
        before, self.in_object = self.in_object, True
        content = self._dict(getattr(value, "__dict__", {}))
        self.in_object = before
        return ["object", told, content]

    def _array(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return self.of(value.item())
        return ["array", list(value.shape), value.dtype.str]

    def _plain(self, value: Any, kind: type) -> Any:
        if kind in (bytes, bytearray) and self.in_object:
            return [kind.__name__]
        if issubclass(kind, _COLLECTIONS) and len(value) > MOST_ITEMS:
            return [kind.__name__]
        return super()._plain(value, kind)

    def _dict(self, value: Mapping[Any, Any]) -> Any:
        # Keys that are no names are those of a table, such as an optimizer's state by parameter.
        if not value or len(value) > MOST_NAMES or not all(type(key) is str for key in value):
            return ["dict"]
        # By its hash: what is held in many places would be written out in each of them.
        return ["dict", digest({key: self.of(item, key) for key, item in value.items()})]

    def _function(self, function: types.FunctionType) -> Any:
        return self._with_texts(super()._function, function)

    def _class(self, cls: type) -> Any:
        return self._with_texts(super()._class, cls)

    def _with_texts(self, look: Any, value: Any) -> Any:
        """Looks at code, whose texts are part of what it does."""
        before, self.in_object = self.in_object, False
        found = look(value)
        self.in_object = before
        return found
