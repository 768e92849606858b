"""Values as bytes, for other processes and for disk."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def dumps(value: Any) -> bytes:
    """Pickles `value`; what `__main__` or a function defines travels by value."""
    from gymnasium.vector.utils import CloudpickleWrapper

    return pickle.dumps(CloudpickleWrapper(value), protocol=pickle.HIGHEST_PROTOCOL)


def dumps_importable(value: Any) -> bytes:
    """Pickles `value` faster, for a receiver that can import all it is made of.

    A worker that answers its parent is in that position; where it is not, since the parent's
    `__main__` came to it by value, so does the answer.
    """
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        return dumps(value)


def loads(data: bytes) -> Any:
    """The value that `dumps` or `dumps_importable` pickled."""
    from gymnasium.vector.utils import CloudpickleWrapper

    value = pickle.loads(data)
    return value.fn if isinstance(value, CloudpickleWrapper) else value


def why_unpicklable(functions: Sequence[Callable[[], Any]]) -> str | None:
    """One sentence if the functions cannot be sent to another process, else None."""
    try:
        dumps(tuple(functions))
    except Exception as error:  # pickling runs code of the user's objects: anything may come
        return f"the environment cannot be sent to another process ({error})"
    return None
