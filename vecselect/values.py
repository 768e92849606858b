"""Frozen dataclasses from the plain data that JSON gave: values only, nothing is executed."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from typing import TYPE_CHECKING, Any

from vecselect.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable


LARGEST = 1 << 63
"""Larger whole numbers count and measure nothing."""


def read_document(
    kind: Any, text: str, name: str, current: Callable[[dict[str, Any]], dict[str, Any]]
) -> Any:
    """A value of a dataclass from the JSON document that it was written to.

    Args:
        kind: The dataclass.
        text: The document.
        name: What errors call it.
        current: Gives the document in the form of today's schema, or raises PlanError.

    Raises:
        PlanError: If the text is no such document.
    """
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise TypeError("it is not an object")
        return rebuilt(kind, current(data))
    except PlanError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PlanError(f"This is not a {name} of vecselect: {error}.") from error


def rebuilt(kind: Any, data: Any) -> Any:
    """A value of a type from plain data.

    Args:
        kind: A dataclass, or a type as its fields have them.
        data: What `dataclasses.asdict` gave, after a trip through JSON.

    Raises:
        TypeError: If something is missing, of another type, or a number that is not finite.
        OverflowError: If a number is too large.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else rebuilt(arguments[0], data)
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast("typing.Hashable", kind))
        missing = hints.keys() - exactly(dict, data).keys()
        if missing:
            raise TypeError(f"{', '.join(sorted(missing))} is missing")
        return kind(**{name: rebuilt(hint, data[name]) for name, hint in hints.items()})  # type: ignore[operator]
    if origin is tuple:
        return tuple(rebuilt(arguments[0], item) for item in exactly(list, data))
    if origin is dict:
        items = exactly(dict, data).items()
        return {str(key): rebuilt(arguments[1], value) for key, value in items}
    if kind is float and type(data) in (int, float):
        number = float(data)
        if not math.isfinite(number):
            raise TypeError(f"{number} is no finite number")
        return number
    if kind is int and abs(exactly(int, data)) > LARGEST:
        raise TypeError("it holds a number that is too large")
    return exactly(kind, data)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def exactly(kind: type, data: Any) -> Any:
    """The data itself, if it is of the type that JSON gives for it.

    Raises:
        TypeError: If it is not.
    """
    if type(data) is not kind:
        raise TypeError(f"{data!r} stands where a {kind.__name__} should")
    return data
