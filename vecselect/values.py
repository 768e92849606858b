"""Frozen dataclasses from the plain data that JSON gave: values only, nothing is executed."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from typing import Any

from vecselect.errors import PlanError

MOST = float(1 << 62)
"""No number in a document is as large."""


def read_document(wanted: Any, document: str | bytes | dict[str, Any]) -> Any:
    """A `Plan` or `Sweep` from the JSON document that it was written to, or that holds it.

    Raises `PlanError` if it is no such document, or one of another schema.
    """
    name = wanted.__name__.lower()
    try:
        data = document if isinstance(document, dict) else json.loads(document)
        if not isinstance(data, dict):
            raise TypeError("it is not an object")
        data = data[name] if isinstance(data.get(name), dict) else data
        if name == "plan" and "points" in data:
            raise TypeError("it is a sweep, which Sweep.from_json reads")
        schema = data.get("schema")
        if type(schema) is int and schema == wanted.schema:
            return rebuilt(wanted, data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PlanError(f"This is not a {name} of vecselect: {error}.") from error
    raise PlanError(
        f"The {name} has schema {schema!r:.40}; this version of vecselect reads {wanted.schema}. "
        f"{name.title()} again, or read it with the version that wrote it."
    )


def rebuilt(wanted: Any, data: Any) -> Any:
    """A dataclass, or a value of one of its fields, from what `dataclasses.asdict` gave of it.

    Raises `TypeError` if something is missing or of another type, `ValueError` if a number cannot
    have been measured.
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else rebuilt(arguments[0], data)
    if dataclasses.is_dataclass(wanted):
        hints = _hints(typing.cast("typing.Hashable", wanted))
        missing = hints.keys() - exactly(dict, data).keys()
        if missing:
            raise TypeError(f"{', '.join(sorted(missing))} is missing")
        return wanted(**{name: rebuilt(hint, data[name]) for name, hint in hints.items()})  # type: ignore[operator]
    if origin is tuple:
        return tuple(rebuilt(arguments[0], item) for item in exactly(list, data))
    if origin is dict:
        items = exactly(dict, data).items()
        return {str(key): rebuilt(arguments[1], value) for key, value in items}
    if wanted is float and type(data) is int:
        data = float(data)
    if wanted in (int, float) and not abs(exactly(wanted, data)) < MOST:  # nor is what is no number
        raise ValueError("a number is out of range")
    return exactly(wanted, data)


@functools.cache
def _hints(wanted: Any) -> dict[str, Any]:
    """The types of a dataclass's fields; finding them out compiles each of them."""
    return typing.get_type_hints(wanted)


def exactly(wanted: type, data: Any) -> Any:
    """The data itself, if it is of the type that JSON gives for it; else `TypeError`."""
    if type(data) is not wanted:
        shown = repr(data)[:40] if isinstance(data, (str, float, bool)) else type(data).__name__
        raise TypeError(f"{shown} stands where a {wanted.__name__} should")
    return data
