"""Where a mode can be forced, and which of the places wins."""

from __future__ import annotations

import contextlib
import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from gymnasium import VectorizeMode

from vecselect.backends.registry import find
from vecselect.errors import RequestError, unknown
from vecselect.request import Pin

if TYPE_CHECKING:
    from collections.abc import Iterator

AUTO = "auto"
VARIABLE = "VECSELECT_MODE"
NATIVE = VectorizeMode.VECTOR_ENTRY_POINT.value

_GYMNASIUM_MODES = {
    VectorizeMode.SYNC: "sync",
    VectorizeMode.ASYNC: "async",
    VectorizeMode.VECTOR_ENTRY_POINT: "native",
}

_pinned: ContextVar[str] = ContextVar("vecselect_pinned", default=AUTO)


@contextlib.contextmanager
def pinned(mode: str) -> Iterator[None]:
    """Pins every `auto_make_vec` inside the `with` block that names no mode itself.

    Args:
        mode: A mode, or `"auto"` to lift an outer `pinned`.

    Raises:
        RequestError: If there is no such mode.
    """
    _checked(mode, f"pinned({mode!r})")
    token = _pinned.set(mode)
    try:
        yield
    finally:
        _pinned.reset(token)


def read_pin(mode: Any, vectorization_mode: Any = None) -> Pin | None:
    """The pin that is in force: the argument, else `pinned()`, else `VECSELECT_MODE`.

    Args:
        mode: The `mode` argument, `"auto"` or None if none was meant. The third argument of
            `gymnasium.make_vec` stands in its place, so Gymnasium's modes are understood.
        vectorization_mode: The argument as `gymnasium.make_vec` takes it, or None.

    Returns:
        The strongest pin, or None where the choice is free.

    Raises:
        RequestError: If a mode does not exist, or the two arguments contradict each other.
    """
    said = mode.value if isinstance(mode, VectorizeMode) else mode
    mode = AUTO if said is None else "native" if said == NATIVE else said
    _checked(mode, f"mode={said!r}")
    if vectorization_mode is not None:
        try:
            same = _GYMNASIUM_MODES[VectorizeMode(vectorization_mode)]
        except ValueError:
            valid = [known.value for known in VectorizeMode]
            raise RequestError(unknown("vectorization_mode", vectorization_mode, valid)) from None
        if mode not in (AUTO, same):
            raise RequestError(
                f"mode={said!r} and vectorization_mode={vectorization_mode!r} contradict each "
                "other; leave one of them out."
            )
        return Pin(same, f"vectorization_mode={VectorizeMode(vectorization_mode).value!r}")
    places = (
        (mode, f"mode={said!r}"),
        (_pinned.get(), f"pinned({_pinned.get()!r})"),
        (os.environ.get(VARIABLE) or AUTO, f"{VARIABLE}={os.environ.get(VARIABLE)}"),
    )
    for chosen, source in places:
        if chosen != AUTO:
            _checked(chosen, source)
            return Pin(chosen, source)
    return None


def _checked(mode: Any, source: str) -> None:
    if not isinstance(mode, str):
        raise RequestError(f"{source}: a mode is named by a string, such as 'sync'.")
    if mode != AUTO:
        try:
            find(mode)
        except RequestError as error:
            raise RequestError(f"{source}: {error}") from None
